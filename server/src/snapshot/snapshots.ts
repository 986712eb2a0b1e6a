// The project folder as it was submitted: announced by its listing, brought by what is missing of it, kept once per content.
// Invariants: a snapshot's digest is that of its listing, so the same folder is the same snapshot and an unchanged one brings
// nothing; only a snapshot whose contents were all brought to its workspace is complete, and only such a one can be run or downloaded.
import { createWriteStream, mkdirSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath, legible } from '@stellwerk/contract/paths.ts';
import type { Snapshot, SnapshotFile } from '@stellwerk/contract/snapshot.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import type { Caller } from '../access/access.ts';
import { downloadArchive } from '../blob/archive.ts';
import type { Blobs } from '../blob/blobs.ts';
import type { Digest, Stored } from '../blob/bytes.ts';
import { type Asked, type Download, downloadContent } from '../blob/download.ts';
import type { FileBytes } from '../blob/files.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import { findInListing, type Listing, listingOf, parseListing } from './listing.ts';
import { noSnapshot, type SnapshotRow, snapshotReadings, snapshotTransactions } from './store.ts';
import { unzip } from './unzip.ts';

export { useSnapshot, usesSnapshots } from './store.ts';

export interface SnapshotNeeds {
  db: Database;
  bytes: FileBytes;
  blobs: Pick<Blobs, 'adopt' | 'sizeOf' | 'sizesOf' | 'touch'>;
  /** Where archives lie while they are read. */
  folder: string;
  now(): number;
  /** The snapshot of a run: the one that the run's token reads. */
  snapshotOf(workspace: string, run: string): Promise<string | undefined>;
}

interface One {
  workspace: string;
  snapshot: string;
}

/** Text files that other rooms read out of a snapshot, such as an environment's specification, are not larger. */
const textBytes = 16 * 1024 * 1024;
const rowsAtOnce = 1_000;

export class Snapshots {
  readonly #needs: SnapshotNeeds;
  readonly #archives: string;
  readonly #limitBytes: number;

  constructor(needs: SnapshotNeeds, limitBytes: number = limits.snapshotBytes) {
    this.#needs = needs;
    this.#limitBytes = limitBytes;
    this.#archives = join(needs.folder, '.archives');
    rmSync(this.#archives, { recursive: true, force: true }); // of a server that was killed
    mkdirSync(this.#archives, { recursive: true, mode: 0o700 });
  }

  async create({ workspace, files }: CheckedOf<'snapshots', 'create'>): Promise<Snapshot> {
    const listing = listingOf(files);
    if (listing.sizeBytes > this.#limitBytes) throw tooLarge(listing, this.#limitBytes);
    const of = { workspace, digest: listing.digest, at: this.#time() };
    const found = await this.#needs.db.transact(snapshotTransactions.touch, of);
    const row = found ?? (await this.#insert(workspace, listing));
    // What is here need not be brought: it must not be collected while the rest comes.
    if (!row.complete) await this.#needs.blobs.touch(workspace, contentsOf(listing.files));
    return this.#shown(row, listing.files);
  }

  async #insert(workspace: string, listing: Listing): Promise<SnapshotRow> {
    await this.#sizesAgree(workspace, listing.files);
    using arrivals = this.#needs.bytes.arrivals();
    const stored = await arrivals.write(oneChunk(listing.text), listing.digest);
    const at = this.#time();
    const row: SnapshotRow = {
      workspace,
      digest: listing.digest,
      file_count: listing.files.length,
      size_bytes: listing.sizeBytes,
      complete: 0,
      created_at: at,
      used_at: at,
    };
    return await this.#needs.db.transact(snapshotTransactions.insert, { row, listing: stored });
  }

  async addFiles(
    { workspace, snapshot }: CheckedOf<'snapshots', 'addFiles'>,
    _caller: unknown,
    body: Readable,
  ): Promise<Snapshot> {
    const row = await this.#existing(workspace, snapshot);
    const files = await this.#files(snapshot);
    const folder = await mkdtemp(join(this.#archives, 'archive-'));
    try {
      const archive = join(folder, 'archive.zip');
      await pipeline(
        body,
        (source) => atMost(source, archiveBytes(files)),
        createWriteStream(archive, { mode: 0o600 }),
      );
      using arrivals = this.#needs.bytes.arrivals();
      const stored: Stored[] = [];
      await unzip(archive, files, async (file, content) => {
        stored.push(await arrivals.write(content, file.digest as Digest));
      });
      await this.#needs.blobs.adopt(workspace, ...stored);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    return this.#shown(row, files);
  }

  async get(input: CheckedOf<'snapshots', 'get'>, caller: Caller): Promise<Snapshot> {
    await this.#permit(input, caller);
    const row = await this.#existing(input.workspace, input.snapshot);
    return this.#shown(row, row.complete ? [] : await this.#files(row.digest));
  }

  async listFiles(
    input: CheckedOf<'snapshots', 'listFiles'>,
    caller: Caller,
  ): Promise<OutputOf<'snapshots', 'listFiles'>> {
    await this.#permit(input, caller);
    await this.#existing(input.workspace, input.snapshot);
    return { items: await this.#files(input.snapshot) };
  }

  async getFile(input: CheckedOf<'snapshots', 'getFile'>, caller: Caller, asked?: Asked): Promise<Download> {
    checkPath(input.path);
    await this.#permit(input, caller);
    await this.require(input.workspace, input.snapshot);
    const file = findInListing(await this.#listing(input.snapshot), input.path);
    if (!file)
      throw new ServiceError(
        'not-found',
        'snapshot.file-not-found',
        `There is no file ${JSON.stringify(input.path)} in the snapshot ${input.snapshot}.`,
      );
    return downloadContent(this.#needs.bytes, file, asked);
  }

  async download(input: CheckedOf<'snapshots', 'download'>, caller: Caller, asked?: Asked): Promise<Download> {
    await this.#permit(input, caller);
    await this.require(input.workspace, input.snapshot);
    const filename = `snapshot-${input.snapshot.slice('sha256:'.length, 'sha256:'.length + 12)}.zip`;
    const files = await this.#files(input.snapshot);
    return downloadArchive(this.#needs.bytes, files, { filename, compress: true, signal: asked?.signal });
  }

  /** The snapshot, if it is complete; refused otherwise. */
  async require(workspace: string, snapshot: string): Promise<Snapshot> {
    const row = await this.#existing(workspace, snapshot);
    const shown = await this.#shown(row, row.complete ? [] : await this.#files(snapshot));
    if (shown.complete) return shown;
    throw new ServiceError(
      'failed-precondition',
      'snapshot.incomplete',
      `Of the snapshot ${snapshot}, ${shown.missing?.length} contents have not been uploaded.`,
      { missing: shown.missing?.slice(0, 1_000) },
    );
  }

  /** The entry of a file in a complete snapshot. */
  async fileOf(workspace: string, snapshot: string, path: string): Promise<SnapshotFile | undefined> {
    await this.require(workspace, snapshot);
    return findInListing(await this.#listing(snapshot), path);
  }

  /** A file of a complete snapshot as text; undefined if there is none. */
  async readFile(workspace: string, snapshot: string, path: string): Promise<string | undefined> {
    const file = await this.fileOf(workspace, snapshot, path);
    if (!file) return undefined;
    if (file.sizeBytes > textBytes)
      throw new ServiceError(
        'too-large',
        'snapshot.too-large',
        `The file ${legible(path)} of the snapshot is too large to be read as text.`,
      );
    return text(this.#needs.bytes.read(file.digest as Digest));
  }

  #time(): string {
    return new Date(this.#needs.now()).toISOString();
  }

  /** Forgets snapshots that nobody has and nobody announced since `before`; in a dry run, counts them. */
  async collect(before: string, dryRun: boolean, signal: AbortSignal): Promise<number> {
    for (const row of await this.#needs.db.transact(snapshotReadings.uncounted, undefined))
      await this.#shown(row, await this.#files(row.digest));
    let count = 0;
    let after: SnapshotRow | undefined;
    do {
      const part = await this.#needs.db.transact(snapshotReadings.unused, { after, before, limit: rowsAtOnce });
      for (const { workspace, digest } of part.rows) {
        signal.throwIfAborted();
        const contents = contentsOf(await this.#files(digest));
        const removing = { workspace, digest, contents, before };
        const isGone = dryRun || (await this.#needs.db.transact(snapshotTransactions.remove, removing));
        if (isGone) count++;
      }
      after = part.last;
    } while (after);
    return count;
  }

  /** The contents of a snapshot's files, each once. */
  async contentsOf(snapshot: string): Promise<string[]> {
    return contentsOf(await this.#files(snapshot));
  }

  async #permit({ workspace, snapshot }: One, caller: Caller): Promise<void> {
    if (caller.kind !== 'run') return;
    if ((await this.#needs.snapshotOf(workspace, caller.run)) === snapshot) return;
    throw new ServiceError(
      'permission-denied',
      'access.run-token-scope',
      `The token of the run ${caller.run} reads the snapshot of that run only.`,
    );
  }

  #row(workspace: string, digest: string): Promise<SnapshotRow | undefined> {
    return this.#needs.db.first(
      sql.selectFrom('snapshot').selectAll().where('workspace', '=', workspace).where('digest', '=', digest),
    );
  }

  async #existing(workspace: string, digest: string): Promise<SnapshotRow> {
    const row = await this.#row(workspace, digest);
    if (row) return row;
    throw noSnapshot(workspace, digest);
  }

  async #files(snapshot: string): Promise<SnapshotFile[]> {
    return parseListing(await this.#listing(snapshot));
  }

  #listing(snapshot: string): Promise<string> {
    return text(this.#needs.bytes.read(snapshot as Digest));
  }

  /** `files` are looked at only as long as the snapshot is not known to be complete. */
  async #shown(row: SnapshotRow, files: readonly SnapshotFile[]): Promise<Snapshot> {
    const missing = row.complete ? [] : await this.#missing(row, files);
    return {
      digest: row.digest,
      fileCount: row.file_count,
      sizeBytes: row.size_bytes,
      createdAt: row.created_at,
      complete: missing.length === 0,
      ...(missing.length > 0 && { missing }),
    };
  }

  /** What is still to come; when nothing is, the snapshot is complete. */
  async #missing({ workspace, digest }: SnapshotRow, files: readonly SnapshotFile[]): Promise<string[]> {
    for (;;) {
      const missing = await this.#sizesAgree(workspace, files);
      if (missing.length > 0) return missing;
      const of = { workspace, digest, contents: contentsOf(files) };
      if (await this.#needs.db.transact(snapshotTransactions.complete, of)) return []; // else one was collected meanwhile
    }
  }

  /** The contents that the workspace does not have; refused if one that it has is not as large as the listing says. */
  async #sizesAgree(workspace: string, files: readonly SnapshotFile[]): Promise<string[]> {
    const byDigest = new Map(files.map((file) => [file.digest, file]));
    const digests = [...byDigest.keys()];
    const sizes = await this.#needs.blobs.sizesOf(workspace, digests);
    const wrong = digests.findIndex(
      (digest, i) => (sizes[i] ?? byDigest.get(digest)!.sizeBytes) !== byDigest.get(digest)!.sizeBytes,
    );
    if (wrong >= 0)
      throw new ServiceError(
        'invalid-argument',
        'blob.digest-mismatch',
        `The content of ${JSON.stringify(byDigest.get(digests[wrong]!)!.path)} has ${sizes[wrong]} bytes, not ${byDigest.get(digests[wrong]!)!.sizeBytes}.`,
      );
    return digests.filter((_, i) => sizes[i] === null);
  }
}

function contentsOf(files: readonly SnapshotFile[]): string[] {
  return [...new Set(files.map(({ digest }) => digest))];
}

async function* oneChunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** More than this, an archive of these files cannot have. */
function archiveBytes(files: readonly SnapshotFile[]): number {
  const slackBytes = 16 * 1024 * 1024;
  return files.reduce(
    (sum, { path, sizeBytes }) => sum + sizeBytes * 1.01 + 2 * Buffer.byteLength(path) + 500,
    slackBytes,
  );
}

async function* atMost(source: AsyncIterable<Uint8Array>, mostBytes: number): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > mostBytes)
      throw new ServiceError(
        'too-large',
        'request.too-large',
        'The archive is larger than the files that it may bring.',
      );
    yield chunk;
  }
}

function tooLarge({ files, sizeBytes }: Listing, limitBytes: number): ServiceError {
  const largest = files.toSorted((a, b) => b.sizeBytes - a.sizeBytes).slice(0, 5);
  const named = largest.map((file) => `${legible(file.path)} (${megabytes(file.sizeBytes)})`).join(', ');
  return new ServiceError(
    'too-large',
    'snapshot.too-large',
    `The snapshot has ${megabytes(sizeBytes)}; at most ${megabytes(limitBytes)} are allowed. The largest files: ${named}.`,
  );
}

const megabytes = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MB`;
