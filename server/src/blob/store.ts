// Rows of contents: which workspace has which, and who refers to it. The references are the reference counts.
// A content without a reference may be collected some time after `since`. The contents of snapshots have no rows for each
// reference, since snapshots share most of them and have many: it is counted how many snapshots list a content (`snapshots`).
// A run's token can use what it brought itself only, whatever else its workspace has: knowing a digest is not having the content.
// What the server makes for itself (layers, base images) is held by the workspace without a name, and collected when it was not used for long.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Migration } from '../db/migrations.ts';
import { readings, sql, type Transaction, transactions } from '../db/transactions.ts';
import type { Digest, Stored } from './bytes.ts';

export interface HeldRow {
  workspace: string;
  digest: string;
  size_bytes: number;
  /** When the workspace last was given it, or it was last looked for there. */
  since: string;
  /** How many complete snapshots of the workspace list it. */
  snapshots: number;
}

/** That a run's token brought all the bytes of a content. */
export interface BroughtRow {
  workspace: string;
  digest: string;
  run: string;
  at: string;
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
    blob_brought: BroughtRow;
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
  {
    name: '0050-blob-brought',
    up: `
      CREATE TABLE blob_brought (
        workspace TEXT NOT NULL COLLATE NOCASE, digest TEXT NOT NULL, run TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (workspace, digest, run)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX blob_brought_by_time ON blob_brought (at);
    `,
  },
  { name: '0030-blob-snapshots', up: 'ALTER TABLE blob_held ADD COLUMN snapshots INTEGER NOT NULL DEFAULT 0;' },
];

/** Of no workspace: what the server makes for itself. */
export const ownWorkspace = '';

/** What refers to contents, such as `{ kind: 'model', id: '17' }`. */
export interface Owner {
  kind: string;
  id: string;
}

/** Whose token asks, if it is that of a run; a user's reaches whatever the workspace has. */
export type Bearer = string | undefined;

/** The size of a content that the workspace has, or that the run brought to it; undefined otherwise, whatever others have. */
export function sizeHeld(tx: Transaction, workspace: string, digest: string, by?: Bearer): number | undefined {
  if (by !== undefined && !isBrought(tx, workspace, digest, by)) return undefined;
  return tx
    .statement<{ size_bytes: number }>('SELECT size_bytes FROM blob_held WHERE workspace = ? AND digest = ?')
    .get(workspace, digest)?.size_bytes;
}

function isBrought(tx: Transaction, workspace: string, digest: string, run: string): boolean {
  const brought = tx.statement('SELECT 1 FROM blob_brought WHERE workspace = ? AND digest = ? AND run = ?');
  return brought.get(workspace, digest, run) !== undefined;
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

/** Takes contents that the server made for itself into a workspace, for an owner there. Refused if one is not there any more. */
export function takeOwn(
  tx: Transaction,
  workspace: string,
  owner: Owner,
  digests: readonly string[],
  at: string,
): void {
  for (const digest of digests) {
    const sizeBytes = sizeHeld(tx, ownWorkspace, digest);
    if (sizeBytes !== undefined) hold(tx, workspace, { digest: digest as Digest, sizeBytes }, at);
  }
  addReferences(tx, workspace, owner, digests);
}

/** One more snapshot lists these contents. Undone by the transaction, with what is missing told, if the workspace lacks one. */
export function listContents(tx: Transaction, workspace: string, digests: readonly string[]): string[] {
  const more = tx.statement('UPDATE blob_held SET snapshots = snapshots + 1 WHERE workspace = ? AND digest = ?');
  return digests.filter((digest) => more.run(workspace, digest) === 0);
}

export function unlistContents(tx: Transaction, workspace: string, digests: readonly string[]): void {
  const less = tx.statement('UPDATE blob_held SET snapshots = snapshots - 1 WHERE workspace = ? AND digest = ?');
  for (const digest of digests) less.run(workspace, digest);
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

const forgottenAtOnce = 5_000;

export const blobTransactions = transactions('blob', {
  hold(
    tx: Transaction,
    { workspace, all, at, by }: { workspace: string; all: readonly Stored[]; at: string; by?: Bearer },
  ): void {
    for (const stored of all) hold(tx, workspace, stored, at);
    if (by === undefined) return;
    const bring = tx.statement(
      `INSERT INTO blob_brought (workspace, digest, run, at) VALUES (?, ?, ?, ?)
       ON CONFLICT (workspace, digest, run) DO UPDATE SET at = excluded.at`,
    );
    for (const { digest } of all) bring.run(workspace, digest, by, at);
  },

  /** Somebody looked for it, and may be about to refer to it. Undefined if the workspace, or the run, does not have it. */
  touch(
    tx: Transaction,
    { workspace, digest, at, by }: { workspace: string; digest: string; at: string; by?: Bearer },
  ): number | undefined {
    if (by !== undefined && !isBrought(tx, workspace, digest, by)) return undefined;
    return tx
      .statement<{ size_bytes: number }>(
        'UPDATE blob_held SET since = max(since, ?) WHERE workspace = ? AND digest = ? RETURNING size_bytes',
      )
      .get(at, workspace, digest)?.size_bytes;
  },

  touchAll(
    tx: Transaction,
    { workspace, digests, at }: { workspace: string; digests: readonly string[]; at: string },
  ): void {
    const touch = tx.statement('UPDATE blob_held SET since = max(since, ?) WHERE workspace = ? AND digest = ?');
    for (const digest of digests) touch.run(at, workspace, digest);
  },

  /** Takes contents that nothing refers to from their workspaces. Returns those that none has any more. */
  release(tx: Transaction, { all, before }: { all: readonly Held[]; before: Before }): Digest[] {
    const take = tx.statement(
      `DELETE FROM blob_held WHERE workspace = ? AND digest = ? AND snapshots = 0 AND since <= ?
       AND NOT EXISTS (SELECT 1 FROM blob_ref r WHERE r.workspace = blob_held.workspace AND r.digest = blob_held.digest)`,
    );
    const taken = all.filter(({ workspace, digest }) => take.run(workspace, digest, limitOf(workspace, before)) > 0);
    const forget = tx.statement('DELETE FROM blob_brought WHERE workspace = ? AND digest = ?');
    for (const { workspace, digest } of taken) forget.run(workspace, digest);
    return unheld(tx, [...new Set(taken.map(({ digest }) => digest))]);
  },

  /** Who brought what is of use while a run's token is good. Returns whether there may be more to forget: it is done in parts. */
  forgetBrought(tx: Transaction, { before }: { before: string }): boolean {
    const forget = tx.statement(
      `DELETE FROM blob_brought WHERE (workspace, digest, run) IN
       (SELECT workspace, digest, run FROM blob_brought WHERE at < ? LIMIT ${forgottenAtOnce})`,
    );
    return forget.run(before) === forgottenAtOnce;
  },
});

/** In all workspaces together. */
export interface ContentUse {
  references: number;
  snapshots: number;
  sizeBytes: number;
}

export interface Held {
  workspace: string;
  digest: Digest;
}

/** What came in, or was used, later than this stays. */
export interface Before {
  contents: string;
  own: string;
}

const limitOf = (workspace: string, before: Before) => (workspace === ownWorkspace ? before.own : before.contents);

function unheld(tx: Transaction, digests: readonly Digest[]): Digest[] {
  const held = tx.statement('SELECT 1 FROM blob_held WHERE digest = ? LIMIT 1');
  return digests.filter((digest) => held.get(digest) === undefined);
}

export const blobReadings = readings('blob', {
  held(tx: Transaction, { workspace, digest, by }: { workspace: string; digest: string; by?: Bearer }) {
    if (by !== undefined && !isBrought(tx, workspace, digest, by)) return undefined;
    return tx
      .statement<Pick<HeldRow, 'size_bytes' | 'since'>>(
        'SELECT size_bytes, since FROM blob_held WHERE workspace = ? AND digest = ?',
      )
      .get(workspace, digest);
  },

  sizeHeld(
    tx: Transaction,
    { workspace, digest, by }: { workspace: string; digest: string; by?: Bearer },
  ): number | undefined {
    return sizeHeld(tx, workspace, digest, by);
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

  /** Contents that nothing refers to, in the order of workspace and digest. */
  unreferenced(
    tx: Transaction,
    { after, before, limit }: { after: Held | undefined; before: Before; limit: number },
  ): { all: (Held & { sizeBytes: number })[]; last: Held | undefined } {
    const { workspace, digest } = after ?? { workspace: '', digest: '' };
    // A bounded part of the table at a time, whatever of it is referred to.
    const part = tx
      .statement<HeldRow & { referred: number }>(
        `SELECT *, EXISTS (SELECT 1 FROM blob_ref r WHERE r.workspace = h.workspace AND r.digest = h.digest) AS referred
         FROM blob_held h WHERE (workspace, digest) > (?, ?) ORDER BY workspace, digest LIMIT ?`,
      )
      .all(workspace, digest, limit);
    const free = part.filter(
      (row) => row.referred === 0 && row.snapshots === 0 && row.since <= limitOf(row.workspace, before),
    );
    const last = part.length < limit ? undefined : part.at(-1)!;
    return {
      all: free.map((row) => ({ workspace: row.workspace, digest: row.digest as Digest, sizeBytes: row.size_bytes })),
      last: last && { workspace: last.workspace, digest: last.digest as Digest },
    };
  },

  /**
   * Of contents that nothing refers to in one workspace, whether their bytes would be freed: no other workspace keeps them. Where several would
   * let go of them, the last one counts.
   */
  lastHolders(tx: Transaction, { all, before }: { all: readonly Held[]; before: Before }): boolean[] {
    const others = tx.statement<HeldRow & { referred: number }>(
      `SELECT *, EXISTS (SELECT 1 FROM blob_ref r WHERE r.workspace = h.workspace AND r.digest = h.digest) AS referred
       FROM blob_held h WHERE digest = ? AND workspace <> ?`,
    );
    return all.map(({ workspace, digest }) =>
      others
        .all(digest, workspace)
        .every(
          (row) =>
            row.referred === 0 &&
            row.snapshots === 0 &&
            row.since <= limitOf(row.workspace, before) &&
            row.workspace < workspace,
        ),
    );
  },

  unheld(tx: Transaction, { digests }: { digests: readonly Digest[] }): Digest[] {
    return unheld(tx, digests);
  },

  /** How often each content is referred to, and listed by snapshots, in all workspaces together. */
  uses(tx: Transaction, { digests }: { digests: readonly string[] }): ContentUse[] {
    const referred = tx.statement<{ count: number }>('SELECT count(*) AS count FROM blob_ref WHERE digest = ?');
    const listed = tx.statement<{ snapshots: number; sizeBytes: number }>(
      'SELECT coalesce(sum(snapshots), 0) AS snapshots, coalesce(max(size_bytes), 0) AS sizeBytes FROM blob_held WHERE digest = ?',
    );
    return digests.map((digest) => ({ references: referred.get(digest)!.count, ...listed.get(digest)! }));
  },
});
