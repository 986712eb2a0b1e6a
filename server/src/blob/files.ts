// Content-addressed bytes in a folder: `<folder>/sha256/<first two digits>/<digest>`, read-only files.
// Invariants: a file under its final name is whole, on the disk, and has that digest; what was cut off lies in `partial/`
// under a name of its own until the next start, and is never read. A content is removed only while nobody brings it: who brings it
// meanwhile waits, and what has just arrived stays until it is written down whose it is (`arrivals`).
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, rmSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Bytes, Digest, Stored } from './bytes.ts';
import { HashedFile } from './hashed-file.ts';

const chunkBytes = 512 * 1024;

/** What arrives within such a scope cannot be removed before the scope ends. */
export interface Arrivals extends Disposable {
  write(source: AsyncIterable<Uint8Array>, expected?: Digest): Promise<Stored>;
  /** Makes a whole, checked file on the same file system the content of this digest. The file is gone afterwards. */
  take(file: string, digest: Digest): Promise<void>;
}

export class FileBytes implements Bytes {
  readonly #folder: string;
  readonly #partial: string;
  readonly #arriving = new Map<Digest, number>();
  readonly #removing = new Map<Digest, Promise<void>>();
  #writes = 0;
  #holds = 0;
  #released = Promise.withResolvers<void>();

  /** One process at a time uses a folder: what an earlier one left unfinished is removed. */
  constructor(folder: string) {
    this.#folder = join(folder, 'sha256');
    this.#partial = join(folder, 'partial');
    rmSync(this.#partial, { recursive: true, force: true });
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    mkdirSync(this.#partial, { recursive: true, mode: 0o700 });
  }

  /** For who writes down whose the contents are: in a transaction that is over before the scope ends. */
  arrivals(): Arrivals {
    const here = new Set<Digest>();
    return {
      write: (source, expected) => this.#write(source, expected, here),
      take: (file, digest) => this.#take(file, digest, here),
      [Symbol.dispose]: () => {
        for (const digest of here) this.#let(digest);
        here.clear();
      },
    };
  }

  /** Without a scope: whoever removes what belongs to nobody may take it at once. */
  async write(source: AsyncIterable<Uint8Array>, expected?: Digest): Promise<Stored> {
    using arrivals = this.arrivals();
    return await arrivals.write(source, expected);
  }

  async #write(source: AsyncIterable<Uint8Array>, expected: Digest | undefined, here: Set<Digest>): Promise<Stored> {
    const file = join(this.#partial, `${++this.#writes}`);
    try {
      const handle = await open(file, 'wx', 0o444);
      let stored: Stored;
      try {
        stored = await copyHashed(source, handle);
        if (expected !== undefined && stored.digest !== expected) throw mismatch(expected, stored.digest);
      } finally {
        await handle.close();
      }
      await this.#place(file, stored.digest, here);
      return stored;
    } catch (error) {
      await unlink(file).catch(() => {});
      throw error;
    }
  }

  async #take(file: string, digest: Digest, here: Set<Digest>): Promise<void> {
    const handle = await open(file, 'r+');
    try {
      await handle.chmod(0o444);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await this.#place(file, digest, here);
  }

  async #place(file: string, digest: Digest, here: Set<Digest>): Promise<void> {
    const path = this.path(digest);
    for (let removing = this.#removing.get(digest); removing; removing = this.#removing.get(digest)) await removing;
    if (!here.has(digest)) this.#arriving.set(digest, (this.#arriving.get(digest) ?? 0) + 1);
    here.add(digest);
    try {
      await rename(file, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await syncFolder(this.#folder);
      await rename(file, path);
    }
    await syncFolder(dirname(path));
  }

  #let(digest: Digest): void {
    const others = this.#arriving.get(digest)! - 1;
    if (others > 0) this.#arriving.set(digest, others);
    else this.#arriving.delete(digest);
  }

  /**
   * Removes contents. `release` is asked which of them may go, and writes down that they are gone: it is told none that arrives just
   * now, and whoever brings one of the others waits until it is decided. Returns what was removed.
   */
  async remove(digests: readonly Digest[], release: (free: Digest[]) => Promise<readonly Digest[]>): Promise<Stored[]> {
    while (this.#holds > 0) await this.#released.promise;
    const free = digests.filter((digest) => !this.#arriving.has(digest) && !this.#removing.has(digest));
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const digest of free) this.#removing.set(digest, promise);
    try {
      const removed: Stored[] = [];
      for (const digest of await release(free)) {
        if (this.#holds > 0) break; // its rows may be in the copy that is made: the next collection finds it without an owner
        const sizeBytes = await this.sizeOf(digest).catch(() => 0); // an earlier one was killed after it had removed the file
        await unlink(this.path(digest)).catch(ignoreMissing);
        removed.push({ digest, sizeBytes });
      }
      return removed;
    } finally {
      for (const digest of free) this.#removing.delete(digest);
      resolve();
    }
  }

  /** What lies in the folder, a few thousand at a time. */
  async *all(): AsyncGenerator<Digest[]> {
    for (const name of await readdir(this.#folder)) {
      const files = await readdir(join(this.#folder, name)).catch(() => []);
      for (let at = 0; at < files.length; at += 2_000)
        yield files.slice(at, at + 2_000).map((hex): Digest => `sha256:${hex}`);
    }
  }

  read(digest: Digest, range?: { start: number; end: number }): Readable {
    if (range && range.end <= range.start) return Readable.from([]);
    const part = range && { start: range.start, end: range.end - 1 };
    return createReadStream(this.path(digest), { highWaterMark: chunkBytes, ...part });
  }

  async has(digest: Digest): Promise<boolean> {
    return (await stat(this.path(digest)).catch(() => undefined)) !== undefined;
  }

  async sizeOf(digest: Digest): Promise<number> {
    return (await stat(this.path(digest))).size;
  }

  /** While any is held, no content is removed: whoever copies contents needs all that there were when it began. */
  holdRemovals(): Disposable {
    this.#holds++;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        if (--this.#holds > 0) return;
        this.#released.resolve();
        this.#released = Promise.withResolvers();
      },
    };
  }

  path(digest: Digest): string {
    const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
    if (hex === undefined) throw new TypeError(`${JSON.stringify(digest)} is no digest.`);
    return join(this.#folder, hex.slice(0, 2), hex);
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}

export function mismatch(expected: string, found: string): ServiceError {
  return new ServiceError(
    'conflict',
    'blob.digest-mismatch',
    `The bytes that arrived have the digest ${found}, where ${expected} was announced. They were not kept.`,
  );
}

async function copyHashed(source: AsyncIterable<Uint8Array>, handle: FileHandle): Promise<Stored> {
  const hash = createHash('sha256');
  const file = new HashedFile(handle, hash);
  for await (const chunk of source) await file.add(chunk);
  await file.end();
  return { digest: `sha256:${hash.digest('hex')}`, sizeBytes: file.written };
}

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  await handle.sync().finally(() => handle.close());
}
