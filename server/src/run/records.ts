// From rows to the records that users see, many at a time, on one state of the database.

import type { Run } from '@stellwerk/contract/run.ts';
import type { MetricSummary } from '@stellwerk/contract/telemetry.ts';
import { sql, type Transaction } from '../db/transactions.ts';
import { summariesOf } from '../telemetry/metrics.ts';
import { parameterOf } from './labels.ts';
import { position } from './queue.ts';
import type { RunRow } from './store.ts';

export function recordsOf(tx: Transaction, rows: readonly RunRow[], metrics?: readonly string[]): Run[] {
  if (rows.length === 0) return [];
  const keys = rows.map(({ key }) => key);
  const tags = labelsOf(tx, 'run_tag', keys);
  const properties = labelsOf(tx, 'run_property', keys);
  const parameters = grouped(
    tx.all(sql.selectFrom('run_parameter').selectAll().where('run_key', 'in', keys)),
    parameterOf,
  );
  const summaries = metrics && new Map<number, MetricSummary[]>(summariesOf(tx, keys, metrics));
  return rows.map((row) => ({
    ...plainRecord(row),
    ...(row.state === 'queued' && row.queue !== null && { queuePosition: position(tx, row) }),
    parameters: parameters.get(row.key) ?? {},
    tags: tags.get(row.key) ?? {},
    properties: properties.get(row.key) ?? {},
    ...(summaries && { metrics: summaries.get(row.key) ?? [] }),
  }));
}

function labelsOf(
  tx: Transaction,
  table: 'run_tag' | 'run_property',
  keys: number[],
): Map<number, Record<string, string>> {
  return grouped(tx.all(sql.selectFrom(table).selectAll().where('run_key', 'in', keys)), ({ value }) => value);
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

function plainRecord(row: RunRow): Omit<Run, 'parameters' | 'tags' | 'properties'> {
  return {
    id: row.id,
    workspace: row.workspace,
    experiment: row.experiment,
    number: row.number,
    ...given('displayName', row.display_name),
    ...given('description', row.description),
    ...given('parent', row.parent),
    root: row.root,
    childCount: row.child_count,
    state: row.state,
    ...given('reason', row.reason),
    attempt: row.attempt,
    interactive: row.interactive === 1,
    ...given('target', row.target),
    ...parsed('configuration', row.configuration),
    ...given('snapshot', row.snapshot),
    ...parsed('environment', row.environment),
    ...parsed('git', row.git),
    user: row.user,
    ...given('host', row.host),
    createdAt: row.created_at,
    ...given('startedAt', row.started_at),
    ...given('endedAt', row.ended_at),
    ...given('durationMs', row.duration_ms),
    ...given('exitCode', row.exit_code),
    ...parsed('lastLines', row.last_lines),
    ...given('activity', row.activity),
  };
}

function given<K extends string, V>(name: K, value: V | null): { [P in K]?: V } {
  return value === null ? {} : ({ [name]: value } as { [P in K]: V });
}

function parsed<K extends keyof Run>(name: K, json: string | null): Pick<Run, K> | object {
  return json === null ? {} : { [name]: JSON.parse(json) };
}
