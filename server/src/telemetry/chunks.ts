// Writes points and rows at the end of a series, in chunks: a new one takes in those before it that are not longer than itself.
import { jsonText } from '@stellwerk/contract/json-shape.ts';
import type { Transaction } from '../db/transactions.ts';
import type { LoggedRow } from './journal-lines.ts';
import { type ChunkColumns, Points } from './points.ts';
import type { MetricRow } from './store.ts';

const chunkPoints = 1_024;
const chunkRows = 256;
const chunkRowsLength = 256 * 1024;

export function setLast(metric: MetricRow, step: number | null, time: number): void {
  metric.last_step = step === null || Number.isNaN(step) ? null : step;
  metric.last_at = time;
}

export function appendPoints(tx: Transaction, metric: MetricRow, added: Points): void {
  let points = added;
  let { chunks } = metric;
  let start = metric.points;
  metric.points += added.count;
  while (chunks > 0) {
    const tail = tx
      .statement<{ start: number; count: number }>(
        'SELECT start, count FROM point_chunk WHERE metric = ? AND number = ?',
      )
      .get(metric.id, chunks - 1)!;
    if (tail.count >= chunkPoints || tail.count > points.count) break;
    const columns = tx
      .statement<ChunkColumns>(
        'SELECT numbers, steps, times, odd, first_step, last_step FROM point_chunk WHERE metric = ? AND number = ?',
      )
      .get(metric.id, chunks - 1)!;
    const merged = Points.of(columns);
    merged.append(points);
    points = merged;
    start = tail.start;
    chunks--;
  }
  if (chunks < metric.chunks)
    tx.statement('DELETE FROM point_chunk WHERE metric = ? AND number >= ?').run(metric.id, chunks);
  for (let at = 0; at < points.count; at += chunkPoints) {
    insertPoints(
      tx,
      metric.id,
      chunks++,
      start + at,
      points.count <= chunkPoints ? points : points.slice(at, at + chunkPoints),
    );
  }
  metric.chunks = chunks;
}

function insertPoints(tx: Transaction, metric: number, number: number, start: number, points: Points): void {
  const { min, max } = points.extremes();
  const steps = points.extremeSteps();
  const columns = points.columns();
  tx.statement(
    `INSERT INTO point_chunk
       (metric, number, start, count, min, max, last, first_step, last_step, min_step, max_step, numbers, steps, times, odd)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  ).run(
    metric,
    number,
    start,
    points.count,
    min,
    max,
    points.valueAt(points.count - 1).number,
    columns.first_step,
    columns.last_step,
    steps.min,
    steps.max,
    columns.numbers,
    columns.steps,
    columns.times,
    columns.odd,
  );
}

export function appendRows(tx: Transaction, metric: MetricRow, rows: readonly LoggedRow[]): void {
  const last = rows.at(-1)!;
  if (metric.kind === 'row' && rows.some(({ kind }) => kind === 'table')) metric.kind = 'table';
  setLast(metric, last.step, last.time);
  for (let at = 0; at < rows.length; at += chunkRows) appendRowChunk(tx, metric, rows.slice(at, at + chunkRows));
}

function appendRowChunk(tx: Transaction, metric: MetricRow, added: readonly LoggedRow[]): void {
  let rows = jsonText(added.map(({ step, time, row }) => [step, time, row]));
  let count = added.length;
  let start = metric.rows;
  metric.rows += count;
  let number = metric.row_chunks;
  while (number > 0) {
    const tail = tx
      .statement<{ start: number; count: number; rows: string }>(
        'SELECT start, count, rows FROM row_chunk WHERE metric = ? AND number = ?',
      )
      .get(metric.id, number - 1)!;
    if (tail.count > count || tail.count + count > chunkRows || tail.rows.length + rows.length > chunkRowsLength) break;
    rows = `${tail.rows.slice(0, -1)},${rows.slice(1)}`;
    count += tail.count;
    start = tail.start;
    number--;
  }
  tx.statement('DELETE FROM row_chunk WHERE metric = ? AND number >= ?').run(metric.id, number);
  tx.statement('INSERT INTO row_chunk (metric, number, start, count, rows) VALUES (?, ?, ?, ?, ?)').run(
    metric.id,
    number,
    start,
    count,
    rows,
  );
  metric.row_chunks = number + 1;
}
