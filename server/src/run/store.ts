// Rows of runs. A run has a small integer key, by which everything that belongs to it is kept; its id is the user's.
// What must not enter a record (secrets, the handle of its job, how the environment is made) stands in a row of its own.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { RunState } from '@stellwerk/contract/run-state.ts';
import type { EndCause } from '../compute/computes.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction } from '../db/transactions.ts';
import { usesSnapshots } from '../snapshot/snapshots.ts';
import { objectToDeletion } from '../workspace/workspaces.ts';

// Those that were started interactively have no activity.
objectToDeletion((tx, workspace) => {
  const open = sql.selectFrom('run').select('id').where('workspace', '=', workspace).where('ended_at', 'is', null);
  const found = tx.first(open.limit(1));
  return found && `In the workspace ${workspace}, the run ${found.id} has not ended.`;
});

// Those in the trash too: they can be restored.
usesSnapshots(
  (tx, workspace, digest) =>
    tx.statement('SELECT 1 FROM run WHERE workspace = ? AND snapshot = ? LIMIT 1').get(workspace, digest) !== undefined,
);

export interface RunRow {
  key: number;
  workspace: string;
  id: string;
  experiment: string;
  number: number;
  display_name: string | null;
  description: string | null;
  parent_key: number | null;
  root_key: number;
  /** The ids, which never change, beside the keys: records are made without looking for them. */
  parent: string | null;
  root: string;
  child_count: number;
  state: RunState;
  /** Where a lost run comes back to. */
  state_before: RunState | null;
  reason: string | null;
  attempt: number;
  interactive: number;
  target: string | null;
  /** The queue it waits in and takes a place of; null where runs do not wait. */
  queue: string | null;
  /** Whether it takes one of the places of its queue. */
  placed: number;
  /** Of those that wait, the greater one comes first: 0 low, 1 normal, 2 high. */
  priority: number;
  /** JSON: ReadResources. */
  asked: string | null;
  /** JSON: the GPUs that it was given. */
  gpus: string | null;
  /** JSON: RunConfiguration. */
  configuration: string | null;
  snapshot: string | null;
  /** JSON: Run['environment'] and Run['git']. */
  environment: string | null;
  git: string | null;
  user: string;
  host: string | null;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  duration_ms: number | null;
  exit_code: number | null;
  /** JSON. */
  last_lines: string | null;
  activity: string | null;
  cancel_requested: number;
  /** The run whose runner speaks for this one too: children live in their parent's process. */
  attendant_key: number;
  /** Whether its own runner must be heard of. */
  leased: number;
  /** Of what it was made from, so that making it again is recognised. */
  content_hash: string;
  /** The id of the run that it does again. */
  resubmitted_from: string | null;
  /** JSON: Run['differences']. */
  differences: string | null;
  /** JSON: JobFacts and Usage. */
  job: string | null;
  usage: string | null;
  archived_at: string | null;
  /** The entry of the trash it lies in. */
  trash: number | null;
}

export interface ParameterRow {
  run_key: number;
  name: string;
  kind: 'number' | 'text' | 'boolean' | 'null';
  number: number | null;
  text: string | null;
}

export interface PrivateRow {
  run_key: number;
  /** Sealed JSON; only until the run has ended. */
  secrets: string | null;
  /** JSON: JobHandle. */
  handle: string | null;
  /** JSON: EnvironmentPlan. */
  plan: string | null;
  /** Until when the newest token is good, in ms. */
  token_until: number;
  /** When it was asked to stop, in ms. */
  cancel_at: number | null;
  /** Whether its runner has been asked. */
  cancel_asked: number;
  /** What its newest attempt ended for, once another one is to follow. */
  ended_for: EndCause | null;
}

export interface LabelRow {
  run_key: number;
  name: string;
  value: string;
  /** The value, where it reads as a number: queries compare it as one. */
  number: number | null;
}

export interface RunFileRow {
  run_key: number;
  path: string;
  digest: string;
  size_bytes: number;
  at: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    run: RunRow;
    run_private: PrivateRow;
    run_parameter: ParameterRow;
    run_tag: LabelRow;
    run_property: LabelRow;
    run_arguments: { run_key: number; text: string };
    run_file: RunFileRow;
  }
}

const labels = (table: string) => `
      CREATE TABLE ${table} (
        run_key INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run_key, name)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX ${table}_by_value ON ${table} (name, value, run_key);`;

/** A column of REAL turns text into a number only where all of it is one. */
const numbered = (table: string) => `
      ALTER TABLE ${table} ADD COLUMN number REAL;
      DELETE FROM reads_as_number;
      INSERT INTO reads_as_number SELECT run_key, name, value FROM ${table};
      UPDATE ${table} SET number = found.value FROM reads_as_number AS found
      WHERE typeof(found.value) = 'real' AND found.run_key = ${table}.run_key AND found.name = ${table}.name;
      CREATE INDEX ${table}_by_number ON ${table} (name, number, run_key) WHERE number IS NOT NULL;`;

export const runMigrations: Migration[] = [
  {
    name: '0007-run',
    up: `
      CREATE TABLE run (
        key INTEGER PRIMARY KEY, workspace TEXT NOT NULL, id TEXT NOT NULL, experiment TEXT NOT NULL, number INTEGER NOT NULL, display_name TEXT,
        description TEXT, parent_key INTEGER, root_key INTEGER NOT NULL, parent TEXT, root TEXT NOT NULL, child_count INTEGER NOT NULL, state TEXT NOT NULL,
        state_before TEXT, reason TEXT, attempt INTEGER NOT NULL, interactive INTEGER NOT NULL, target TEXT, queue TEXT, placed INTEGER NOT NULL,
        configuration TEXT, snapshot TEXT, environment TEXT, git TEXT, user TEXT NOT NULL, host TEXT, created_at TEXT NOT NULL, started_at TEXT,
        ended_at TEXT, duration_ms REAL, exit_code INTEGER, last_lines TEXT, activity TEXT, cancel_requested INTEGER NOT NULL,
        attendant_key INTEGER NOT NULL, leased INTEGER NOT NULL, content_hash TEXT NOT NULL
      ) STRICT;
      CREATE UNIQUE INDEX run_by_id ON run (workspace, id);
      CREATE INDEX run_by_time ON run (workspace, created_at, key);
      CREATE INDEX run_by_experiment ON run (workspace, experiment, created_at, key);
      CREATE INDEX run_by_state ON run (workspace, state, created_at, key);
      CREATE INDEX run_by_parent ON run (parent_key, created_at, key) WHERE parent_key IS NOT NULL;
      CREATE INDEX run_by_attendant ON run (attendant_key) WHERE ended_at IS NULL;
      CREATE INDEX run_waiting ON run (queue, key) WHERE state = 'queued';
      CREATE INDEX run_placed ON run (queue) WHERE placed = 1;
      CREATE INDEX run_leased ON run (key) WHERE leased = 1;
      CREATE INDEX run_open ON run (workspace, target) WHERE ended_at IS NULL;
      CREATE TABLE run_private (
        run_key INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE, secrets TEXT, handle TEXT, plan TEXT, token_until INTEGER NOT NULL, cancel_at INTEGER,
        cancel_asked INTEGER NOT NULL
      ) STRICT;
      CREATE TABLE run_parameter (
        run_key INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, name TEXT NOT NULL, kind TEXT NOT NULL, number REAL, text TEXT, PRIMARY KEY (run_key, name)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX run_parameter_by_number ON run_parameter (name, number, run_key);
      CREATE INDEX run_parameter_by_text ON run_parameter (name, text, run_key);${labels('run_tag')}${labels('run_property')}
      CREATE TABLE run_file (
        run_key INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, path TEXT NOT NULL, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL, at TEXT NOT NULL,
        PRIMARY KEY (run_key, path)
      ) STRICT, WITHOUT ROWID;
    `,
  },
  {
    // What queries compare and sort by stands together, apart from the wide columns of a run: reading all of it is reading little.
    name: '0020-query',
    up: `
      ALTER TABLE run ADD COLUMN resubmitted_from TEXT;
      ALTER TABLE run ADD COLUMN differences TEXT;
      CREATE INDEX run_by_origin ON run (workspace, resubmitted_from) WHERE resubmitted_from IS NOT NULL;
      CREATE INDEX run_narrow ON run (
        workspace, key, created_at, experiment, state, id, number, parent, root, target, user, host, display_name, snapshot, started_at, ended_at,
        duration_ms, attempt, exit_code, child_count, interactive, resubmitted_from
      );
      CREATE INDEX run_by_end ON run (workspace, ended_at, key);
      CREATE INDEX run_by_duration ON run (workspace, duration_ms, key);
      CREATE TABLE run_arguments (run_key INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE, text TEXT NOT NULL) STRICT;
      INSERT INTO run_arguments SELECT key, coalesce((
        SELECT substr(group_concat(CASE type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE value END, ' '), 1, 32000)
        FROM json_each(configuration, '$.arguments')), '') FROM run WHERE configuration IS NOT NULL;
      CREATE TEMP TABLE reads_as_number (run_key INTEGER, name TEXT, value REAL);${numbered('run_tag')}${numbered('run_property')}
      DROP TABLE reads_as_number;
    `,
  },
  {
    name: '0034-run-trash',
    up: `
      ALTER TABLE run ADD COLUMN archived_at TEXT;
      ALTER TABLE run ADD COLUMN trash INTEGER;
      DROP INDEX run_narrow;
      CREATE INDEX run_narrow ON run (
        workspace, key, created_at, experiment, state, id, number, parent, root, target, user, host, display_name, snapshot, started_at, ended_at,
        duration_ms, attempt, exit_code, child_count, interactive, resubmitted_from, archived_at, trash
      );
      CREATE INDEX run_by_trash ON run (trash, key) WHERE trash IS NOT NULL;
      CREATE INDEX run_by_snapshot ON run (workspace, snapshot) WHERE snapshot IS NOT NULL;
    `,
  },
  {
    name: '0070-run-resources',
    up: `
      ALTER TABLE run ADD COLUMN priority INTEGER NOT NULL DEFAULT 1;
      ALTER TABLE run ADD COLUMN asked TEXT;
      ALTER TABLE run ADD COLUMN gpus TEXT;
      UPDATE run SET configuration = json_remove(json_set(configuration, '$.priority', 'normal', '$.resources', json(
        CASE WHEN json_extract(configuration, '$.timeLimitSeconds') IS NULL THEN json_object('nodes', json_extract(configuration, '$.nodeCount'))
        ELSE json_object('nodes', json_extract(configuration, '$.nodeCount'), 'timeLimit', json_extract(configuration, '$.timeLimitSeconds')) END
      )), '$.nodeCount', '$.timeLimitSeconds') WHERE configuration IS NOT NULL AND json_extract(configuration, '$.nodeCount') IS NOT NULL;
    `,
  },
  {
    name: '0090-run-job',
    up: `
      ALTER TABLE run ADD COLUMN job TEXT;
      ALTER TABLE run ADD COLUMN usage TEXT;
      ALTER TABLE run_private ADD COLUMN ended_for TEXT;
    `,
  },
];

export function runNamed(tx: Transaction, workspace: string, id: string): RunRow | undefined {
  return tx.statement<RunRow>('SELECT * FROM run WHERE workspace = ? AND id = ?').get(workspace, id);
}

export function inTrash({ workspace, id, trash }: RunRow, code: 'not-found' | 'conflict' = 'not-found'): ServiceError {
  return new ServiceError(
    code,
    'run.in-trash',
    `The run ${JSON.stringify(id)} of the workspace ${workspace} lies in the trash, in the entry ${trash}.`,
    { entry: trash },
  );
}

export function runOf(tx: Transaction, key: number): RunRow {
  return tx.statement<RunRow>('SELECT * FROM run WHERE key = ?').get(key)!;
}

export function privateOf(tx: Transaction, key: number): PrivateRow {
  return tx.statement<PrivateRow>('SELECT * FROM run_private WHERE run_key = ?').get(key)!;
}

export function setRun(tx: Transaction, key: number, set: Partial<RunRow>): void {
  tx.run(sql.updateTable('run').set(set).where('key', '=', key));
  tx.notify(runTopic(key));
}

export function setPrivate(tx: Transaction, key: number, set: Partial<PrivateRow>): void {
  tx.run(sql.updateTable('run_private').set(set).where('run_key', '=', key));
}

/** Notified at every change of the run's row. */
export function runTopic(key: number): string {
  return `run.${key}`;
}

/** The keys of all descendants, the nearest first. */
export function keysBelow(tx: Transaction, key: number): number[] {
  return tx
    .statement<{ key: number }>(
      `WITH RECURSIVE below (key) AS (
         SELECT key FROM run WHERE parent_key = ? UNION ALL SELECT run.key FROM run JOIN below ON run.parent_key = below.key
       ) SELECT key FROM below`,
    )
    .all(key)
    .map((row) => row.key);
}

/** Whether `run` is `ancestor` or one of its descendants. */
export function isWithin(tx: Transaction, ancestor: number, run: RunRow): boolean {
  let at: RunRow | undefined = run;
  if (runOf(tx, ancestor).root_key !== run.root_key) return false;
  while (at) {
    if (at.key === ancestor) return true;
    at = at.parent_key === null ? undefined : runOf(tx, at.parent_key);
  }
  return false;
}
