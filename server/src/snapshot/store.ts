// Rows of snapshots: one for each, however many files it has. The listing is a content, which is what the snapshot refers to.

import { addReferences, hold } from '../blob/blobs.ts';
import type { Stored } from '../blob/bytes.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';

export interface SnapshotRow {
  workspace: string;
  digest: string;
  file_count: number;
  size_bytes: number;
  complete: number;
  created_at: string;
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
];

export const snapshotTransactions = transactions('snapshot', {
  /** Creates a snapshot, or gives the one that is there. */
  insert(tx: Transaction, { row, listing }: { row: SnapshotRow; listing: Stored }): SnapshotRow {
    const of = sql
      .selectFrom('snapshot')
      .selectAll()
      .where('workspace', '=', row.workspace)
      .where('digest', '=', row.digest);
    const found = tx.first(of);
    if (found) return found;
    hold(tx, row.workspace, listing, row.created_at);
    addReferences(tx, row.workspace, { kind: 'snapshot', id: row.digest }, [listing.digest]);
    tx.run(sql.insertInto('snapshot').values(row));
    return row;
  },

  complete(tx: Transaction, { workspace, digest }: { workspace: string; digest: string }): void {
    tx.run(
      sql.updateTable('snapshot').set({ complete: 1 }).where('workspace', '=', workspace).where('digest', '=', digest),
    );
  },
});
