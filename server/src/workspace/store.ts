// Rows of workspaces, and settings that hold for the whole server.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { addOwner } from '../access/access.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';

export interface WorkspaceRow {
  name: string;
  id: string;
  display_name: string | null;
  description: string | null;
  /** JSON objects of text. */
  tags: string;
  labels: string;
  created_at: string;
  created_by: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    workspace: WorkspaceRow;
  }
}

export const workspaceMigrations: Migration[] = [
  {
    name: '0012-workspace',
    up: `
      CREATE TABLE workspace (
        name TEXT PRIMARY KEY COLLATE NOCASE, id TEXT NOT NULL UNIQUE, display_name TEXT, description TEXT, tags TEXT NOT NULL, labels TEXT NOT NULL,
        created_at TEXT NOT NULL, created_by TEXT NOT NULL
      ) STRICT;
    `,
  },
];

/** Why a workspace cannot be deleted yet: a sentence, or undefined. */
type Objection = (tx: Transaction, workspace: string) => string | undefined;

const objections: Objection[] = [
  (tx, workspace) => {
    const open = sql.selectFrom('activity').select('subject').where('workspace', '=', workspace);
    const found = tx.first(open.where('ended_at', 'is', null).limit(1));
    return found && `In the workspace ${workspace}, ${found.subject} has not ended.`;
  },
];

/** For the stores of higher rooms, which know what else runs in a workspace. */
export function objectToDeletion(objection: Objection): void {
  objections.push(objection);
}

export const workspaceTransactions = transactions('workspace', {
  /** Creates a workspace with its Owner, or returns the one that has the name, if that is welcome. */
  insert(
    tx: Transaction,
    { row, existOk }: { row: WorkspaceRow; existOk: boolean },
  ): { row: WorkspaceRow; created: boolean } {
    const found = tx.first(sql.selectFrom('workspace').selectAll().where('name', '=', row.name));
    if (found && existOk) return { row: found, created: false };
    if (found)
      throw new ServiceError('conflict', 'workspace.name-taken', `There is a workspace ${found.name} already.`);
    tx.run(sql.insertInto('workspace').values(row));
    addOwner(tx, row.name, row.created_by, row.created_at);
    return { row, created: true };
  },

  update(tx: Transaction, { name, set }: { name: string; set: Partial<WorkspaceRow> }): WorkspaceRow {
    if (Object.keys(set).length > 0) tx.run(sql.updateTable('workspace').set(set).where('name', '=', name));
    return tx.first(sql.selectFrom('workspace').selectAll().where('name', '=', name))!;
  },

  /** The rows of every table that has a workspace column go, and by their references those that hang on them; the audit log stays. */
  delete(tx: Transaction, { name }: { name: string }): void {
    for (const objection of objections) {
      const why = objection(tx, name);
      if (why !== undefined) throw new ServiceError('failed-precondition', 'workspace.in-use', why);
    }
    const tables = tx.statement<{ name: string }>(
      "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c ON c.name = 'workspace' WHERE m.type = 'table' AND m.name <> 'audit'",
    );
    for (const table of tables.all()) tx.statement(`DELETE FROM "${table.name}" WHERE workspace = ?`).run(name);
    tx.run(sql.deleteFrom('workspace').where('name', '=', name));
  },
});
