// Bytes as users and rooms meet them: named by their digest, brought to one workspace, kept once for all of them.
// Invariants: a workspace can use a content only if it was brought to it or one of its rooms wrote it, whatever other workspaces
// have; a content is whole and right before it can be used; whatever refers to contents says so in its own transaction
// (`addReferences`), and what nobody refers to may be collected.

import type { Readable } from 'node:stream';
import type { BlobState } from '@stellwerk/contract/blob.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import type { Database } from '../db/database.ts';
import type { Digest, Stored } from './bytes.ts';
import type { FileBytes } from './files.ts';
import { blobReadings, blobTransactions, notHere } from './store.ts';
import { Uploads } from './uploads.ts';

export { addReferences, hasBlob, hold, notHere, type Owner, removeReferences, sizeHeld } from './store.ts';

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
    const sizeBytes = await this.sizeOf(workspace, digest);
    if (sizeBytes !== undefined) return { digest, complete: true, receivedBytes: sizeBytes };
    const receivedBytes = await this.#uploads.received({ workspace, digest });
    if (receivedBytes === undefined) throw notHere(workspace, digest);
    return { digest, complete: false, receivedBytes };
  }

  async append(input: CheckedOf<'blobs', 'append'>, _caller: unknown, body: Readable): Promise<BlobState> {
    const { workspace, digest, offset, sizeBytes } = input;
    return this.#uploads.inTurn({ workspace, digest }, async () => {
      const held = await this.sizeOf(workspace, digest);
      if (held !== undefined) return this.#alreadyHere(input, held, body);
      const { receivedBytes, file } = await this.#uploads.append({ workspace, digest }, { offset, sizeBytes, body });
      if (file === undefined) return { digest, complete: false, receivedBytes };
      await this.#needs.bytes.take(file, digest as Digest);
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
    const sizeBytes = await this.sizeOf(workspace, digest);
    if (sizeBytes === undefined) throw notHere(workspace, digest);
    const { bytes } = this.#needs;
    return { sizeBytes, open: () => bytes.read(digest as Digest), file: bytes.path(digest as Digest) };
  }

  /** The sizes of many contents; null where the workspace does not have one. */
  sizesOf(workspace: string, digests: readonly string[]): Promise<(number | null)[]> {
    return this.#needs.db.transact(blobReadings.sizesHeld, { workspace, digests });
  }

  /** What is on its way to a deleted workspace. */
  clear(workspace: string): Promise<void> {
    return this.#uploads.clear(workspace);
  }
}
