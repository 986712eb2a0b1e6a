// From rows to the records that users see, many at a time, on one state of the database.

import type { Run } from '@stellwerk/contract/run.ts';
import type { MetricSummary } from '@stellwerk/contract/telemetry.ts';
import { sql, type Transaction } from '../db/transactions.ts';
import { summariesOf } from '../telemetry/metrics.ts';
import { parameterOf } from './labels.ts';
import { positions } from './queue.ts';
import type { LabelRow, ParameterRow, RunRow } from './store.ts';

/** Columns that may hold much. */
export type WideField = 'configuration' | 'environment' | 'git' | 'lastLines' | 'differences' | 'job' | 'usage';
export interface Wanted {
  wide: readonly WideField[];
  /** Of the narrow ones: what identifies a run comes always. */
  fields: ReadonlySet<string> | 'all';
  tags: Names;
  properties: Names;
  parameters: Names;
  metrics?: readonly string[] | undefined;
}
type Names = readonly string[] | 'all';

const wideColumns = {
  configuration: 'configuration',
  environment: 'environment',
  git: 'git',
  lastLines: 'last_lines',
  differences: 'differences',
  job: 'job',
  usage: 'usage',
} as const satisfies Record<WideField, keyof RunRow>;
/** By their field; `null` in a row is a field that the run does not have. */
const optionalColumns = {
  displayName: 'display_name',
  description: 'description',
  parent: 'parent',
  reason: 'reason',
  target: 'target',
  snapshot: 'snapshot',
  host: 'host',
  startedAt: 'started_at',
  endedAt: 'ended_at',
  durationMs: 'duration_ms',
  exitCode: 'exit_code',
  activity: 'activity',
  resubmittedFrom: 'resubmitted_from',
  archivedAt: 'archived_at',
} as const satisfies Partial<Record<keyof Run, keyof RunRow>>;
const identifying = [
  'key',
  'workspace',
  'id',
  'experiment',
  'number',
  'root',
  'child_count',
  'state',
  'attempt',
  'interactive',
  'user',
  'created_at',
  'queue',
] as const satisfies (keyof RunRow)[];
type OptionalField = keyof typeof optionalColumns;
type ReadRow = Pick<RunRow, (typeof identifying)[number]> & Partial<RunRow>;

const everything: Wanted = {
  wide: Object.keys(wideColumns) as WideField[],
  fields: 'all',
  tags: 'all',
  properties: 'all',
  parameters: 'all',
};

/** The whole records. */
export function recordsOf(tx: Transaction, rows: readonly RunRow[]): Run[] {
  return recordsFrom(tx, rows, everything);
}

/** Of runs by their keys, what is wanted; nothing else is read. */
export function recordsByKey(tx: Transaction, keys: readonly number[], wanted: Wanted): Run[] {
  if (keys.length === 0) return [];
  const optional = (Object.keys(optionalColumns) as OptionalField[]).filter(
    (field) => wanted.fields === 'all' || wanted.fields.has(field),
  );
  const columns: (keyof RunRow)[] = [
    ...identifying,
    ...optional.map((field) => optionalColumns[field]),
    ...wanted.wide.map((field) => wideColumns[field]),
  ];
  const rows = tx.all(sql.selectFrom('run').select(columns).where('key', 'in', keys)) as ReadRow[];
  const places = new Map(keys.map((key, at) => [key, at]));
  return recordsFrom(
    tx,
    rows.sort((one, other) => places.get(one.key)! - places.get(other.key)!),
    wanted,
  );
}

function recordsFrom(tx: Transaction, rows: readonly ReadRow[], wanted: Wanted): Run[] {
  if (rows.length === 0) return [];
  const keys = rows.map(({ key }) => key);
  const tags = labelsOf(tx, 'run_tag', keys, wanted.tags);
  const properties = labelsOf(tx, 'run_property', keys, wanted.properties);
  const parameters = grouped(entriesOf(tx, 'run_parameter', keys, wanted.parameters) as ParameterRow[], parameterOf);
  const summaries = wanted.metrics && new Map<number, MetricSummary[]>(summariesOf(tx, keys, wanted.metrics));
  const lines = new Map<string, Map<number, number>>();
  const placeInLine = (queue: string, key: number) => {
    if (!lines.has(queue)) lines.set(queue, positions(tx, queue));
    return lines.get(queue)!.get(key);
  };
  return rows.map((row) => ({
    ...plainRecord(row),
    ...(row.state === 'queued' && row.queue !== null && { queuePosition: placeInLine(row.queue, row.key) }),
    parameters: parameters.get(row.key) ?? {},
    tags: tags.get(row.key) ?? {},
    properties: properties.get(row.key) ?? {},
    ...(summaries && { metrics: summaries.get(row.key) ?? [] }),
  }));
}

function entriesOf(
  tx: Transaction,
  table: 'run_tag' | 'run_property' | 'run_parameter',
  keys: number[],
  names: Names,
): (LabelRow | ParameterRow)[] {
  if (names.length === 0) return [];
  const query = sql
    .selectFrom(table as 'run_tag')
    .selectAll()
    .where('run_key', 'in', keys);
  if (names === 'all') return tx.all(query);
  const wellFormed = names.map((name) => name.toWellFormed());
  return tx.all(query.where('name', 'in', wellFormed));
}

function labelsOf(
  tx: Transaction,
  table: 'run_tag' | 'run_property',
  keys: number[],
  names: Names,
): Map<number, Record<string, string>> {
  return grouped(entriesOf(tx, table, keys, names) as LabelRow[], ({ value }) => value);
}

function grouped<R extends { run_key: number; name: string }, V>(
  rows: R[],
  value: (row: R) => V,
): Map<number, Record<string, V>> {
  const byRun = new Map<number, [string, V][]>();
  for (const row of rows) {
    const entries = byRun.get(row.run_key);
    if (entries) entries.push([row.name, value(row)]);
    else byRun.set(row.run_key, [[row.name, value(row)]]);
  }
  // fromEntries: a name such as `__proto__` is a name like any other.
  return new Map([...byRun].map(([key, entries]) => [key, Object.fromEntries(entries)]));
}

function plainRecord(row: ReadRow): Omit<Run, 'parameters' | 'tags' | 'properties'> {
  return {
    id: row.id,
    workspace: row.workspace,
    experiment: row.experiment,
    number: row.number,
    root: row.root,
    childCount: row.child_count,
    state: row.state,
    attempt: row.attempt,
    interactive: row.interactive === 1,
    user: row.user,
    createdAt: row.created_at,
    ...fieldsFrom(row, optionalColumns, (value) => value),
    ...fieldsFrom(row, wideColumns, (json) => JSON.parse(json as string)),
  };
}

/** Those that were read, and are there. */
function fieldsFrom(row: ReadRow, columns: Record<string, keyof RunRow>, value: (kept: unknown) => unknown): object {
  const fields: [string, unknown][] = [];
  for (const [field, column] of Object.entries(columns)) {
    const kept = row[column];
    if (kept !== null && kept !== undefined) fields.push([field, value(kept)]);
  }
  return Object.fromEntries(fields);
}
