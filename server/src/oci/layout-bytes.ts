// Bytes kept as the blobs of an OCI layout folder (`blobs/sha256/<hex>`): what a layout written to disk needs,
// and what base images are cached in, beside any workspace's storage.
// Invariant: a file under its final name is whole, on the disk, and has that digest.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, mkdtemp, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Bytes, Digest, Stored } from '../blob/bytes.ts';
import { digestMismatch, hexOf } from './digest.ts';

export class LayoutBytes implements Bytes {
  readonly #dir: string;

  constructor(layoutDir: string) {
    this.#dir = join(layoutDir, 'blobs', 'sha256');
  }

  async write(source: AsyncIterable<Uint8Array>, expected?: Digest): Promise<Stored> {
    await mkdir(this.#dir, { recursive: true });
    const dir = await mkdtemp(join(this.#dir, '.partial-'));
    try {
      const stored = await writeDurably(join(dir, 'content'), source);
      if (expected && stored.digest !== expected) throw digestMismatch(expected, stored.digest);
      await rename(join(dir, 'content'), this.path(stored.digest));
      await syncFolder(this.#dir);
      return stored;
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
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

  path(digest: Digest): string {
    return join(this.#dir, hexOf(digest));
  }
}

async function writeDurably(file: string, source: AsyncIterable<Uint8Array>): Promise<Stored> {
  const hash = createHash('sha256');
  const handle = await open(file, 'wx', 0o644);
  let sizeBytes = 0;
  try {
    for await (const chunk of source) {
      const written = writeAll(handle, chunk, sizeBytes);
      hash.update(chunk); // while the disk is busy
      await written;
      sizeBytes += chunk.length;
    }
    await handle.datasync();
  } finally {
    await handle.close();
  }
  return { digest: `sha256:${hash.digest('hex')}`, sizeBytes };
}

async function writeAll(handle: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < chunk.length; )
    at += (await handle.write(chunk, at, chunk.length - at, position + at)).bytesWritten;
}

async function syncFolder(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  await handle.sync().finally(() => handle.close());
}
