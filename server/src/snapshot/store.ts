// Rows of snapshots: one for each, however many files it has. The listing is a content that the snapshot refers to; the contents of
// its files are counted as listed once, when it is complete.

import { ServiceError } from '@stellwerk/contract/errors.ts';
import { addReferences, hold, listContents, removeReferences, unlistContents } from '../blob/blobs.ts';
import type { Stored } from '../blob/bytes.ts';
import type { Migration } from '../db/migrations.ts';
import { readings, sql, type Transaction, transactions } from '../db/transactions.ts';

export interface SnapshotRow {
  workspace: string;
  digest: string;
  file_count: number;
  size_bytes: number;
  /** Whether all contents are here, and counted as listed by it. */
  complete: number;
  created_at: string;
  /** When it was last announced. */
  used_at: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    snapshot: SnapshotRow;
  }
}

export const snapshotMigrations: Migration[] = [
  {
    name: '0005-snapshot',
    up: `
      CREATE TABLE snapshot (
        workspace TEXT NOT NULL COLLATE NOCASE, digest TEXT NOT NULL, file_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
        complete INTEGER NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (workspace, digest)
      ) STRICT, WITHOUT ROWID;
    `,
  },
  {
    name: '0031-snapshot-use',
    // Complete again, and counted, when they are looked at next: by a collection at the latest.
    up: "ALTER TABLE snapshot ADD COLUMN used_at TEXT NOT NULL DEFAULT ''; UPDATE snapshot SET complete = 0;",
  },
];

type InUse = (tx: Transaction, workspace: string, digest: string) => boolean;
const users: InUse[] = [];

/** For the stores of higher rooms, which know who has a snapshot: what one of them has is not collected. */
export function usesSnapshots(inUse: InUse): void {
  users.push(inUse);
}

const isUsed = (tx: Transaction, workspace: string, digest: string) =>
  users.some((inUse) => inUse(tx, workspace, digest));

function rowOf(tx: Transaction, { workspace, digest }: { workspace: string; digest: string }): SnapshotRow | undefined {
  return tx.statement<SnapshotRow>('SELECT * FROM snapshot WHERE workspace = ? AND digest = ?').get(workspace, digest);
}

/** For who begins to use it, in their own transaction: it is there, whole, until they let go of it. */
export function useSnapshot(tx: Transaction, workspace: string, digest: string): void {
  if (rowOf(tx, { workspace, digest })?.complete === 1) return;
  throw new ServiceError(
    'failed-precondition',
    'snapshot.incomplete',
    `The snapshot ${digest} is not in the workspace ${workspace}, or not whole: it was not used for long and was collected.`,
  );
}

export function noSnapshot(workspace: string, digest: string): ServiceError {
  return new ServiceError(
    'not-found',
    'snapshot.not-found',
    `There is no snapshot ${digest} in the workspace ${workspace}.`,
  );
}

interface Of {
  workspace: string;
  digest: string;
  /** Of its files, each once. */
  contents: string[];
}

export const snapshotTransactions = transactions('snapshot', {
  /** Creates a snapshot, or gives the one that is there. */
  insert(tx: Transaction, { row, listing }: { row: SnapshotRow; listing: Stored }): SnapshotRow {
    const found = rowOf(tx, row);
    if (found) return found;
    hold(tx, row.workspace, listing, row.created_at);
    addReferences(tx, row.workspace, { kind: 'snapshot', id: row.digest }, [listing.digest]);
    tx.run(sql.insertInto('snapshot').values(row));
    return row;
  },

  /** It was announced again: it is not collected for a while. Undefined if it is not there. */
  touch(tx: Transaction, { at, ...of }: { workspace: string; digest: string; at: string }): SnapshotRow | undefined {
    const set = sql.updateTable('snapshot').set({ used_at: at });
    tx.run(set.where('workspace', '=', of.workspace).where('digest', '=', of.digest));
    return rowOf(tx, of);
  },

  /** Its contents are here: from now on they stay as long as it does. Refused, with nothing done, if one is not here any more. */
  complete(tx: Transaction, { workspace, digest, contents }: Of): boolean {
    const row = rowOf(tx, { workspace, digest });
    if (!row) throw noSnapshot(workspace, digest);
    if (row.complete === 1) return true;
    const missing = listContents(tx, workspace, contents);
    if (missing.length > 0) {
      const gone = new Set(missing);
      unlistContents(
        tx,
        workspace,
        contents.filter((content) => !gone.has(content)),
      );
      return false;
    }
    const set = sql.updateTable('snapshot').set({ complete: 1 });
    tx.run(set.where('workspace', '=', workspace).where('digest', '=', digest));
    return true;
  },

  /** Unless it is used, or was announced since. */
  remove(tx: Transaction, { workspace, digest, contents, before }: Of & { before: string }): boolean {
    const row = rowOf(tx, { workspace, digest });
    if (!row || row.used_at > before || isUsed(tx, workspace, digest)) return false;
    if (row.complete === 1) unlistContents(tx, workspace, contents);
    removeReferences(tx, workspace, { kind: 'snapshot', id: digest });
    tx.run(sql.deleteFrom('snapshot').where('workspace', '=', workspace).where('digest', '=', digest));
    return true;
  },
});

export const snapshotReadings = readings('snapshot', {
  /** What nobody uses, a bounded part of the table at a time. */
  unused(
    tx: Transaction,
    { after, before, limit }: { after: SnapshotRow | undefined; before: string; limit: number },
  ): { rows: SnapshotRow[]; last: SnapshotRow | undefined } {
    const part = tx
      .statement<SnapshotRow>(
        'SELECT * FROM snapshot WHERE (workspace, digest) > (?, ?) ORDER BY workspace, digest LIMIT ?',
      )
      .all(after?.workspace ?? '', after?.digest ?? '', limit);
    const rows = part.filter((row) => row.used_at <= before && !isUsed(tx, row.workspace, row.digest));
    return { rows, last: part.length < limit ? undefined : part.at(-1) };
  },

  /** Those that are used and not counted as complete: of an older version of the server. */
  uncounted(tx: Transaction): SnapshotRow[] {
    const rows = tx.statement<SnapshotRow>('SELECT * FROM snapshot WHERE complete = 0').all();
    return rows.filter((row) => isUsed(tx, row.workspace, row.digest));
  },
});
