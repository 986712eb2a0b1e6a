// Rows of experiments. Runs count themselves into theirs, inside the transaction that makes them.
import { ServiceError } from '@stellwerk/contract/errors.ts';
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
  /** Those in the trash are not counted; the number of the last one is never given again. */
  run_count: number;
  last_number: number;
  archived_at: string | null;
  /** The entry of the trash it lies in. */
  trash: number | null;
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
  {
    name: '0032-experiment-trash',
    up: `
      ALTER TABLE experiment ADD COLUMN last_number INTEGER NOT NULL DEFAULT 0;
      ALTER TABLE experiment ADD COLUMN archived_at TEXT;
      ALTER TABLE experiment ADD COLUMN trash INTEGER;
      UPDATE experiment SET last_number = run_count;
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
  if (found && found.trash !== null) throw inTrash(found, 'conflict');
  if (found) return found;
  const row: Omit<ExperimentRow, 'key'> = {
    workspace: made.workspace,
    name: made.name,
    description: made.description ?? null,
    tags: JSON.stringify(made.tags ?? {}),
    created_at: made.at,
    created_by: made.by,
    run_count: 0,
    last_number: 0,
    archived_at: null,
    trash: null,
    last_run_at: null,
    used_at: made.at,
  };
  tx.run(sql.insertInto('experiment').values(row as ExperimentRow));
  return experimentNamed(tx, made.workspace, made.name)!;
}

/** Counts a new run: made if there is no such experiment. Returns the run's number in it. An archived one takes only what a run brings forth. */
export function countRun(tx: Transaction, made: Made, isChild: boolean): number {
  const { key, run_count, last_number, archived_at } = makeExperiment(tx, made);
  if (archived_at !== null && !isChild)
    throw new ServiceError(
      'failed-precondition',
      'experiment.archived',
      `The experiment ${JSON.stringify(made.name)} of the workspace ${made.workspace} is archived.`,
    );
  const number = last_number + 1;
  const set = { run_count: run_count + 1, last_number: number, last_run_at: made.at, used_at: made.at };
  tx.run(sql.updateTable('experiment').set(set).where('key', '=', key));
  return number;
}

/** So many runs went into the trash, or came back from it. */
export function recountRuns(tx: Transaction, workspace: string, name: string, more: number): void {
  tx.statement('UPDATE experiment SET run_count = run_count + ? WHERE workspace = ? AND name = ?').run(
    more,
    workspace,
    name,
  );
}

export function requireExperiment(tx: Transaction, workspace: string, name: string): ExperimentRow {
  const row = experimentNamed(tx, workspace, name);
  if (row?.trash === null) return row;
  throw row ? inTrash(row) : noExperiment(workspace, name);
}

export function noExperiment(workspace: string, name: string): ServiceError {
  return new ServiceError(
    'not-found',
    'experiment.not-found',
    `There is no experiment ${JSON.stringify(name)} in the workspace ${workspace}.`,
  );
}

export function inTrash(
  { workspace, name, trash }: ExperimentRow,
  code: 'not-found' | 'conflict' = 'not-found',
): ServiceError {
  return new ServiceError(
    code,
    'experiment.in-trash',
    `The experiment ${JSON.stringify(name)} of the workspace ${workspace} lies in the trash, in the entry ${trash}.`,
    { entry: trash },
  );
}

export function setExperiment(tx: Transaction, key: number, set: Partial<ExperimentRow>): void {
  tx.run(sql.updateTable('experiment').set(set).where('key', '=', key));
}

export const experimentTransactions = transactions('experiment', {
  create(tx: Transaction, made: Made): ExperimentRow {
    return makeExperiment(tx, made);
  },

  update(
    tx: Transaction,
    { workspace, name, set }: { workspace: string; name: string; set: Partial<ExperimentRow> },
  ): ExperimentRow {
    const row = requireExperiment(tx, workspace, name);
    if (Object.keys(set).length > 0) setExperiment(tx, row.key, set);
    return { ...row, ...set };
  },
});
