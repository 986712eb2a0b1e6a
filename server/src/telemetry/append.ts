// Applies a part of a journal inside a transaction of the run's: its series here, what is about the run itself by the given handlers.
// Invariants: a byte of a journal is applied once, however often it is sent; a part is applied as a whole or not at all.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { MetricKind } from '@stellwerk/contract/telemetry.ts';
import type { Transaction } from '../db/transactions.ts';
import { appendPoints, appendRows, setLast } from './chunks.ts';
import { invalid, type Logged, type OtherEntry, readJournal } from './journal-lines.ts';
import type { Points } from './points.ts';
import { rewind } from './rewind.ts';
import type { MetricRow } from './store.ts';

export interface JournalPart {
  runKey: number;
  journal: string;
  offset: number;
  body: Uint8Array;
  /** Which attempt of the run logged it, where that is known. */
  attempt?: number | undefined;
}

/** Told each entry about the run itself. A ServiceError that it throws refuses the part, with the line it is about. */
export type EntryHandler = (tx: Transaction, entry: OtherEntry) => void;

export const namesPerRun = 100_000;
/** A runner has a few, one or two for each attempt. */
const journalsPerRun = 1_000;

/** Returns how many bytes of the journal are applied: with the commit, they are durable. */
export function appendJournal(tx: Transaction, part: JournalPart, handle: EntryHandler): number {
  const applied = journalOffset(tx, part.runKey, part.journal);
  if (part.offset > applied) throw gap(part, applied);
  const end = part.body.lastIndexOf(10) + 1;
  const after = part.offset + end;
  if (after <= applied) return applied;
  if (applied === 0) refuseAnother(tx, part);
  const skipped = applied - part.offset;
  if (skipped > 0 && part.body[skipped - 1] !== 10)
    throw invalid(1, `this part does not continue the journal ${part.journal}, of which ${applied} bytes are durable`);
  const text = decode(part.body.subarray(skipped, end));
  const { series, others } = readJournal(text);
  const names: NamesOfRun = { runKey: part.runKey, attempt: part.attempt ?? 0 };
  for (const [name, logged] of series) appendSeries(tx, names, name.toWellFormed(), logged);
  for (const { entry, line } of others) handled(() => handle(tx, entry), line);
  tx.statement(
    'INSERT INTO journal (run_key, name, offset) VALUES (?, ?, ?) ON CONFLICT (run_key, name) DO UPDATE SET offset = excluded.offset',
  ).run(part.runKey, part.journal, after);
  return after;
}

function refuseAnother(tx: Transaction, { runKey, journal }: JournalPart): void {
  const { count } = tx
    .statement<{ count: number }>('SELECT count(*) AS count FROM journal WHERE run_key = ?')
    .get(runKey)!;
  if (count >= journalsPerRun)
    throw new ServiceError(
      'invalid-argument',
      'run.journal-invalid',
      `The run has ${journalsPerRun} journals already; ${journal} would be one more.`,
    );
}

export function journalOffset(tx: Transaction, runKey: number, journal: string): number {
  return (
    tx.statement<{ offset: number }>('SELECT offset FROM journal WHERE run_key = ? AND name = ?').get(runKey, journal)
      ?.offset ?? 0
  );
}

function gap(part: JournalPart, applied: number): ServiceError {
  return new ServiceError(
    'conflict',
    'run.journal-gap',
    `Of the journal ${part.journal} ${applied} bytes are durable; a part at ${part.offset} would leave a gap.`,
    { offset: applied },
  );
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ServiceError('invalid-argument', 'run.journal-invalid', 'This part of the journal is not UTF-8.');
  }
}

function handled(act: () => void, line: number): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    throw new ServiceError(error.code, error.reason, `Line ${line} of this part of the journal: ${error.message}`, {
      ...error.details,
      line,
    });
  }
}

interface NamesOfRun {
  runKey: number;
  attempt: number;
  /** How many there are: counted once for a part, which may bring many new ones. */
  count?: number;
}

function appendSeries(tx: Transaction, names: NamesOfRun, name: string, logged: Logged): void {
  const metric = metricNamed(tx, names, name, logged);
  if (names.attempt > metric.attempt) {
    rewind(tx, metric, logged.points?.steps[0] ?? logged.rows?.[0]?.step);
    metric.attempt = names.attempt;
  }
  if (logged.points && logged.points.count > 0) {
    if (metric.points === 0) setFirst(tx, metric.id, logged.points);
    summarise(metric, logged.points, logged.isList === true);
    appendPoints(tx, metric, logged.points);
  }
  if (logged.rows) appendRows(tx, metric, logged.rows);
  tx.statement(
    `UPDATE metric SET kind = ?, points = ?, rows = ?, chunks = ?, row_chunks = ?, last = ?, last_text = ?, min = ?, max = ?,
       last_step = ?, last_at = ?, attempt = ? WHERE id = ?`,
  ).run(
    metric.kind,
    metric.points,
    metric.rows,
    metric.chunks,
    metric.row_chunks,
    metric.last,
    metric.last_text,
    metric.min,
    metric.max,
    metric.last_step,
    metric.last_at,
    metric.attempt,
    metric.id,
  );
}

function metricNamed(tx: Transaction, names: NamesOfRun, name: string, logged: Logged): MetricRow {
  const { runKey } = names;
  const found = tx.statement<MetricRow>('SELECT * FROM metric WHERE run_key = ? AND name = ?').get(runKey, name);
  if (found) return found;
  names.count ??= countOfMetrics(tx, runKey);
  if (names.count++ >= namesPerRun)
    throw new ServiceError(
      'invalid-argument',
      'run.journal-invalid',
      `The run has ${namesPerRun} metrics already; ${JSON.stringify(name)} would be one more.`,
    );
  const row = {
    run_key: runKey,
    name,
    kind: firstKind(logged),
    points: 0,
    rows: 0,
    chunks: 0,
    row_chunks: 0,
    first: null,
    last: null,
    first_text: null,
    last_text: null,
    min: null,
    max: null,
    last_step: null,
    last_at: 0,
    attempt: names.attempt,
  };
  const { id } = tx
    .statement<{ id: number }>(
      'INSERT INTO metric (run_key, name, kind, points, rows, chunks, row_chunks, last_at) VALUES (?, ?, ?, 0, 0, 0, 0, 0) RETURNING id',
    )
    .get(runKey, name, row.kind)!;
  return { id, ...row };
}

function countOfMetrics(tx: Transaction, runKey: number): number {
  return tx.statement<{ count: number }>('SELECT count(*) AS count FROM metric WHERE run_key = ?').get(runKey)!.count;
}

function firstKind(logged: Logged): MetricKind {
  if (logged.points) return logged.isList ? 'list' : 'number';
  return logged.rows![0]!.kind;
}

/** By itself: it stays, and its index is not to be touched by each part. */
function setFirst(tx: Transaction, metric: number, points: Points): void {
  const { number, text } = points.valueAt(0);
  tx.statement('UPDATE metric SET first = ?, first_text = ? WHERE id = ?').run(number, text, metric);
}

function summarise(metric: MetricRow, points: Points, isList: boolean): void {
  const last = points.valueAt(points.count - 1);
  metric.last = last.number;
  metric.last_text = last.text;
  const { min, max } = points.extremes();
  if (min !== null) metric.min = metric.min === null ? min : Math.min(metric.min, min);
  if (max !== null) metric.max = metric.max === null ? max : Math.max(metric.max, max);
  if (isList && metric.kind === 'number') metric.kind = 'list';
  setLast(metric, points.steps.at(-1)!, points.times.at(-1)!);
}
