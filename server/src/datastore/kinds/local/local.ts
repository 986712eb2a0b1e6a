// A datastore in a folder of the server's machine.
// What is being written, and what is being deleted, lies in a folder of its own beside the files, so that one rename makes it seen or gone.
import { constants, type Stats } from 'node:fs';
import { copyFile, link, lstat, mkdir, open, rename, rm, rmdir, unlink, writeFile } from 'node:fs/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Content, DatastoreDriver, OpenedFile, StoredFile, Written } from '../../driver.ts';
import { Folder, whereAbsent } from './folder.ts';

/** Nothing in it is a file of the datastore. */
const reserved = '.stellwerk-partial';

export class LocalDatastore implements DatastoreDriver {
  readonly kind = 'local';
  readonly #root: string;
  #ready: Promise<void> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #temporaries = 0;

  /** One process at a time uses a folder. */
  constructor(root: string) {
    this.#root = root;
  }

  async *list(prefix: string, after: string): AsyncGenerator<StoredFile> {
    await this.#prepare();
    if (prefix === '') {
      await using root = await Folder.root(this.#root);
      return yield* this.#below(root, '', after);
    }
    await using place = await this.#place(prefix, 'enter');
    if (!place) return;
    const file = await statOf(place.folder, place.name, prefix);
    if (file && prefix > after) yield file;
    await using folder = file ? undefined : await place.folder.enter(place.name);
    if (folder) yield* this.#below(folder, `${prefix}/`, after);
  }

  async *#below(folder: Folder, path: string, after: string): AsyncGenerator<StoredFile> {
    const entries = (await folder.entries())
      .filter(({ name }) => path !== '' || name !== reserved)
      .map(({ name, folder: isFolder }) => ({ name, key: `${path}${name}${isFolder ? '/' : ''}`, isFolder }))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    for (const { name, key, isFolder } of entries) {
      if (key <= after && !(isFolder && after.startsWith(key))) continue; // nor anything below it
      if (isFolder) {
        await using inner = await folder.enter(name);
        if (inner) yield* this.#below(inner, key, after);
      } else {
        const file = await statOf(folder, name, key);
        if (file) yield file;
      }
    }
  }

  async open(path: string): Promise<OpenedFile | undefined> {
    await this.#prepare();
    await using place = await this.#place(path, 'enter');
    const handle = await place?.folder.openFile(place.name);
    if (!handle) return undefined;
    const stats = await handle.stat();
    return {
      ...described(path, stats),
      etag: `${stats.ino}-${stats.mtimeMs}-${stats.size}`,
      read: ({ start, end }) => handle.createReadStream({ start, end: end - 1 }),
      close: () => handle.close(),
    };
  }

  async write(path: string, content: Content, overwrite: boolean): Promise<Written> {
    await this.#prepare();
    await using temporary = await this.#temporary();
    const file = await worldly(fill(temporary.path, content));
    await using place = await this.#inTurn(() => this.#put(temporary.path, path, overwrite));
    if (!place) return 'taken';
    await worldly(place.folder.sync());
    return described(path, file);
  }

  /** The place that was taken; undefined if there is something that must stay. */
  async #put(from: string, path: string, overwrite: boolean): Promise<Place | undefined> {
    const place = await this.#place(path, 'make');
    if (!place) return undefined;
    try {
      const to = place.folder.at(place.name);
      if (overwrite) await rename(from, to);
      else await link(from, to).then(() => unlink(from)); // unlike rename, refused if there is something
      return place;
    } catch (error) {
      await place[Symbol.asyncDispose]();
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST' || code === 'EISDIR' || code === 'ENOTEMPTY') return undefined;
      throw error;
    }
  }

  async delete(path: string): Promise<number> {
    await this.#prepare();
    await using temporary = await this.#temporary();
    const kind = await this.#inTurn(() => this.#takeAway(path, temporary.path));
    if (kind === 'file') return 1;
    if (kind !== 'folder') return 0;
    await using folder = await Folder.root(temporary.path);
    return await countFiles(folder); // awaited here: the folder is closed with this function
  }

  /** Folders are made and removed one at a time, so that none vanishes while a file is put into it. */
  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(() => worldly(action()));
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** Gone with one rename, whatever is below; then the folders above it, as far as nothing else is in them. */
  async #takeAway(path: string, to: string): Promise<'file' | 'folder' | undefined> {
    await using place = await this.#place(path, 'enter');
    const kind = await place?.folder.kindOf(place.name);
    if (!place || kind === undefined || kind === 'other') return undefined;
    await rename(place.folder.at(place.name), to);
    await place.folder.sync();
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      await using above = await this.#place(path.slice(0, end), 'enter');
      if (!above || !(await removedEmpty(above))) break;
    }
    return kind;
  }

  async destroy(): Promise<void> {
    await rm(this.#root, { recursive: true, force: true });
    this.#ready = undefined;
  }

  /** Makes the folder, and removes what an earlier process left unfinished in it. */
  #prepare(): Promise<void> {
    this.#ready ??= worldly(
      (async () => {
        await mkdir(this.#root, { recursive: true, mode: 0o700 });
        await using root = await Folder.root(this.#root);
        await rm(root.at(reserved), { recursive: true, force: true });
      })(),
    ).catch((error: unknown) => {
      this.#ready = undefined;
      throw error;
    });
    return this.#ready;
  }

  /** A name of its own among what is unfinished. Whatever has it in the end is removed. */
  async #temporary(): Promise<AsyncDisposable & { path: string }> {
    const root = await Folder.root(this.#root);
    const folder = await root.make(reserved).finally(() => root[Symbol.asyncDispose]());
    if (!folder)
      throw new TargetError('never', `Something that is not a folder has the name ${reserved} in the datastore.`);
    const path = folder.at(`${++this.#temporaries}`);
    return {
      path,
      [Symbol.asyncDispose]: async () => {
        await rm(path, { recursive: true, force: true });
        await folder[Symbol.asyncDispose]();
      },
    };
  }

  /** The folder that a path lies in; undefined if there is none, or no folder can be there. */
  async #place(path: string, step: 'enter' | 'make'): Promise<Place | undefined> {
    const parts = path.split('/');
    const name = parts.pop()!;
    if ((parts[0] ?? name) === reserved) return undefined;
    let folder = await Folder.root(this.#root);
    for (const part of parts) {
      const next = await folder[step](part).finally(() => folder[Symbol.asyncDispose]());
      if (!next) return undefined;
      folder = next;
    }
    return { folder, name, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
  }
}

interface Place extends AsyncDisposable {
  folder: Folder;
  name: string;
}

function described(path: string, stats: Stats): StoredFile {
  return { path, sizeBytes: stats.size, modifiedAt: stats.mtime.toISOString() };
}

async function statOf(folder: Folder, name: string, path: string): Promise<StoredFile | undefined> {
  const stats = await lstat(folder.at(name)).catch(whereAbsent);
  return stats?.isFile() ? described(path, stats) : undefined;
}

/** Blocks are shared or copied by the kernel where the content is a file. */
async function fill(path: string, content: Content): Promise<Stats> {
  if (content.file === undefined) await writeFile(path, content.open(), { flag: 'wx' });
  else await copyFile(content.file, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  const handle = await open(path, 'r');
  try {
    await handle.chmod(0o600);
    await handle.sync();
    return await handle.stat();
  } finally {
    await handle.close();
  }
}

function removedEmpty({ folder, name }: Place): Promise<boolean> {
  return rmdir(folder.at(name)).then(
    () => true,
    () => false,
  );
}

async function countFiles(folder: Folder): Promise<number> {
  let files = 0;
  for (const entry of await folder.entries()) {
    await using inner = entry.folder ? await folder.enter(entry.name) : undefined;
    files += inner ? await countFiles(inner) : Number(!entry.folder);
  }
  return files;
}

const reasons: Record<string, [TargetError['retry'], string]> = {
  ENOSPC: ['later', 'the disk is full'],
  EDQUOT: ['later', 'the quota is used up'],
  EACCES: ['never', 'the server may not write there'],
  EPERM: ['never', 'the server may not write there'],
  EROFS: ['never', 'the file system is read-only'],
  ENOENT: ['now', 'somebody else has moved it meanwhile'],
  EIO: ['later', 'the disk has failed'],
};

function asTargetError(error: NodeJS.ErrnoException): Error {
  const [retry, why] = reasons[error.code ?? ''] ?? [];
  return retry ? new TargetError(retry, `The folder of the datastore cannot be used: ${why}.`) : error;
}

function worldly<T>(action: Promise<T>): Promise<T> {
  return action.catch((error: NodeJS.ErrnoException) => {
    throw asTargetError(error);
  });
}
