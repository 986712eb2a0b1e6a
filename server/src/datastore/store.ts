// Rows of datastores: their names, kinds and settings; the files themselves are not in the database.
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';
import type { DatastoreKind } from './driver.ts';

export interface DatastoreRow {
  workspace: string;
  name: string;
  kind: DatastoreKind;
  /** JSON, by kind. */
  settings: string;
  is_default: number;
  created_at: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    datastore: DatastoreRow;
  }
}

export const datastoreMigrations: Migration[] = [
  {
    name: '0006-datastore',
    up: `
      CREATE TABLE datastore (
        workspace TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE, kind TEXT NOT NULL, settings TEXT NOT NULL,
        is_default INTEGER NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (workspace, name)
      ) STRICT;
      CREATE UNIQUE INDEX datastore_default ON datastore (workspace) WHERE is_default = 1;
    `,
  },
];

export const datastoreTransactions = transactions('datastore', {
  /** Safe to repeat. */
  insertDefault(tx: Transaction, row: DatastoreRow): void {
    tx.run(
      sql
        .insertInto('datastore')
        .values(row)
        .onConflict((conflict) => conflict.doNothing()),
    );
  },
});
