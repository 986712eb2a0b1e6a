// A folder held open, and what lies directly in it: each step into it is taken from the open folder itself and never through a
// link, so that nothing outside is reached even while somebody exchanges folders for links. Where the system has no
// /proc/self/fd, each step is checked just before it is taken instead.
import { constants, existsSync } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';

const stepsFromOpenFolders = existsSync('/proc/self/fd');
const openFolder = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

export class Folder implements AsyncDisposable {
  readonly #handle: FileHandle;
  readonly #path: string;

  private constructor(handle: FileHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
  }

  /** The root is trusted: it may be reached through links. */
  static async root(path: string): Promise<Folder> {
    return new Folder(await open(path, constants.O_RDONLY | constants.O_DIRECTORY), path);
  }

  /** The path of an entry, good as long as this folder is open. */
  at(name: string): string {
    return stepsFromOpenFolders ? `/proc/self/fd/${this.#handle.fd}/${name}` : join(this.#path, name);
  }

  /** The folder of that name; undefined if there is none. */
  async enter(name: string): Promise<Folder | undefined> {
    const handle = await open(this.at(name), openFolder).catch(whereAbsent);
    return handle && new Folder(handle, join(this.#path, name));
  }

  /** The folder of that name, made if there is none; undefined if something else has the name. */
  async make(name: string): Promise<Folder | undefined> {
    const found = await this.enter(name);
    if (found) return found;
    const made = await mkdir(this.at(name), { mode: 0o700 }).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return false;
        throw error;
      },
    );
    if (made) await this.sync();
    return this.enter(name);
  }

  /** A plain file, opened for reading; undefined if there is none. Pipes and devices are never waited for. */
  async openFile(name: string): Promise<FileHandle | undefined> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    if ((await this.kindOf(name)) !== 'file') return undefined;
    const handle = await open(this.at(name), flags).catch(whereAbsent);
    if (handle === undefined || (await handle.stat()).isFile()) return handle;
    await handle.close();
    return undefined;
  }

  async kindOf(name: string): Promise<'file' | 'folder' | 'other' | undefined> {
    const found = await lstat(this.at(name)).catch(whereAbsent);
    if (!found) return undefined;
    return found.isFile() ? 'file' : found.isDirectory() ? 'folder' : 'other';
  }

  /** Plain files and folders; what else lies there is not part of a datastore. */
  async entries(): Promise<{ name: string; folder: boolean }[]> {
    const found = await readdir(this.at('.'), { withFileTypes: true });
    return found
      .filter((entry) => entry.isFile() || entry.isDirectory())
      .map((entry) => ({ name: entry.name, folder: entry.isDirectory() }));
  }

  sync(): Promise<void> {
    return this.#handle.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** No such entry, a link where none is followed, or a file where a folder would have to be. */
export function whereAbsent(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ELOOP' || error.code === 'ENOTDIR' || error.code === 'ENXIO')
    return undefined;
  throw error;
}
