// Writes a tar that depends on nothing but its entries: sorted, times and owners zero, plain permission bits.
// One pass: the content of every file is read once, straight into the chunk that is handed on.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { ServiceError } from '@stellwerk/contract/errors.ts';
import { type LayerEntry, refused, sorted } from './layer-entry.ts';
import { blockBytes, headerBlocks, type Member, paddingOf } from './tar-header.ts';

const chunkBytes = 1024 * 1024;
/** Up to this size a synchronous read costs less than the four trips through the thread pool of an asynchronous one. */
const smallFileBytes = 256 * 1024;
const readOnly = constants.O_RDONLY | constants.O_NOFOLLOW;

/** The tar of these entries, in chunks of about 1 MiB. Fails if a file changes its size while it is read. */
export async function* writeTar(entries: Iterable<LayerEntry>, signal?: AbortSignal): AsyncGenerator<Buffer> {
  const chunk = new Chunk();
  for (const entry of sorted(entries)) {
    signal?.throwIfAborted();
    const source = entry.source;
    if ('file' in source) yield* writeFile(chunk, entry, source.file, signal);
    else if ('bytes' in source) yield* writeBytes(chunk, entry, Buffer.from(source.bytes));
    else yield* chunk.add(headerBlocks(memberOf(entry, 0)));
  }
  yield* chunk.add(Buffer.alloc(2 * blockBytes));
  yield chunk.take();
}

function memberOf(entry: LayerEntry, sizeBytes: number): Member {
  const source = entry.source;
  if ('symlink' in source)
    return { path: entry.path, type: 'symlink', mode: 0o777, sizeBytes, linkTarget: source.symlink };
  const type = 'directory' in source ? 'directory' : 'file';
  return { path: entry.path, type, mode: entry.mode, sizeBytes, linkTarget: '' };
}

function* writeBytes(chunk: Chunk, entry: LayerEntry, bytes: Buffer): Generator<Buffer> {
  yield* chunk.add(headerBlocks(memberOf(entry, bytes.length)));
  yield* chunk.add(bytes);
  yield* chunk.add(Buffer.alloc(paddingOf(bytes.length)));
}

async function* writeFile(chunk: Chunk, entry: LayerEntry, file: string, signal?: AbortSignal): AsyncGenerator<Buffer> {
  const small = readSmall(file);
  if (small) return yield* writeBytes(chunk, entry, small);
  const handle = await open(file, readOnly);
  try {
    const { size } = await handle.stat();
    yield* chunk.add(headerBlocks(memberOf(entry, size)));
    yield* writeLarge(chunk, handle, file, size, signal);
    yield* chunk.add(Buffer.alloc(paddingOf(size)));
  } finally {
    await handle.close();
  }
}

async function* writeLarge(chunk: Chunk, handle: FileHandle, file: string, sizeBytes: number, signal?: AbortSignal) {
  for (let at = 0; at < sizeBytes; ) {
    signal?.throwIfAborted();
    const { bytesRead } = await handle.read(chunk.free().subarray(0, sizeBytes - at), 0, null, at);
    if (bytesRead === 0) throw changed(file);
    at += bytesRead;
    yield* chunk.filled(bytesRead);
  }
  if ((await handle.stat()).size !== sizeBytes) throw changed(file);
}

/** The whole content of a small file; undefined if it is a large one. */
function readSmall(file: string): Buffer | undefined {
  const fd = openSync(file, readOnly | constants.O_NONBLOCK);
  try {
    const { size, ...stat } = statOf(fd);
    if (!stat.isFile) throw refused(`${file} is no regular file and cannot become part of a layer.`);
    if (size > smallFileBytes) return undefined;
    const bytes = Buffer.allocUnsafe(size + 1);
    const read = readSync(fd, bytes, 0, size + 1, 0);
    if (read !== size) throw changed(file);
    return bytes.subarray(0, size);
  } finally {
    closeSync(fd);
  }
}

function statOf(fd: number): { size: number; isFile: boolean } {
  const stat = fstatSync(fd);
  return { size: stat.size, isFile: stat.isFile() };
}

function changed(file: string): ServiceError {
  return refused(`${file} changed while it was read into a layer. Let it rest, then build again.`);
}

/** Collects bytes into chunks of one size, so that ten thousand small files do not become ten thousand writes. */
class Chunk {
  #buffer = Buffer.allocUnsafeSlow(chunkBytes);
  #used = 0;

  free(): Buffer {
    return this.#buffer.subarray(this.#used);
  }

  /** Tells that so many bytes were put at the start of `free()`. */
  *filled(bytes: number): Generator<Buffer> {
    this.#used += bytes;
    if (this.#used === chunkBytes) yield this.take();
  }

  *add(bytes: Buffer): Generator<Buffer> {
    for (let at = 0; at < bytes.length; ) {
      const copied = bytes.copy(this.free(), 0, at);
      at += copied;
      yield* this.filled(copied);
    }
  }

  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#used);
    this.#buffer = Buffer.allocUnsafeSlow(chunkBytes);
    this.#used = 0;
    return taken;
  }
}
