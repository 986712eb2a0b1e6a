// Writes a stack of layers to the disk as the root filesystem of an image, as an ordinary user: owners are ignored, devices
// left out, permission bits kept as far as the owner can still read and write.
// Every layer's files are written once, below `layers/`; roots are made of hard links to them. So nobody may write into a
// root: whoever runs something from it mounts it read-only.
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  linkSync,
  mkdirSync,
  openSync,
  readSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type FileNode, FileTree, type FolderNode } from './file-tree.ts';
import { refused } from './layer-entry.ts';
import { type TarMember, tarMembers } from './tar-read.ts';

/** A layer as a file: an uncompressed tar, and the name that its unpacked files are kept under. */
export interface LayerFile {
  name: string;
  tar: string;
}

/** In UTF-16 units, of which each can be three bytes; Linux takes 4,095 bytes. */
const pathLimit = 1_300;
/** What one operation on the filesystem weighs, as if it wrote so many bytes. */
const operationBytes = 16 * 1024;

export interface UnpackOptions {
  /** Where the files of layers are kept for all roots. */
  layersDir: string;
  sizeLimitBytes: number;
  signal?: AbortSignal | undefined;
}

/** Unpacks into `rootDir`, an empty folder on the same filesystem as `layersDir`. */
export async function unpackLayers(
  layers: readonly LayerFile[],
  rootDir: string,
  options: UnpackOptions,
): Promise<FileTree> {
  const tree = new FileTree();
  let left = options.sizeLimitBytes;
  for (const [at, layer] of layers.entries()) {
    const members = await contentsOf(layer, options.signal);
    for (const member of members) left -= member.sizeBytes;
    if (left < 0) throw refused(`The image unpacks to more than ${options.sizeLimitBytes.toLocaleString('en')} bytes.`);
    tree.apply(at, members);
    await keepFiles(layer, members, options);
  }
  const filesOf = layers.map((layer) => join(options.layersDir, layer.name));
  await writeFolder(tree.root, rootDir, filesOf, new Rest(options.signal));
  return tree;
}

/** The file tree of a stack of layers, without writing anything; fails where unpacking would. */
export async function treeOf(tars: readonly string[], signal?: AbortSignal): Promise<FileTree> {
  const tree = new FileTree();
  for (const [at, tar] of tars.entries()) tree.apply(at, await contentsOf({ name: '', tar }, signal));
  return tree;
}

async function contentsOf(layer: LayerFile, signal?: AbortSignal): Promise<TarMember[]> {
  const members: TarMember[] = [];
  for await (const member of tarMembers(layer.tar, signal)) members.push(member);
  return members;
}

/** Writes the regular files of a layer to `<layersDir>/<name>/<ordinal>`, if another image has not had that done before. */
async function keepFiles(layer: LayerFile, members: readonly TarMember[], options: UnpackOptions): Promise<void> {
  const target = join(options.layersDir, layer.name);
  if (await exists(target)) return;
  await mkdir(options.layersDir, { recursive: true });
  const partial = await mkdtemp(join(options.layersDir, '.partial-'));
  const tar = openSync(layer.tar, 'r');
  try {
    const copier = new Copier(tar, new Rest(options.signal));
    for (const [ordinal, member] of members.entries()) {
      if (member.type === 'file') await copier.copy(member, join(partial, String(ordinal)));
    }
    await publish(partial, target);
  } finally {
    closeSync(tar);
    await rm(partial, { recursive: true, force: true });
  }
}

/** Renames a finished folder to its name. Where another was quicker, that one stays: both hold the same. */
export async function publish(partial: string, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  try {
    await rename(partial, target);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** Copies pieces of one file into files of their own. */
class Copier {
  readonly #from: number;
  readonly #rest: Rest;
  readonly #buffer = Buffer.allocUnsafeSlow(1024 * 1024);

  constructor(from: number, rest: Rest) {
    this.#from = from;
    this.#rest = rest;
  }

  async copy(member: TarMember, to: string): Promise<void> {
    const fd = openSync(to, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      for (let at = 0; at < member.sizeBytes; ) {
        const wanted = Math.min(this.#buffer.length, member.sizeBytes - at);
        const read = readSync(this.#from, this.#buffer, 0, wanted, member.offset + at);
        if (read === 0) throw refused('The layer ends in the middle of a member.');
        for (let written = 0; written < read; ) written += writeSync(fd, this.#buffer, written, read - written);
        at += read;
        await this.#rest.after(read);
      }
      fchmodSync(fd, (member.mode & 0o777) | 0o600);
    } finally {
      closeSync(fd);
    }
    await this.#rest.after(operationBytes);
  }
}

/** Synchronously, with rests: a link costs a tenth of what its way through the thread pool would. */
async function writeFolder(folder: FolderNode, dir: string, filesOf: readonly string[], rest: Rest): Promise<void> {
  for (const [name, node] of folder.children) {
    const path = join(dir, name);
    if (path.length > pathLimit) throw refused('The image has folders nested more deeply than a path can name.');
    await rest.after(operationBytes);
    if (node.kind === 'symlink') symlinkSync(node.target, path);
    else if (node.kind === 'file') place(join(filesOf[node.layer]!, String(node.ordinal)), path, node);
    else {
      mkdirSync(path);
      await writeFolder(node, path, filesOf, rest);
    }
  }
  chmodSync(dir, folder.mode);
}

/** A hard link, or a copy where the filesystem has no more links to give. */
function place(kept: string, path: string, node: FileNode): void {
  try {
    linkSync(kept, path);
  } catch (error) {
    if (!['EMLINK', 'EPERM', 'ENOTSUP'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    copyFileSync(kept, path);
    chmodSync(path, node.mode);
  }
}

/** Lets others work after so much work, measured in bytes written; stops where the work was canceled. */
class Rest {
  readonly #signal: AbortSignal | undefined;
  #bytes = 0;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
  }

  async after(bytes: number): Promise<void> {
    this.#bytes += bytes;
    if (this.#bytes < 4 * 1024 * 1024) return;
    this.#bytes = 0;
    await new Promise((resolve) => setImmediate(resolve));
    this.#signal?.throwIfAborted();
  }
}

export async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
