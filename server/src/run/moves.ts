// Moves a run from state to state, inside a transaction: with it the runs that live in its process, and its activity.
// Invariants: only legal moves; an end is for good and takes the secrets with it; the activity always mirrors the run.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { RunState } from '@stellwerk/contract/run-state.ts';
import { type Change, changeActivity } from '../activity/activities.ts';
import { sql, type Transaction } from '../db/transactions.ts';
import { line } from './line.ts';
import { isEnd, mayMove } from './states.ts';
import { type RunRow, runOf, setPrivate, setRun } from './store.ts';

export interface Moment {
  /** ms since 1970, and the same as text. */
  now: number;
  at: string;
}

export interface Move {
  to: RunState;
  reason?: string | undefined;
  exitCode?: number | undefined;
  lastLines?: string[] | undefined;
  startedAt?: string | undefined;
  endedAt?: string | undefined;
}

export function moveRun(tx: Transaction, row: RunRow, move: Move, moment: Moment): RunRow {
  const { to } = move;
  if (row.state === to) return row;
  if (!mayMove(row.state, to))
    throw new ServiceError(
      'conflict',
      'run.move-refused',
      `The run ${row.id} is ${row.state}; it cannot become ${to}.`,
    );
  const set = { ...changesOf(row, move, moment), ...(isEnd(to) && { leased: 0 }) };
  setRun(tx, row.key, set);
  if (isEnd(to)) setPrivate(tx, row.key, { secrets: null });
  moveAttended(tx, row, move, moment);
  const after = { ...row, ...set };
  mirror(tx, after, moment);
  // Whoever stood behind it is nearer to a place now, which may have been free all the time.
  if (row.state === 'queued' && row.queue !== null) wakeNext(tx, row.queue, moment);
  return after;
}

function changesOf(row: RunRow, move: Move, { at }: Moment): Partial<RunRow> {
  const { to } = move;
  const begins = row.started_at === null && (to === 'running' || to === 'finalizing' || to === 'completed');
  const startedAt = begins ? (move.startedAt ?? at) : row.started_at;
  const endedAt = isEnd(to) ? (move.endedAt ?? at) : null;
  return {
    state: to,
    state_before: to === 'lost' ? row.state : null,
    reason: move.reason ?? (staysCanceled(row, to) ? row.reason : null),
    started_at: startedAt,
    ended_at: endedAt,
    ...(endedAt !== null &&
      startedAt !== null && { duration_ms: Math.max(0, Date.parse(endedAt) - Date.parse(startedAt)) }),
    ...(move.exitCode !== undefined && { exit_code: move.exitCode }),
    ...(move.lastLines !== undefined && { last_lines: JSON.stringify(move.lastLines) }),
  };
}

/** Who canceled it stands there until it ended otherwise. */
function staysCanceled(row: RunRow, to: RunState): boolean {
  return row.cancel_requested === 1 && to !== 'completed' && to !== 'failed';
}

/** Children that live in the run's process are lost, come back and end with it. */
function moveAttended(tx: Transaction, row: RunRow, { to }: Move, moment: Moment): void {
  const comesBack = row.state === 'lost' && !isEnd(to) && to !== 'queued'; // another attempt makes its own
  if (to !== 'lost' && !comesBack && !isEnd(to)) return;
  const attended = tx.all(
    sql
      .selectFrom('run')
      .selectAll()
      .where('attendant_key', '=', row.key)
      .where('ended_at', 'is', null)
      .where('key', '!=', row.key),
  );
  for (const child of attended) {
    if (comesBack) {
      if (child.state === 'lost') moveRun(tx, child, { to: child.state_before ?? 'running' }, moment);
    } else if (to === 'lost') {
      if (mayMove(child.state, 'lost'))
        moveRun(tx, child, { to, reason: `The run ${row.id}, whose process it lives in, is lost.` }, moment);
    } else {
      const end = to === 'failed' ? 'failed' : 'canceled';
      const reason = `The run ${row.id}, whose process it lived in, ended as ${to} before this one was ended.`;
      moveRun(tx, child, { to: end, reason }, moment);
    }
  }
}

const messages: Record<RunState, string> = {
  queued: 'Waiting.',
  preparing: 'Preparing.',
  running: 'Running the script.',
  finalizing: 'Collecting outputs.',
  completed: 'Completed.',
  failed: 'Failed.',
  canceled: 'Canceled.',
  lost: 'Its runner is not heard of.',
};

function mirror(tx: Transaction, row: RunRow, { now, at }: Moment): void {
  if (row.activity === null) return;
  changeActivity(tx, row.activity, { ...activityChange(row), at });
  // What its job left is still to be removed: the worker takes one more step.
  if (isEnd(row.state) && row.placed === 1) changeActivity(tx, row.activity, { dueAt: now, at });
}

function activityChange(row: RunRow): Omit<Change, 'at'> {
  const message = row.reason ?? messages[row.state];
  switch (row.state) {
    case 'queued':
      return { message };
    case 'completed':
      return { state: 'succeeded', message, fraction: 1 };
    case 'failed':
      return { state: 'failed', message, error: { reason: 'run.failed', message } };
    case 'canceled':
      return { state: 'canceled', message };
    default:
      return { state: 'running', message };
  }
}

/** Asks a run and all below it to stop; what nobody attends ends at once. */
export function cancelRun(tx: Transaction, row: RunRow, by: string, below: readonly number[], moment: Moment): void {
  if (isEnd(row.state)) {
    if (row.state === 'canceled') return;
    throw new ServiceError('failed-precondition', 'run.move-refused', `The run ${row.id} has ended: it ${row.state}.`);
  }
  const reason = `Canceled by ${by}.`;
  stopOne(tx, row, reason, moment);
  for (const key of below) {
    const child = runOf(tx, key);
    // Who lives in the process of a run that is being stopped still has the grace period to end by itself.
    const ends = child.attendant_key === child.key;
    if (!isEnd(child.state) && ends)
      stopOne(tx, child, `${reason} with the run ${row.id}`.replace('. with', ' with').concat('.'), moment);
  }
}

function stopOne(tx: Transaction, row: RunRow, reason: string, moment: Moment): void {
  const isAttended = row.state !== 'queued' && row.state !== 'lost' && row.attendant_key === row.key;
  if (!isAttended) {
    moveRun(tx, row, { to: 'canceled', reason }, moment);
    return;
  }
  if (row.cancel_requested === 1) return;
  setRun(tx, row.key, { cancel_requested: 1, reason });
  setPrivate(tx, row.key, { cancel_at: moment.now });
  if (row.activity === null) return;
  const wake = row.queue === null ? {} : { dueAt: moment.now };
  changeActivity(tx, row.activity, { cancelRequested: true, message: 'Canceling.', at: moment.at, ...wake });
}

/** The one that is first in line tries again whether there is a place. */
export function wakeNext(tx: Transaction, queue: string, { now, at }: Moment): void {
  const [first] = line(tx, queue);
  const next = first && runOf(tx, first.key);
  if (next?.activity) changeActivity(tx, next.activity, { dueAt: now, at });
}
