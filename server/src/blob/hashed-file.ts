// A file that is hashed while it is written. Chunks are gathered, so that a large content takes few trips to the thread pool; hash, writes
// and flushes to the disk go on at the same time, so that at the end little is left to wait for.
// Invariants: memory is bounded, whatever comes; when `end` has returned, all of it is on the disk.
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';

const gatheredBytes = 1024 * 1024;
const gatheredChunks = 512;
/** So much at a time is flushed while more is written. */
const flushedBytes = 8 * 1024 * 1024;

export class HashedFile {
  readonly #handle: FileHandle;
  readonly #hash: Hash;
  #gathered: Uint8Array[] = [];
  #waiting = 0;
  #asked: number;
  #written: number;
  #flushed: number;
  #writing: Promise<void> = Promise.resolve();
  #flushing: Promise<void> | undefined;
  /** The kernel tells of a failed flush only once. */
  #failure: { error: unknown } | undefined;

  /** Goes on at a position; the hash is that of what is before it. */
  constructor(handle: FileHandle, hash: Hash, position = 0) {
    this.#handle = handle;
    this.#hash = hash;
    this.#asked = this.#written = this.#flushed = position;
  }

  /** How much of it the file has, from its beginning. */
  get written(): number {
    return this.#written;
  }

  /** The chunk belongs to the file from now on. */
  async add(chunk: Uint8Array): Promise<void> {
    this.#gathered.push(chunk);
    this.#waiting += chunk.length;
    this.#hash.update(chunk);
    if (this.#waiting >= gatheredBytes || this.#gathered.length >= gatheredChunks) await this.#send();
  }

  /** Writes what is gathered, and waits until all of it is on the disk. */
  async end(): Promise<void> {
    await this.#send();
    await this.#writing;
    await this.#flushing;
    this.#check();
    await this.#handle.datasync();
  }

  /** One write is under way while the next is gathered. */
  async #send(): Promise<void> {
    await this.#writing;
    this.#check();
    const chunks = this.#gathered;
    const position = this.#asked;
    this.#asked += this.#waiting;
    this.#gathered = [];
    this.#waiting = 0;
    this.#writing = this.#write(chunks, position);
    this.#writing.catch(() => {}); // seen by who waits for it
  }

  async #write(chunks: Uint8Array[], position: number): Promise<void> {
    for (let left = chunks; left.length > 0; ) {
      const { bytesWritten } = await this.#handle.writev(left, position);
      position += bytesWritten;
      this.#written = position;
      left = after(left, bytesWritten);
    }
    if (this.#written - this.#flushed >= flushedBytes) this.#flushing ??= this.#flush();
  }

  async #flush(): Promise<void> {
    this.#flushed = this.#written;
    try {
      await this.#handle.datasync();
    } catch (error) {
      this.#failure = { error };
    } finally {
      this.#flushing = undefined;
    }
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error;
  }
}

/** One write may take less than it was given. */
function after(chunks: Uint8Array[], bytes: number): Uint8Array[] {
  let skip = bytes;
  for (const [at, chunk] of chunks.entries()) {
    if (skip < chunk.length) return [chunk.subarray(skip), ...chunks.slice(at + 1)];
    skip -= chunk.length;
  }
  return [];
}
