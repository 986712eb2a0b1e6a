// Rows of contents: which workspace has which, and who refers to it. The references are the reference counts.
// A content without a reference may be collected some time after `since`; the contents of a snapshot are referred to by its
// listing, which is a content itself: references of the owner kind `snapshot` are to be read through it.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Migration } from '../db/migrations.ts';
import { readings, sql, type Transaction, transactions } from '../db/transactions.ts';
import type { Stored } from './bytes.ts';

export interface HeldRow {
  workspace: string;
  digest: string;
  size_bytes: number;
  /** When the workspace last was given it. */
  since: string;
}

export interface RefRow {
  workspace: string;
  digest: string;
  owner_kind: string;
  owner_id: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    blob_held: HeldRow;
    blob_ref: RefRow;
  }
}

export const blobMigrations: Migration[] = [
  {
    name: '0004-blob',
    up: `
      CREATE TABLE blob_held (
        workspace TEXT NOT NULL COLLATE NOCASE, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL, since TEXT NOT NULL,
        PRIMARY KEY (workspace, digest)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX blob_held_by_digest ON blob_held (digest);
      CREATE TABLE blob_ref (
        workspace TEXT NOT NULL COLLATE NOCASE, digest TEXT NOT NULL, owner_kind TEXT NOT NULL, owner_id TEXT NOT NULL,
        PRIMARY KEY (workspace, owner_kind, owner_id, digest)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX blob_ref_by_digest ON blob_ref (digest);
    `,
  },
];

/** What refers to contents, such as `{ kind: 'model', id: '17' }`. */
export interface Owner {
  kind: string;
  id: string;
}

/** The size of a content that the workspace has; undefined if it never brought it, whatever other workspaces have. */
export function sizeHeld(tx: Transaction, workspace: string, digest: string): number | undefined {
  return tx
    .statement<{ size_bytes: number }>('SELECT size_bytes FROM blob_held WHERE workspace = ? AND digest = ?')
    .get(workspace, digest)?.size_bytes;
}

export function hasBlob(tx: Transaction, workspace: string, digest: string): boolean {
  return sizeHeld(tx, workspace, digest) !== undefined;
}

/** Gives bytes that are in the store to the workspace: they were uploaded to it, or one of its rooms wrote them. */
export function hold(tx: Transaction, workspace: string, stored: Stored, at: string): void {
  tx.statement(
    `INSERT INTO blob_held (workspace, digest, size_bytes, since) VALUES (?, ?, ?, ?)
     ON CONFLICT (workspace, digest) DO UPDATE SET since = excluded.since`,
  ).run(workspace, stored.digest, stored.sizeBytes, at);
}

/** Refused, with nothing referred to, if the workspace does not have one of them. */
export function addReferences(tx: Transaction, workspace: string, owner: Owner, digests: readonly string[]): void {
  for (const digest of digests) {
    if (!hasBlob(tx, workspace, digest)) throw notHere(workspace, digest);
    tx.statement('INSERT OR IGNORE INTO blob_ref (workspace, digest, owner_kind, owner_id) VALUES (?, ?, ?, ?)').run(
      workspace,
      digest,
      owner.kind,
      owner.id,
    );
  }
}

/** All that an owner refers to, or only the given ones. */
export function removeReferences(tx: Transaction, workspace: string, owner: Owner, digests?: readonly string[]): void {
  const all = sql
    .deleteFrom('blob_ref')
    .where('workspace', '=', workspace)
    .where('owner_kind', '=', owner.kind)
    .where('owner_id', '=', owner.id);
  if (digests === undefined) tx.run(all);
  else for (const digest of digests) tx.run(all.where('digest', '=', digest));
}

export function notHere(workspace: string, digest: string): ServiceError {
  return new ServiceError(
    'not-found',
    'blob.not-found',
    `The content ${digest} has not been uploaded to the workspace ${workspace}.`,
  );
}

export const blobTransactions = transactions('blob', {
  hold(tx: Transaction, { workspace, all, at }: { workspace: string; all: readonly Stored[]; at: string }): void {
    for (const stored of all) hold(tx, workspace, stored, at);
  },
});

export const blobReadings = readings('blob', {
  sizeHeld(tx: Transaction, { workspace, digest }: { workspace: string; digest: string }): number | undefined {
    return sizeHeld(tx, workspace, digest);
  },

  /** The sizes of many; null where the workspace does not have one. */
  sizesHeld(
    tx: Transaction,
    { workspace, digests }: { workspace: string; digests: readonly string[] },
  ): (number | null)[] {
    const query = tx.statement<{ size_bytes: number }>(
      'SELECT size_bytes FROM blob_held WHERE workspace = ? AND digest = ?',
    );
    return digests.map((digest) => query.get(workspace, digest)?.size_bytes ?? null);
  },
});
