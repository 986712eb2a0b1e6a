// Contents on their way in: one file for each workspace and digest, and for each run that brings it by its token, appended to until
// all of it is there.
// Invariants: what is answered as received is on the disk; appends to one content happen one after another; a part that is
// sent again is skipped; what arrived before a cut is kept; a content whose digest is not the announced one is dropped.
import { createHash, type Hash } from 'node:crypto';
import { createReadStream, mkdirSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rm, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { mismatch } from './files.ts';
import { HashedFile } from './hashed-file.ts';
import type { Bearer } from './store.ts';

/** Hashes of so many contents are kept as far as they have arrived; what is forgotten is computed again from the file. */
const hashesKept = 10_000;

export interface Upload {
  workspace: string;
  digest: string;
  /** The run whose token brings it: what others have sent of the same content is not for it to complete. */
  by?: Bearer;
}

export interface Part {
  offset: number;
  /** Of the whole content. */
  sizeBytes: number;
  body: Readable;
}

export class Uploads {
  readonly #folder: string;
  readonly #stalledMs: number;
  readonly #hashed = new Map<string, { hash: Hash; bytes: number }>();
  readonly #turns = new Map<string, { last: Promise<unknown>; waiting: number }>();

  /** A sender that is silent for `stalledMs` makes way for another one of the same content: it may be its own dead connection. */
  constructor(folder: string, stalledMs = 10_000) {
    this.#folder = folder;
    this.#stalledMs = stalledMs;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** Undefined if nothing has arrived. */
  async received(upload: Upload): Promise<number | undefined> {
    return (await stat(this.#file(upload)).catch(() => undefined))?.size;
  }

  /** Does something with a content while nobody else appends to it. */
  inTurn<T>(upload: Upload, action: () => Promise<T>): Promise<T> {
    return this.#inTurn(this.#file(upload), action);
  }

  async #inTurn<T>(file: string, action: () => Promise<T>): Promise<T> {
    const queue = this.#turns.get(file) ?? { last: Promise.resolve(), waiting: 0 };
    this.#turns.set(file, queue);
    queue.waiting++;
    const turn = queue.last.then(action);
    queue.last = turn.catch(() => {});
    try {
      return await turn;
    } finally {
      if (--queue.waiting === 0) this.#turns.delete(file);
    }
  }

  /** Appends a part. Gives the file once all of the content is there and right; until then, how much there is. */
  async append(upload: Upload, part: Part): Promise<{ receivedBytes: number; file?: string }> {
    const file = this.#file(upload);
    const received = (await this.received(upload)) ?? 0;
    const start = received > part.sizeBytes ? 0 : received; // another size was announced before: one of the two was wrong
    if (part.offset > start) throw gap(upload.digest, part.offset, start);
    const hash = await this.#hashOf(file, start);
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const handle = await open(file, start === 0 ? 'w' : 'r+', 0o600);
    const receivedBytes = await this.#receive(handle, file, hash, start, part).finally(() => handle.close());
    if (receivedBytes < part.sizeBytes) return { receivedBytes };
    this.#hashed.delete(file);
    const found = `sha256:${hash.digest('hex')}`;
    if (found === upload.digest) return { receivedBytes, file };
    await unlink(file);
    throw mismatch(upload.digest, found);
  }

  async #receive(handle: FileHandle, file: string, hash: Hash, start: number, part: Part): Promise<number> {
    const writing = new HashedFile(handle, hash, start);
    let end = start;
    let skip = start - part.offset;
    const stalled = setTimeout(() => this.#makeWay(file, part.body, stalled), this.#stalledMs);
    try {
      for await (const chunk of part.body as AsyncIterable<Uint8Array>) {
        const bytes = chunk.subarray(skip);
        skip = Math.max(0, skip - chunk.length);
        if (end + bytes.length > part.sizeBytes) throw tooLong(part.sizeBytes);
        await writing.add(bytes);
        end += bytes.length;
        stalled.refresh();
      }
    } finally {
      clearTimeout(stalled);
      this.#hashed.delete(file);
      await writing.end(); // also of what was cut off
      this.#remember(file, hash, end);
    }
    return end;
  }

  #makeWay(file: string, body: Readable, timer: NodeJS.Timeout): void {
    if ((this.#turns.get(file)?.waiting ?? 0) > 1) body.destroy(new Error('The sender fell silent.'));
    else timer.refresh();
  }

  #remember(file: string, hash: Hash, bytes: number): void {
    this.#hashed.delete(file);
    this.#hashed.set(file, { hash, bytes });
    if (this.#hashed.size > hashesKept) this.#hashed.delete(this.#hashed.keys().next().value!);
  }

  /** The hash of what has arrived so far. */
  async #hashOf(file: string, sizeBytes: number): Promise<Hash> {
    const known = this.#hashed.get(file);
    if (known?.bytes === sizeBytes) return known.hash;
    const hash = createHash('sha256');
    if (sizeBytes === 0) return hash;
    for await (const chunk of createReadStream(file, { end: sizeBytes - 1 })) hash.update(chunk as Buffer);
    return hash;
  }

  /** Removes what nobody has gone on with since `before`, in ms; in a `dryRun`, tells what that would be. */
  async sweep(before: number, dryRun: boolean): Promise<{ count: number; sizeBytes: number }> {
    const freed = { count: 0, sizeBytes: 0 };
    for (const workspace of await readdir(this.#folder)) {
      const names = await readdir(join(this.#folder, workspace)).catch(() => []);
      for (const name of names.filter((one) => /^[0-9a-f]{64}(\.[0-9a-f]{64})?$/.test(one))) {
        const file = join(this.#folder, workspace, name);
        await this.#inTurn(file, async () => {
          const found = await stat(file).catch(() => undefined);
          if (!found || found.mtimeMs > before) return;
          freed.count++;
          freed.sizeBytes += found.size;
          if (!dryRun) await unlink(file);
        });
      }
    }
    return freed;
  }

  /** Forgets whatever is on its way to a workspace. */
  async clear(workspace: string): Promise<void> {
    await rm(join(this.#folder, workspace.toLowerCase()), { recursive: true, force: true });
  }

  #file({ workspace, digest, by }: Upload): string {
    const hex = digest.slice('sha256:'.length);
    const name = by === undefined ? hex : `${hex}.${createHash('sha256').update(by).digest('hex')}`;
    return join(this.#folder, workspace.toLowerCase(), name);
  }
}

function gap(digest: string, offset: number, receivedBytes: number): ServiceError {
  return new ServiceError(
    'conflict',
    'blob.offset',
    `Of the content ${digest}, ${receivedBytes} bytes have arrived; a part at ${offset} would leave a gap.`,
    { receivedBytes },
  );
}

function tooLong(sizeBytes: number): ServiceError {
  return new ServiceError(
    'invalid-argument',
    'blob.digest-mismatch',
    `More bytes arrived than the ${sizeBytes} that were announced for the content.`,
  );
}
