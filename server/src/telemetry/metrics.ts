// What runs logged, to be read: the summary of each metric, and the values of one.
// Invariants: summaries are kept on write and never need the points; the order of a series is the order in which it was logged.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { MetricSummary, Series } from '@stellwerk/contract/telemetry.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import type { Database } from '../db/database.ts';
import { readings, sql, type Transaction } from '../db/transactions.ts';
import { wireNumber } from './points.ts';
import { isOfResource, keptName } from './resource-series.ts';
import {
  type Bucket,
  type LoggedRows,
  metricOf,
  type PointColumns,
  readBuckets,
  readPoints,
  readRows,
  summaryOf,
  timeOf,
} from './series.ts';

export { keptName as keptNameOfResource } from './resource-series.ts';
export { valueAtStep } from './steps.ts';

/** What the run room knows of a run. */
export interface RunPlace {
  key: number;
  ended: boolean;
}

export interface MetricNeeds {
  db: Database;
  /** Throws if there is no such run. */
  placeOf(workspace: string, run: string): Promise<RunPlace>;
  /** The run's descendants. */
  below(workspace: string, run: string): Promise<{ key: number; id: string }[]>;
}

const usualLimit = 10_000;
/** Summaries of this many runs are read in one go. */
const runsAtOnce = 5_000;

interface Read {
  summary: MetricSummary;
  total: number;
  points?: PointColumns;
  buckets?: Bucket[];
  rows?: LoggedRows;
}

const metricReadings = readings('metric', {
  series(
    tx: Transaction,
    asked: { runKey: number; name: string; offset: number; limit: number; buckets?: number | undefined },
  ): Read | undefined {
    const metric = metricOf(tx, asked.runKey, asked.name);
    if (!metric) return undefined;
    const { offset, limit } = asked;
    const rows = metric.rows > 0 ? { rows: readRows(tx, metric.id, offset, limit) } : {};
    const summary = summaryOf(metric);
    const total = Math.max(metric.points, metric.rows);
    if (asked.buckets !== undefined && metric.points > 0)
      return { summary, total: metric.rows, ...rows, buckets: readBuckets(tx, metric, asked.buckets) };
    return { summary, total, ...rows, ...(metric.points > 0 && { points: readPoints(tx, metric.id, offset, limit) }) };
  },

  summaries(
    tx: Transaction,
    { runKeys, name, of }: { runKeys: number[]; name?: string | undefined; of?: 'script' | 'resources' | undefined },
  ): [number, MetricSummary[]][] {
    return summariesOf(tx, runKeys, name === undefined ? undefined : [name], of);
  },
});

/** For those who show runs: the summaries of many runs, of all metrics or those named, by run key. */
export function summariesOf(
  tx: Transaction,
  runKeys: readonly number[],
  names?: readonly string[],
  of: 'script' | 'resources' = 'script',
): [number, MetricSummary[]][] {
  const byRun = new Map<number, MetricSummary[]>(runKeys.map((key) => [key, []]));
  for (let at = 0; at < runKeys.length; at += runsAtOnce) {
    let query = sql
      .selectFrom('metric')
      .selectAll()
      .where('run_key', 'in', runKeys.slice(at, at + runsAtOnce));
    if (names)
      query = query.where(
        'name',
        'in',
        names.map((name) => (of === 'script' ? name.toWellFormed() : keptName(name))),
      );
    for (const row of tx.all(query.orderBy('run_key').orderBy('id')))
      if (isOfResource(row.name) === (of === 'resources')) byRun.get(row.run_key)!.push(summaryOf(row));
  }
  return [...byRun];
}

export class Metrics {
  readonly #needs: MetricNeeds;

  constructor(needs: MetricNeeds) {
    this.#needs = needs;
  }

  async list({
    workspace,
    run,
    name,
    recursive,
    of,
  }: CheckedOf<'metrics', 'list'>): Promise<OutputOf<'metrics', 'list'>> {
    const { key } = await this.#needs.placeOf(workspace, run);
    const below = recursive ? await this.#needs.below(workspace, run) : [];
    const runKeys = [key, ...below.map((descendant) => descendant.key)];
    const found = new Map(await this.#needs.db.transact(metricReadings.summaries, { runKeys, name, of }));
    const items = found.get(key) ?? [];
    if (!recursive) return { items };
    return {
      items,
      byRun: Object.fromEntries([[run, items], ...below.map(({ id, key }) => [id, found.get(key) ?? []] as const)]),
    };
  }

  async getSeries(input: CheckedOf<'metrics', 'getSeries'>): Promise<Series> {
    const { key } = await this.#needs.placeOf(input.workspace, input.run);
    const { offset = 0, limit = usualLimit, buckets } = input;
    const name = input.of === 'resources' ? keptName(input.name) : input.name;
    const read = await this.#needs.db.transact(metricReadings.series, { runKey: key, name, offset, limit, buckets });
    if (!read)
      throw new ServiceError(
        'not-found',
        'run.metric-not-found',
        input.of === 'resources'
          ? `Of the run ${input.run} no resource ${JSON.stringify(input.name)} was sampled.`
          : `The run ${input.run} has not logged a metric ${JSON.stringify(name)}.`,
      );
    return {
      summary: read.summary,
      ...(read.buckets && { buckets: read.buckets }),
      ...(read.points && { points: pointsOf(read.points) }),
      ...(read.rows && { rows: read.rows.map(([step, time, row]) => ({ step, at: timeOf(time), row })) }),
      ...(offset + limit < read.total && { nextOffset: offset + limit }),
    };
  }
}

function pointsOf({ numbers, steps, times, odd }: PointColumns): NonNullable<Series['points']> {
  const points = numbers.map((value, at) => ({
    step: steps[at]!,
    at: timeOf(times[at]!),
    value: wireNumber(value) as NonNullable<Series['points']>[number]['value'],
  }));
  for (const [at, value] of odd) points[at]!.value = value;
  return points;
}
