// Bytes as users and rooms meet them: named by their digest, brought to one workspace, kept once for all of them.
// Invariants: a workspace can use a content only if it was brought to it or one of its rooms wrote it, whatever other workspaces
// have; a content is whole and right before it can be used; whatever refers to contents says so in its own transaction
// (`addReferences`), and what nobody refers to may be collected.

import type { Readable } from 'node:stream';
import type { BlobState } from '@stellwerk/contract/blob.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import type { Database } from '../db/database.ts';
import type { Bytes, Digest, Stored } from './bytes.ts';
import { type Collecting, collectContents, collectOrphans, type Freed } from './collect.ts';
import type { FileBytes } from './files.ts';
import { blobReadings, blobTransactions, type ContentUse, notHere, ownWorkspace } from './store.ts';
import { Uploads } from './uploads.ts';

export type { Collecting, Freed } from './collect.ts';
export {
  addReferences,
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

  async get({ workspace, digest }: CheckedOf<'blobs', 'get'>): Promise<BlobState> {
    const sizeBytes = await this.#touch(workspace, digest);
    if (sizeBytes !== undefined) return { digest, complete: true, receivedBytes: sizeBytes };
    const receivedBytes = await this.#uploads.received({ workspace, digest });
    if (receivedBytes === undefined) throw notHere(workspace, digest);
    return { digest, complete: false, receivedBytes };
  }

  async append(input: CheckedOf<'blobs', 'append'>, _caller: unknown, body: Readable): Promise<BlobState> {
    const { workspace, digest, offset, sizeBytes } = input;
    return this.#uploads.inTurn({ workspace, digest }, async () => {
      const held = await this.#touch(workspace, digest);
      if (held !== undefined) return this.#alreadyHere(input, held, body);
      const { receivedBytes, file } = await this.#uploads.append({ workspace, digest }, { offset, sizeBytes, body });
      if (file === undefined) return { digest, complete: false, receivedBytes };
      using arrivals = this.#needs.bytes.arrivals();
      await arrivals.take(file, digest as Digest);
      await this.adopt(workspace, { digest: digest as Digest, sizeBytes });
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
  async #touch(workspace: string, digest: string): Promise<number | undefined> {
    const { db, now } = this.#needs;
    const held = await db.transact(blobReadings.held, { workspace, digest });
    if (held === undefined) return undefined;
    if (Date.parse(held.since) > now() - touchEveryMs) return held.size_bytes;
    return db.transact(blobTransactions.touch, { workspace, digest, at: new Date(now()).toISOString() });
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
  async adopt(workspace: string, ...all: Stored[]): Promise<void> {
    const at = new Date(this.#needs.now()).toISOString();
    await this.#needs.db.transact(blobTransactions.hold, { workspace, all, at });
  }

  /** Undefined if the workspace does not have the content. */
  sizeOf(workspace: string, digest: string): Promise<number | undefined> {
    return this.#needs.db.transact(blobReadings.sizeHeld, { workspace, digest });
  }

  /** A content that the workspace has, to be read or copied. */
  async contentOf(workspace: string, digest: string): Promise<{ sizeBytes: number; open(): Readable; file: string }> {
    const sizeBytes = await this.#touch(workspace, digest);
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
