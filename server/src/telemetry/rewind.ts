// A run that is begun again goes on from its checkpoint: what an earlier attempt had logged from that step on is logged anew, so it goes.
// Invariants: of each step there is what one attempt logged; what was logged without a step stays; the summary is that of what is left.
import type { Transaction } from '../db/transactions.ts';
import { appendPoints, appendRows } from './chunks.ts';
import type { LoggedRow } from './journal-lines.ts';
import { type ChunkColumns, Points } from './points.ts';
import type { LoggedRows } from './series.ts';
import type { MetricRow } from './store.ts';

/** Takes away what was logged at `step` and later. Without a step it is not known where the attempt goes on: nothing goes. */
export function rewind(tx: Transaction, metric: MetricRow, step: number | null | undefined): void {
  if (step === null || step === undefined || Number.isNaN(step)) return;
  if (metric.points > 0 && rewindPoints(tx, metric, step)) summariseAnew(tx, metric);
  if (metric.rows > 0) rewindRows(tx, metric, step);
}

function rewindPoints(tx: Transaction, metric: MetricRow, step: number): boolean {
  const first = tx
    .statement<{ number: number; start: number }>(
      'SELECT number, start FROM point_chunk WHERE metric = ? AND max_step >= ? ORDER BY number LIMIT 1',
    )
    .get(metric.id, step);
  if (!first) return false;
  const kept = new Points();
  for (const chunk of chunksFrom(tx, metric.id, first.number)) kept.append(before(Points.of(chunk), step));
  tx.statement('DELETE FROM point_chunk WHERE metric = ? AND number >= ?').run(metric.id, first.number);
  metric.points = first.start;
  metric.chunks = first.number;
  if (kept.count > 0) appendPoints(tx, metric, kept);
  return true;
}

function chunksFrom(tx: Transaction, metric: number, number: number): ChunkColumns[] {
  return tx
    .statement<ChunkColumns>(
      'SELECT numbers, steps, times, odd, first_step, last_step FROM point_chunk WHERE metric = ? AND number >= ? ORDER BY number',
    )
    .all(metric, number);
}

function before(points: Points, step: number): Points {
  const kept = new Points();
  const odd = new Map(points.odd);
  points.steps.forEach((own, at) => {
    if (own >= step) return;
    if (odd.has(at)) kept.addOdd(odd.get(at)!, own, points.times[at]!);
    else kept.add(points.numbers[at]!, own, points.times[at]!);
  });
  return kept;
}

function summariseAnew(tx: Transaction, metric: MetricRow): void {
  const { min, max } = tx
    .statement<Pick<MetricRow, 'min' | 'max'>>(
      'SELECT min(min) AS min, max(max) AS max FROM point_chunk WHERE metric = ?',
    )
    .get(metric.id)!;
  metric.min = min;
  metric.max = max;
  if (metric.points === 0) {
    metric.last = metric.last_text = metric.last_step = null;
    return; // its first value is set by the next one
  }
  const [first] = chunksFrom(tx, metric.id, 0);
  const last = chunksFrom(tx, metric.id, metric.chunks - 1).at(-1)!;
  const begin = Points.of(first!).valueAt(0);
  tx.statement('UPDATE metric SET first = ?, first_text = ? WHERE id = ?').run(begin.number, begin.text, metric.id);
  const points = Points.of(last);
  const end = points.valueAt(points.count - 1);
  metric.last = end.number;
  metric.last_text = end.text;
  metric.last_step = Number.isNaN(points.steps.at(-1)!) ? null : points.steps.at(-1)!;
  metric.last_at = points.times.at(-1)!;
}

function rewindRows(tx: Transaction, metric: MetricRow, step: number): void {
  const chunks = tx
    .statement<{ number: number; start: number; rows: string }>(
      'SELECT number, start, rows FROM row_chunk WHERE metric = ? ORDER BY number',
    )
    .all(metric.id);
  const isLater = ([own]: LoggedRows[number]) => own !== null && own >= step;
  const first = chunks.find(({ rows }) => (JSON.parse(rows) as LoggedRows).some(isLater));
  if (!first) return;
  const kept = chunks
    .filter(({ number }) => number >= first.number)
    .flatMap(({ rows }) => (JSON.parse(rows) as LoggedRows).filter((row) => !isLater(row)))
    .map(([own, time, row]): LoggedRow => ({ kind: 'row', step: own, time, row }));
  tx.statement('DELETE FROM row_chunk WHERE metric = ? AND number >= ?').run(metric.id, first.number);
  metric.rows = first.start;
  metric.row_chunks = first.number;
  if (kept.length > 0) appendRows(tx, metric, kept);
}
