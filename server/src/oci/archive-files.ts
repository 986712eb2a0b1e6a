// The files of an image that lies on this machine, by name: in a folder, or in a tar (compressed or not).
// Invariants: a name cannot lead out of the folder or the tar, not through links either; only regular files are read.
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, open, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { decompressed, isCompressed } from './decompress.ts';
import { FileTree } from './file-tree.ts';
import { checkPath } from './layer-entry.ts';
import { documentLimitBytes, invalidImage } from './manifest.ts';
import { type TarMember, tarMembers } from './tar-read.ts';

export interface ArchiveFiles extends AsyncDisposable {
  sizeOf(name: string): Promise<number | undefined>;
  /** The content of a file that `sizeOf` found. */
  read(name: string): AsyncIterable<Uint8Array>;
  hasFolder(name: string): boolean;
  /** The archive itself, unpacked, if it is a tar. */
  tar?(): AsyncIterable<Uint8Array>;
}

/** Opens a folder or a tar; a compressed tar is unpacked into `workDir` for as long as it is open. */
export async function openArchive(path: string, workDir: string, signal?: AbortSignal): Promise<ArchiveFiles> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw invalidImage('There is nothing at the path of the image.');
  if (found.isDirectory()) return new Folder(await realpath(path));
  const start = await startOf(path);
  if (!isCompressed(start)) return await Tar.open(path, signal);
  await mkdir(workDir, { recursive: true });
  const passing = await mkdtemp(join(workDir, '.archive-'));
  const remove = () => rm(passing, { recursive: true, force: true });
  try {
    const file = join(passing, 'archive.tar');
    await writeFile(file, decompressed(createReadStream(path)), { ...(signal ? { signal } : {}) });
    return await Tar.open(file, signal, remove);
  } catch (error) {
    await remove();
    throw error;
  }
}

/** A document of the archive, which is refused if it is not there or too large to be one. */
export async function readDocument(files: ArchiveFiles, name: string): Promise<Buffer> {
  const document = await readDocumentIfThere(files, name);
  if (!document) throw invalidImage(`The image's archive lacks the file "${name}".`);
  return document;
}

export async function readDocumentIfThere(files: ArchiveFiles, name: string): Promise<Buffer | undefined> {
  const sizeBytes = await files.sizeOf(name);
  if (sizeBytes === undefined) return undefined;
  if (sizeBytes > documentLimitBytes)
    throw invalidImage(`The file "${name}" of the image's archive is larger than 4 MiB.`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of files.read(name)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function startOf(path: string): Promise<Buffer> {
  const handle = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

class Folder implements ArchiveFiles {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async sizeOf(name: string): Promise<number | undefined> {
    checkPath(name);
    const path = await realpath(join(this.#dir, name)).catch(() => undefined);
    if (path === undefined) return undefined;
    if (!path.startsWith(this.#dir + sep))
      throw invalidImage(`The file "${name}" of the image's folder lies outside of it.`);
    const found = await stat(path);
    return found.isFile() ? found.size : undefined;
  }

  async *read(name: string): AsyncGenerator<Uint8Array> {
    await this.sizeOf(name);
    yield* createReadStream(await realpath(join(this.#dir, name)), { highWaterMark: 1024 * 1024 });
  }

  hasFolder(): boolean {
    return false; // only root filesystems are looked at for folders, and those come as tars
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

class Tar implements ArchiveFiles {
  readonly #path: string;
  readonly #tree: FileTree;
  readonly #close: () => Promise<void>;

  private constructor(path: string, tree: FileTree, close: () => Promise<void>) {
    this.#path = path;
    this.#tree = tree;
    this.#close = close;
  }

  static async open(path: string, signal?: AbortSignal, close = async () => {}): Promise<Tar> {
    const members: TarMember[] = [];
    for await (const member of tarMembers(path, signal)) members.push(member);
    const tree = new FileTree();
    tree.apply(0, members);
    return new Tar(path, tree, close);
  }

  async sizeOf(name: string): Promise<number | undefined> {
    return this.#find(name)?.sizeBytes;
  }

  async *read(name: string): AsyncGenerator<Uint8Array> {
    const node = this.#find(name);
    if (!node) throw invalidImage(`The image's archive lacks the file "${name}".`);
    if (node.sizeBytes === 0) return;
    const { offset, sizeBytes } = node;
    yield* createReadStream(this.#path, { start: offset, end: offset + sizeBytes - 1, highWaterMark: 1024 * 1024 });
  }

  hasFolder(name: string): boolean {
    return this.#tree.find(name)?.kind === 'directory';
  }

  tar(): AsyncIterable<Uint8Array> {
    return createReadStream(this.#path, { highWaterMark: 1024 * 1024 });
  }

  #find(name: string) {
    checkPath(name);
    const node = this.#tree.find(name);
    return node?.kind === 'file' ? node : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}
