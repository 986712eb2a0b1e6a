// Content-addressed bytes in a folder: `<folder>/sha256/<first two digits>/<digest>`, read-only files.
// Invariants: a file under its final name is whole, on the disk, and has that digest; what was cut off lies in `partial/`
// under a name of its own until the next start, and is never read.
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, rmSync } from 'node:fs';
import { type FileHandle, mkdir, open, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Bytes, Digest, Stored } from './bytes.ts';

export class FileBytes implements Bytes {
  readonly #folder: string;
  readonly #partial: string;
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

  async write(source: AsyncIterable<Uint8Array>, expected?: Digest): Promise<Stored> {
    const file = join(this.#partial, `${++this.#writes}`);
    try {
      const handle = await open(file, 'wx', 0o444);
      let stored: Stored;
      try {
        stored = await copyHashed(source, handle);
        if (expected !== undefined && stored.digest !== expected) throw mismatch(expected, stored.digest);
        await handle.datasync();
      } finally {
        await handle.close();
      }
      await this.#place(file, stored.digest);
      return stored;
    } catch (error) {
      await unlink(file).catch(() => {});
      throw error;
    }
  }

  /** Makes a whole, checked file on the same file system the content of this digest. The file is gone afterwards. */
  async take(file: string, digest: Digest): Promise<void> {
    const handle = await open(file, 'r+');
    try {
      await handle.chmod(0o444);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await this.#place(file, digest);
  }

  async #place(file: string, digest: Digest): Promise<void> {
    const path = this.path(digest);
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

  read(digest: Digest, range?: { start: number; end: number }): Readable {
    if (range && range.end <= range.start) return Readable.from([]);
    return createReadStream(this.path(digest), range ? { start: range.start, end: range.end - 1 } : {});
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

export function mismatch(expected: string, found: string): ServiceError {
  return new ServiceError(
    'conflict',
    'blob.digest-mismatch',
    `The bytes that arrived have the digest ${found}, where ${expected} was announced. They were not kept.`,
  );
}

async function copyHashed(source: AsyncIterable<Uint8Array>, handle: FileHandle): Promise<Stored> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for await (const chunk of source) {
    hash.update(chunk);
    await writeAll(handle, chunk, sizeBytes);
    sizeBytes += chunk.length;
  }
  return { digest: `sha256:${hash.digest('hex')}`, sizeBytes };
}

/** One write may take less than it was given. */
export async function writeAll(handle: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < chunk.length; )
    at += (await handle.write(chunk, at, chunk.length - at, position + at)).bytesWritten;
}

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  await handle.sync().finally(() => handle.close());
}
