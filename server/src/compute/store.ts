// Rows of attached compute targets. `local`, and `host` on a single-user server, are just there and have no row.
import type { ComputeTarget } from '@stellwerk/contract/compute.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';

export interface ComputeRow {
  workspace: string;
  name: string;
  kind: ComputeTarget['kind'];
  /** JSON. */
  settings: string;
  state: ComputeTarget['state'];
  reason: string | null;
  description: string | null;
  tags: string;
  created_at: string;
  created_by: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    compute: ComputeRow;
  }
}

export const computeMigrations: Migration[] = [
  {
    name: '0003-compute',
    up: `
      CREATE TABLE compute (
        workspace TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE, kind TEXT NOT NULL, settings TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
        description TEXT, tags TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL, PRIMARY KEY (workspace, name)
      ) STRICT, WITHOUT ROWID;
    `,
  },
];

export const computeTransactions = transactions('compute', {
  insert(tx: Transaction, row: ComputeRow): void {
    const taken = tx.first(
      sql.selectFrom('compute').select('name').where('workspace', '=', row.workspace).where('name', '=', row.name),
    );
    if (taken)
      throw new ServiceError(
        'conflict',
        'compute.name-taken',
        `There is a compute target ${taken.name} in the workspace ${row.workspace} already.`,
      );
    tx.run(sql.insertInto('compute').values(row));
  },

  update(
    tx: Transaction,
    { workspace, name, set }: { workspace: string; name: string; set: Partial<ComputeRow> },
  ): void {
    tx.run(sql.updateTable('compute').set(set).where('workspace', '=', workspace).where('name', '=', name));
  },

  delete(tx: Transaction, { workspace, name }: { workspace: string; name: string }): void {
    tx.run(sql.deleteFrom('compute').where('workspace', '=', workspace).where('name', '=', name));
  },
});
