// Rows of attached compute targets. `local`, and `host` on a single-user server, are just there and have no row.
import type { ComputeTarget } from '@stellwerk/contract/compute.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { type Beginning, beginActivity, hasEnded, isHeld } from '../activity/activities.ts';
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
  /** JSON: ComputeProvisioning, of one that was created; and the target that it was created on. */
  provisioning: string | null;
  base: string | null;
  /** JSON: { settings } or { provisioning } that it is being changed to. */
  wanted: string | null;
  activity: string | null;
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
  {
    name: '0092-compute-lifetime',
    up: `
      ALTER TABLE compute ADD COLUMN provisioning TEXT;
      ALTER TABLE compute ADD COLUMN base TEXT;
      ALTER TABLE compute ADD COLUMN wanted TEXT;
      ALTER TABLE compute ADD COLUMN activity TEXT;
    `,
  },
];

type Named = Pick<ComputeRow, 'workspace' | 'name'>;

function rowNamed(tx: Transaction, { workspace, name }: Named): ComputeRow | undefined {
  return tx.first(sql.selectFrom('compute').selectAll().where('workspace', '=', workspace).where('name', '=', name));
}

function set(tx: Transaction, { workspace, name }: Named, change: Partial<ComputeRow>): void {
  tx.run(sql.updateTable('compute').set(change).where('workspace', '=', workspace).where('name', '=', name));
}

/** The activity that changes it, as long as its worker holds it. */
export interface Holding {
  id: string;
  fence: number;
}

export const computeTransactions = transactions('compute', {
  /** A new one, with the activity that makes it usable. */
  insert(tx: Transaction, { row, activity }: { row: ComputeRow; activity: Beginning }): void {
    const taken = rowNamed(tx, row);
    if (taken)
      throw new ServiceError(
        'conflict',
        'compute.name-taken',
        `There is a compute target ${taken.name} in the workspace ${row.workspace} already.`,
      );
    tx.run(sql.insertInto('compute').values({ ...row, activity: activity.id }));
    beginActivity(tx, activity);
  },

  /** Begins to change one, which nothing else is changing. */
  begin(
    tx: Transaction,
    { of, change, activity }: { of: Named; change: Partial<ComputeRow>; activity: Beginning },
  ): void {
    const row = rowNamed(tx, of);
    if (!row || (row.activity !== null && !hasEnded(tx, row.activity)))
      throw new ServiceError(
        'conflict',
        'compute.not-ready',
        `The compute target ${of.name} is being changed by the activity ${row?.activity}.`,
      );
    set(tx, of, { ...change, activity: activity.id });
    beginActivity(tx, activity);
  },

  update(tx: Transaction, { of, change, held }: { of: Named; change: Partial<ComputeRow>; held?: Holding }): void {
    if (!held || isHeld(tx, held.id, held.fence)) set(tx, of, change);
  },

  delete(tx: Transaction, { of: { workspace, name }, held }: { of: Named; held: Holding }): void {
    if (!isHeld(tx, held.id, held.fence)) return;
    tx.run(sql.deleteFrom('compute').where('workspace', '=', workspace).where('name', '=', name));
  },
});
