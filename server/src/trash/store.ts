// Rows of the trash: one for each thing that was deleted, whatever went with it. What lies there stays in its own table, where a
// column names the entry; the rooms that it belongs to hide it.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { TrashEntry, TrashKind } from '@stellwerk/contract/trash.ts';
import { type Change, changeActivity } from '../activity/activities.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';

export interface TrashRow {
  id: number;
  workspace: string;
  kind: TrashKind;
  name: string;
  runs: number | null;
  deleted_at: string;
  deleted_by: string;
  /** When it is to be gone, in ms. */
  due_at: number;
  /** What is going cannot be restored any more; what is coming back does not go. */
  state: 'kept' | 'going' | 'returning';
}

declare module '../db/schema.ts' {
  interface Schema {
    trash: TrashRow;
  }
}

export const trashMigrations: Migration[] = [
  {
    name: '0033-trash',
    up: `
      CREATE TABLE trash (
        id INTEGER PRIMARY KEY AUTOINCREMENT, workspace TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, runs INTEGER, deleted_at TEXT NOT NULL,
        deleted_by TEXT NOT NULL, due_at INTEGER NOT NULL, state TEXT NOT NULL
      ) STRICT;
      CREATE INDEX trash_by_workspace ON trash (workspace, id);
      CREATE INDEX trash_by_time ON trash (due_at);
    `,
  },
];

/** Who deletes, and how long it lies. */
export interface Disposal {
  by: string;
  at: string;
  dueAt: number;
}

/** For the room that the thing belongs to, in the transaction that hides it. */
export function discard(
  tx: Transaction,
  what: { workspace: string; kind: TrashKind; name: string; runs?: number | undefined },
  { by, at, dueAt }: Disposal,
): TrashRow {
  const { id } = tx
    .statement<{ id: number }>(
      `INSERT INTO trash (workspace, kind, name, runs, deleted_at, deleted_by, due_at, state) VALUES (?, ?, ?, ?, ?, ?, ?, 'kept') RETURNING id`,
    )
    .get(what.workspace, what.kind, what.name, what.runs ?? null, at, by, dueAt)!;
  return entryRow(tx, id)!;
}

export function entryRow(tx: Transaction, id: number): TrashRow | undefined {
  return tx.statement<TrashRow>('SELECT * FROM trash WHERE id = ?').get(id);
}

export function countIn(tx: Transaction, id: number, runs: number): void {
  tx.statement('UPDATE trash SET runs = coalesce(runs, 0) + ? WHERE id = ?').run(runs, id);
}

/** From now on it comes back, if it has not begun to go. */
export function comeBack(tx: Transaction, { workspace, id }: Pick<TrashRow, 'workspace' | 'id'>): void {
  const changed = tx
    .statement("UPDATE trash SET state = 'returning' WHERE id = ? AND workspace = ? AND state <> 'going'")
    .run(id, workspace);
  if (changed === 0) throw noEntry(workspace, id);
}

export function dropEntry(tx: Transaction, id: number): void {
  tx.statement('DELETE FROM trash WHERE id = ?').run(id);
}

export function noEntry(workspace: string, id: number): ServiceError {
  return new ServiceError(
    'not-found',
    'trash.not-found',
    `There is no entry ${id} in the trash of the workspace ${workspace} that could be restored.`,
  );
}

export const trashTransactions = transactions('trash', {
  /** From now on it cannot be restored. False if it was, or is gone. */
  begin(tx: Transaction, { id }: { id: number }): boolean {
    return (
      tx.run(sql.updateTable('trash').set({ state: 'going' }).where('id', '=', id).where('state', '<>', 'returning')) >
      0
    );
  },

  /** It is gone; who emptied the trash notes that with it. */
  end(tx: Transaction, { id, noting }: { id: number; noting?: Noting | undefined }): void {
    dropEntry(tx, id);
    if (noting) changeActivity(tx, noting.activity, noting.change, noting.fence);
  },
});

export interface Noting {
  activity: string;
  fence: number;
  change: Change;
}

export function entryOf(row: TrashRow): TrashEntry {
  return {
    id: row.id,
    kind: row.kind,
    name: row.name,
    ...(row.runs !== null && { runs: row.runs }),
    deletedAt: row.deleted_at,
    deletedBy: row.deleted_by,
    until: new Date(row.due_at).toISOString(),
  };
}
