// Reads a series from its chunks: a range of its points, its rows, or the whole of it in buckets that keep every minimum and maximum.
import type { bucket, MetricSummary } from '@stellwerk/contract/telemetry.ts';
import type { z } from 'zod';
import { sql, type Transaction } from '../db/transactions.ts';
import { doubles, stepOf, stepsOf, wireNumber } from './points.ts';
import { shownName } from './resource-series.ts';
import type { MetricRow, PointChunkRow } from './store.ts';

export type Bucket = z.infer<typeof bucket>;

export function metricOf(tx: Transaction, runKey: number, name: string): MetricRow | undefined {
  return tx
    .statement<MetricRow>('SELECT * FROM metric WHERE run_key = ? AND name = ?')
    .get(runKey, name.toWellFormed());
}

export function summaryOf(row: MetricRow): MetricSummary {
  const hasPoints = row.points > 0;
  return {
    name: shownName(row.name),
    kind: row.kind,
    count: row.points + row.rows,
    ...(hasPoints && { first: summaryValue(row.first, row.first_text), last: summaryValue(row.last, row.last_text) }),
    ...(row.min !== null && { min: wireNumber(row.min) }),
    ...(row.max !== null && { max: wireNumber(row.max) }),
    lastStep: row.last_step,
    lastAt: timeOf(row.last_at),
  };
}

function summaryValue(number: number | null, text: string | null): NonNullable<MetricSummary['last']> | null {
  if (text !== null) return JSON.parse(text);
  return number === null ? null : wireNumber(number);
}

export function timeOf(seconds: number): string {
  return new Date(seconds * 1_000).toISOString();
}

/** Points as columns, to be made into records on the other side: threads exchange those faster. */
export interface PointColumns {
  numbers: number[];
  steps: (number | null)[];
  times: number[];
  odd: [number, string | boolean | null][];
}

export function readPoints(tx: Transaction, metric: number, offset: number, limit: number): PointColumns {
  const columns: PointColumns = { numbers: [], steps: [], times: [], odd: [] };
  const chunks = tx
    .statement<PointChunkRow>(
      'SELECT * FROM point_chunk WHERE metric = ? AND start < ? AND start + count > ? ORDER BY number',
    )
    .all(metric, offset + limit, offset);
  for (const chunk of chunks) {
    const from = Math.max(0, offset - chunk.start);
    const to = Math.min(chunk.count, offset + limit - chunk.start);
    const base = columns.numbers.length - from;
    for (const value of doubles(chunk.numbers).subarray(from, to)) columns.numbers.push(value);
    for (const value of doubles(chunk.times).subarray(from, to)) columns.times.push(value);
    const steps = stepsOf(chunk, chunk.count);
    for (let at = from; at < to; at++) columns.steps.push(stepOf(steps[at]));
    for (const [at, value] of (chunk.odd === null ? [] : JSON.parse(chunk.odd)) as [number, string | boolean | null][])
      if (at >= from && at < to) columns.odd.push([base + at, value]);
  }
  return columns;
}

export type LoggedRows = [step: number | null, time: number, row: Record<string, unknown>][];

export function readRows(tx: Transaction, metric: number, offset: number, limit: number): LoggedRows {
  const chunks = tx.all(
    sql
      .selectFrom('row_chunk')
      .select(['start', 'count', 'rows'])
      .where('metric', '=', metric)
      .where('start', '<', offset + limit)
      .where((e) => e(e('start', '+', e.ref('count')), '>', offset))
      .orderBy('number'),
  );
  return chunks.flatMap((chunk) => {
    const rows = JSON.parse(chunk.rows) as LoggedRows;
    return rows.slice(Math.max(0, offset - chunk.start), Math.max(0, offset + limit - chunk.start));
  });
}

/** A bucket while it grows. */
class Growing {
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  last = Number.NaN;
  firstStep: number | null = null;
  lastStep: number | null = null;
  count = 0;
  hasNumber = false;

  bucket(): Bucket {
    return {
      firstStep: this.firstStep,
      lastStep: this.lastStep,
      min: this.hasNumber ? wireNumber(this.min) : 'NaN',
      max: this.hasNumber ? wireNumber(this.max) : 'NaN',
      last: wireNumber(this.last),
      count: this.count,
    };
  }

  addChunk(chunk: Headers): void {
    if (this.count === 0) this.firstStep = chunk.first_step;
    this.lastStep = chunk.last_step;
    this.count += chunk.count;
    this.last = chunk.last ?? Number.NaN;
    if (chunk.min === null) return;
    this.hasNumber = true;
    this.min = Math.min(this.min, chunk.min);
    this.max = Math.max(this.max, chunk.max!);
  }

  addPoints(numbers: Float64Array, from: number, to: number, stepAt: (index: number) => number | null): void {
    if (this.count === 0) this.firstStep = stepAt(from);
    this.lastStep = stepAt(to - 1);
    this.count += to - from;
    let { min, max, hasNumber } = this;
    for (let at = from; at < to; at++) {
      const value = numbers[at]!;
      if (value <= min) min = value;
      if (value >= max) max = value;
      hasNumber ||= !Number.isNaN(value);
    }
    this.min = min;
    this.max = max;
    this.hasNumber = hasNumber;
    this.last = numbers[to - 1]!;
  }
}

/** The step of a chunk's point, without making a column of steps that are even. */
function stepReader(chunk: Headers, kept: Uint8Array | null): (index: number) => number | null {
  if (kept) {
    const steps = doubles(kept);
    return (index) => stepOf(steps[index]);
  }
  const { first_step: first, last_step: last, count } = chunk;
  if (first === null || last === null || count === 1) return () => first;
  return (index) => first + (index * (last - first)) / (count - 1);
}

type Headers = Pick<PointChunkRow, 'number' | 'start' | 'count' | 'min' | 'max' | 'last' | 'first_step' | 'last_step'>;

/** The whole series in `wanted` parts of equal length, or as many as it has points. A chunk inside one part is taken by its header alone. */
export function readBuckets(tx: Transaction, metric: MetricRow, wanted: number): Bucket[] {
  const total = metric.points;
  const parts = Math.min(wanted, total);
  const growing = Array.from({ length: parts }, () => new Growing());
  const endOf = (part: number) => Math.floor(((part + 1) * total) / parts);
  const columns = columnReader(tx, metric.id, total / parts < longChunk);
  let part = 0;
  for (const chunk of headersOf(tx, metric.id)) {
    const end = chunk.start + chunk.count;
    while (endOf(part) <= chunk.start) part++;
    if (end <= endOf(part)) {
      growing[part]!.addChunk(chunk);
      continue;
    }
    const read = columns(chunk.number);
    const numbers = doubles(read.numbers);
    const stepAt = stepReader(chunk, read.steps);
    for (let from = chunk.start; from < end; ) {
      while (endOf(part) <= from) part++;
      const to = Math.min(end, endOf(part));
      growing[part]!.addPoints(numbers, from - chunk.start, to - chunk.start, stepAt);
      from = to;
    }
  }
  return growing.map((bucket) => bucket.bucket());
}

/** Chunks have at most about this many points. */
const longChunk = 1_024;
const chunksAtOnce = 64;

function headersOf(tx: Transaction, metric: number): Headers[] {
  return tx
    .statement<Headers>(
      'SELECT number, start, count, min, max, last, first_step, last_step FROM point_chunk WHERE metric = ? ORDER BY number',
    )
    .all(metric);
}

type Columns = Pick<PointChunkRow, 'number' | 'numbers' | 'steps'>;

/** Reads chunks in the order of their numbers: many at once where most are needed, which is much faster, but not all at once. */
function columnReader(tx: Transaction, metric: number, needsMost: boolean): (number: number) => Columns {
  const read = tx.statement<Columns>(
    'SELECT number, numbers, steps FROM point_chunk WHERE metric = ? AND number >= ? AND number < ? ORDER BY number',
  );
  const ahead = new Map<number, Columns>();
  return (number) => {
    if (!ahead.has(number)) {
      ahead.clear();
      for (const row of read.all(metric, number, number + (needsMost ? chunksAtOnce : 1))) ahead.set(row.number, row);
    }
    return ahead.get(number)!;
  };
}
