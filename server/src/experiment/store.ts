// Rows of experiments. Runs count themselves into theirs, inside the transaction that makes them.
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';

export interface ExperimentRow {
  key: number;
  workspace: string;
  name: string;
  description: string | null;
  /** JSON. */
  tags: string;
  created_at: string;
  created_by: string;
  run_count: number;
  last_run_at: string | null;
  /** `last_run_at`, else `created_at`: the order of the list. */
  used_at: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    experiment: ExperimentRow;
  }
}

export const experimentMigrations: Migration[] = [
  {
    name: '0007-experiment',
    up: `
      CREATE TABLE experiment (
        key INTEGER PRIMARY KEY, workspace TEXT NOT NULL, name TEXT NOT NULL, description TEXT, tags TEXT NOT NULL, created_at TEXT NOT NULL,
        created_by TEXT NOT NULL, run_count INTEGER NOT NULL, last_run_at TEXT, used_at TEXT NOT NULL
      ) STRICT;
      CREATE UNIQUE INDEX experiment_by_name ON experiment (workspace, name);
      CREATE INDEX experiment_by_use ON experiment (workspace, used_at, key);
    `,
  },
];

export interface Made {
  workspace: string;
  name: string;
  at: string;
  by: string;
  description?: string | undefined;
  tags?: Record<string, string> | undefined;
}

export function experimentNamed(tx: Transaction, workspace: string, name: string): ExperimentRow | undefined {
  return tx.first(sql.selectFrom('experiment').selectAll().where('workspace', '=', workspace).where('name', '=', name));
}

/** The experiment of that name, made if there is none. */
export function makeExperiment(tx: Transaction, made: Made): ExperimentRow {
  const found = experimentNamed(tx, made.workspace, made.name);
  if (found) return found;
  const row: Omit<ExperimentRow, 'key'> = {
    workspace: made.workspace,
    name: made.name,
    description: made.description ?? null,
    tags: JSON.stringify(made.tags ?? {}),
    created_at: made.at,
    created_by: made.by,
    run_count: 0,
    last_run_at: null,
    used_at: made.at,
  };
  tx.run(sql.insertInto('experiment').values(row as ExperimentRow));
  return experimentNamed(tx, made.workspace, made.name)!;
}

/** Counts a new run: made if there is no such experiment. Returns the run's number in it. */
export function countRun(tx: Transaction, made: Made): number {
  const { key, run_count: before } = makeExperiment(tx, made);
  const set = { run_count: before + 1, last_run_at: made.at, used_at: made.at };
  tx.run(sql.updateTable('experiment').set(set).where('key', '=', key));
  return before + 1;
}

export const experimentTransactions = transactions('experiment', {
  create(tx: Transaction, made: Made): ExperimentRow {
    return makeExperiment(tx, made);
  },

  update(tx: Transaction, { key, set }: { key: number; set: Partial<ExperimentRow> }): void {
    tx.run(sql.updateTable('experiment').set(set).where('key', '=', key));
  },
});
