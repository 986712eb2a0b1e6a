// Bytes as users and rooms meet them: named by their digest, brought to one workspace, kept once for all of them.
// Invariants: a workspace can use a content only if it was brought to it or one of its rooms wrote it, whatever other workspaces
// have; a run's token only what it brought itself, and hears of nothing else; a content is whole and right before it can be
// used; whatever refers to contents says so in its own transaction (`addReferences`), and what nobody refers to may be collected.

import type { Readable } from 'node:stream';
import type { BlobState } from '@stellwerk/contract/blob.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import { bearerOf, type Caller } from '../access/access.ts';
import type { Database } from '../db/database.ts';
import type { Bytes, Digest, Stored } from './bytes.ts';
import { type Collecting, collectContents, collectOrphans, type Freed } from './collect.ts';
import type { FileBytes } from './files.ts';
import { type Bearer, blobReadings, blobTransactions, type ContentUse, notHere, ownWorkspace } from './store.ts';
import { Uploads } from './uploads.ts';

export type { Collecting, Freed } from './collect.ts';
export {
  addReferences,
  type Bearer,
  type ContentUse,
  hasBlob,
  hold,
  listContents,
  notHere,
  type Owner,
  removeReferences,
  sizeHeld,
  takeOwn,
  unlistContents,
} from './store.ts';

/** Much less than any grace: that a content is looked for is noted at most this often. */
const touchEveryMs = 600_000;
/** As long as a run may still deliver after its end; after that a content is sent again. */
const broughtForMs = 15 * 86_400_000;

export interface BlobNeeds {
  db: Database;
  bytes: FileBytes;
  /** Where contents lie while they arrive; on the file system of the bytes. */
  folder: string;
  now(): number;
}

export class Blobs {
  readonly #needs: BlobNeeds;
  readonly #uploads: Uploads;

  constructor(needs: BlobNeeds) {
    this.#needs = needs;
    this.#uploads = new Uploads(needs.folder);
  }

  async get({ workspace, digest }: CheckedOf<'blobs', 'get'>, caller: Caller): Promise<BlobState> {
    const by = bearerOf(caller);
    const sizeBytes = await this.#touch(workspace, digest, by);
    if (sizeBytes !== undefined) return { digest, complete: true, receivedBytes: sizeBytes };
    const receivedBytes = await this.#uploads.received({ workspace, digest, by });
    if (receivedBytes === undefined) throw notHere(workspace, digest);
    return { digest, complete: false, receivedBytes };
  }

  async append(input: CheckedOf<'blobs', 'append'>, caller: Caller, body: Readable): Promise<BlobState> {
    const { workspace, digest, offset, sizeBytes } = input;
    const by = bearerOf(caller);
    const upload = { workspace, digest, by };
    return this.#uploads.inTurn(upload, async () => {
      const held = await this.#touch(workspace, digest, by);
      if (held !== undefined) return this.#alreadyHere(input, held, body);
      const { receivedBytes, file } = await this.#uploads.append(upload, { offset, sizeBytes, body });
      if (file === undefined) return { digest, complete: false, receivedBytes };
      using arrivals = this.#needs.bytes.arrivals();
      await arrivals.take(file, digest as Digest);
      await this.#hold(workspace, [{ digest: digest as Digest, sizeBytes }], by);
      return { digest, complete: true, receivedBytes };
    });
  }

  #alreadyHere({ digest, sizeBytes }: CheckedOf<'blobs', 'append'>, held: number, body: Readable): BlobState {
    body.resume(); // what is sent again is not looked at
    if (held === sizeBytes) return { digest, complete: true, receivedBytes: held };
    throw new ServiceError(
      'invalid-argument',
      'blob.digest-mismatch',
      `The content ${digest} has ${held} bytes, not ${sizeBytes}.`,
    );
  }

  /** Whoever hears that a content is here may be about to refer to it: it stays for as long as one that has just arrived. */
  async #touch(workspace: string, digest: string, by?: Bearer): Promise<number | undefined> {
    const { db, now } = this.#needs;
    const held = await db.transact(blobReadings.held, { workspace, digest, by });
    if (held === undefined) return undefined;
    if (Date.parse(held.since) > now() - touchEveryMs) return held.size_bytes;
    return db.transact(blobTransactions.touch, { workspace, digest, at: new Date(now()).toISOString(), by });
  }

  /** Of contents that somebody is about to refer to: those that are here stay for as long as ones that have just arrived. */
  async touch(workspace: string, digests: readonly string[]): Promise<void> {
    const at = new Date(this.#needs.now()).toISOString();
    await this.#needs.db.transact(blobTransactions.touchAll, { workspace, digests, at });
  }

  /**
   * The store for what the server makes for itself, such as layers of images: it is kept until it was not used for long, and longer where
   * an owner has taken it into a workspace (`takeOwn`). `has` counts as use.
   */
  own(): Bytes {
    const { bytes } = this.#needs;
    return {
      write: async (source, expected) => {
        using arrivals = bytes.arrivals();
        const stored = await arrivals.write(source, expected);
        await this.adopt(ownWorkspace, stored);
        return stored;
      },
      has: async (digest) => (await this.#touch(ownWorkspace, digest)) !== undefined && (await bytes.has(digest)),
      read: (digest, range) => bytes.read(digest, range),
      sizeOf: (digest) => bytes.sizeOf(digest),
      path: (digest) => bytes.path(digest),
    };
  }

  /** Gives contents that the server itself wrote to a workspace. */
  adopt(workspace: string, ...all: Stored[]): Promise<void> {
    return this.#hold(workspace, all);
  }

  async #hold(workspace: string, all: Stored[], by?: Bearer): Promise<void> {
    const at = new Date(this.#needs.now()).toISOString();
    await this.#needs.db.transact(blobTransactions.hold, { workspace, all, at, by });
  }

  /** Undefined if the caller does not have the content in that workspace. */
  sizeOf(workspace: string, digest: string, caller: Caller): Promise<number | undefined> {
    return this.#needs.db.transact(blobReadings.sizeHeld, { workspace, digest, by: bearerOf(caller) });
  }

  /** A content that the caller has in that workspace, to be read or copied. */
  async contentOf(
    workspace: string,
    digest: string,
    caller: Caller,
  ): Promise<{ sizeBytes: number; open(): Readable; file: string }> {
    const sizeBytes = await this.#touch(workspace, digest, bearerOf(caller));
    if (sizeBytes === undefined) throw notHere(workspace, digest);
    const { bytes } = this.#needs;
    return { sizeBytes, open: () => bytes.read(digest as Digest), file: bytes.path(digest as Digest) };
  }

  /** The sizes of many contents; null where the workspace does not have one. */
  sizesOf(workspace: string, digests: readonly string[]): Promise<(number | null)[]> {
    return this.#needs.db.transact(blobReadings.sizesHeld, { workspace, digests });
  }

  /** Frees what nothing refers to, and forgets uploads that nobody went on with. */
  async collect(collecting: Collecting, uploadsBefore: number): Promise<Freed> {
    await collectContents(this.#needs, collecting);
    await collectOrphans(this.#needs, collecting);
    const before = new Date(this.#needs.now() - broughtForMs).toISOString();
    if (!collecting.dryRun) while (await this.#needs.db.transact(blobTransactions.forgetBrought, { before }));
    return this.#uploads.sweep(uploadsBefore, collecting.dryRun);
  }

  /** How often contents are referred to, and listed by snapshots, wherever. */
  usesOf(digests: readonly string[]): Promise<ContentUse[]> {
    return this.#needs.db.transact(blobReadings.uses, { digests });
  }

  /** What is on its way to a deleted workspace. */
  clear(workspace: string): Promise<void> {
    return this.#uploads.clear(workspace);
  }
}
