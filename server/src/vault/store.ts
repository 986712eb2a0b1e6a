// Rows of the vault: a data key for each workspace, sealed with the master key, and secrets by name and version, sealed with their
// workspace's data key. Both go with the workspace. The workspace without a name is the server's own.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';

export interface KeyRow {
  workspace: string;
  sealed: string;
}

export interface SecretRow {
  workspace: string;
  name: string;
  version: number;
  sealed: string;
  created_at: string;
  created_by: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    vault_key: KeyRow;
    secret: SecretRow;
  }
}

export const vaultMigrations: Migration[] = [
  {
    name: '0080-vault',
    up: `
      CREATE TABLE vault_key (workspace TEXT PRIMARY KEY COLLATE NOCASE, sealed TEXT NOT NULL) STRICT, WITHOUT ROWID;
      CREATE TABLE secret (
        workspace TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE, version INTEGER NOT NULL, sealed TEXT NOT NULL, created_at TEXT NOT NULL,
        created_by TEXT NOT NULL, PRIMARY KEY (workspace, name, version)
      ) STRICT, WITHOUT ROWID;
    `,
  },
];

type One = Pick<SecretRow, 'workspace' | 'name'>;

export const vaultTransactions = transactions('vault', {
  /** Of two that make it at the same time, the first counts. */
  keepKey(tx: Transaction, row: KeyRow): KeyRow {
    tx.statement('INSERT OR IGNORE INTO vault_key (workspace, sealed) VALUES (?, ?)').run(row.workspace, row.sealed);
    return tx.first(sql.selectFrom('vault_key').selectAll().where('workspace', '=', row.workspace))!;
  },

  /** All of them, or none: false if there is one more by now, and nothing is changed. */
  replaceKeys(tx: Transaction, { rows }: { rows: readonly KeyRow[] }): boolean {
    const { count } = tx.statement<{ count: number }>('SELECT count(*) AS count FROM vault_key').get()!;
    if (count !== rows.length) return false;
    const replace = tx.statement('UPDATE vault_key SET sealed = ? WHERE workspace = ?');
    for (const { workspace, sealed } of rows) replace.run(sealed, workspace);
    return true;
  },

  /** The version that a new value has: what is sealed says it, so it is asked for first. */
  nextVersion(tx: Transaction, { workspace, name }: One): number {
    const found = tx
      .statement<{ version: number | null }>(
        'SELECT max(version) AS version FROM secret WHERE workspace = ? AND name = ?',
      )
      .get(workspace, name)!;
    const { count } = tx
      .statement<{ count: number }>('SELECT count(DISTINCT name) AS count FROM secret WHERE workspace = ?')
      .get(workspace)!;
    if (found.version === null && count >= limits.secrets)
      throw new ServiceError(
        'resource-exhausted',
        'secret.too-many',
        `The workspace ${workspace} has ${limits.secrets} secrets already.`,
      );
    return (found.version ?? 0) + 1;
  },

  /** False if another was quicker. Of many versions the newest stay. */
  insert(tx: Transaction, row: SecretRow): boolean {
    const { workspace, name, version } = row;
    const taken = tx
      .statement('SELECT 1 FROM secret WHERE workspace = ? AND name = ? AND version >= ?')
      .get(workspace, name, version);
    if (taken !== undefined) return false;
    tx.run(sql.insertInto('secret').values(row));
    tx.statement('DELETE FROM secret WHERE workspace = ? AND name = ? AND version <= ?').run(
      workspace,
      name,
      version - limits.secretVersions,
    );
    return true;
  },

  delete(tx: Transaction, { workspace, name }: One): boolean {
    return tx.statement('DELETE FROM secret WHERE workspace = ? AND name = ?').run(workspace, name) > 0;
  },
});
