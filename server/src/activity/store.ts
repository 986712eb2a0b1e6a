// Rows of activities and of their changes. Other rooms begin and change activities inside their own transactions.
import type { Activity, ActivityKind, ActivityState } from '@stellwerk/contract/activity.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';
import { mayMove } from './states.ts';

export interface ActivityRow {
  id: string;
  workspace: string;
  kind: ActivityKind;
  subject: string;
  state: ActivityState;
  message: string;
  fraction: number | null;
  cancel_requested: number;
  /** JSON of Activity['error']. */
  error: string | null;
  /** JSON of Activity['report']. */
  report: string | null;
  /** JSON: what the executor was given. */
  input: string;
  created_at: string;
  created_by: string;
  started_at: string | null;
  ended_at: string | null;
  /** When the worker takes the next step, in ms; 0 while it takes one; null: somebody else moves it on. */
  due_at: number | null;
  /** Until when a worker holds it, in ms, and the number of that holding: a change with an older number is refused. */
  leased_until: number;
  fence: number;
}

declare module '../db/schema.ts' {
  interface Schema {
    activity: ActivityRow;
    activity_clock: { id: 1; seen_at: number };
    activity_event: { id: number; workspace: string; activity: string; record: string };
  }
}

export const activityMigrations: Migration[] = [
  {
    name: '0002-activity',
    up: `
      CREATE TABLE activity (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL, fraction REAL,
        cancel_requested INTEGER NOT NULL, error TEXT, input TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL, started_at TEXT, ended_at TEXT,
        due_at INTEGER, leased_until INTEGER NOT NULL, fence INTEGER NOT NULL
      ) STRICT;
      CREATE INDEX activity_by_workspace ON activity (workspace, created_at, id);
      CREATE INDEX activity_by_subject ON activity (workspace, subject, created_at, id);
      CREATE INDEX activity_due ON activity (due_at) WHERE due_at IS NOT NULL;
      CREATE TABLE activity_event (id INTEGER PRIMARY KEY AUTOINCREMENT, workspace TEXT NOT NULL, activity TEXT NOT NULL, record TEXT NOT NULL) STRICT;
      CREATE INDEX activity_event_by_workspace ON activity_event (workspace, id);
      CREATE INDEX activity_event_by_activity ON activity_event (activity, id);
    `,
  },
  {
    name: '0040-activity-clock',
    up: 'CREATE TABLE activity_clock (id INTEGER PRIMARY KEY CHECK (id = 1), seen_at INTEGER NOT NULL) STRICT;',
  },
  { name: '0035-activity-report', up: 'ALTER TABLE activity ADD COLUMN report TEXT;' },
];

/** `due_at` while a worker takes a step: whoever makes the activity due meanwhile leaves another value. */
const held = 0;
export const dueTopic = 'activity.due';
export const changedTopic = 'activity.changed';
/** Events of an activity that has many are thinned to this many: a stream needs the newest state, not each step. */
const eventsKept = 1_000;

export interface Beginning {
  id: string;
  workspace: string;
  kind: ActivityKind;
  subject: string;
  message: string;
  input?: unknown;
  createdBy: string;
  at: string;
  /** When the worker takes it up, in ms; null if somebody else moves it on (a run on its submitter's machine). */
  dueAt: number | null;
}

export function beginActivity(tx: Transaction, beginning: Beginning): Activity {
  const row: ActivityRow = {
    id: beginning.id,
    workspace: beginning.workspace,
    kind: beginning.kind,
    subject: beginning.subject,
    state: 'queued',
    message: beginning.message,
    fraction: null,
    cancel_requested: 0,
    error: null,
    report: null,
    input: JSON.stringify(beginning.input ?? null),
    created_at: beginning.at,
    created_by: beginning.createdBy,
    started_at: null,
    ended_at: null,
    due_at: beginning.dueAt,
    leased_until: 0,
    fence: 0,
  };
  tx.run(sql.insertInto('activity').values(row));
  if (row.due_at !== null) tx.notify(dueTopic);
  return told(tx, row);
}

export interface Change {
  state?: ActivityState;
  message?: string;
  fraction?: number | null;
  cancelRequested?: true;
  error?: Activity['error'];
  report?: Activity['report'];
  dueAt?: number | null;
  at: string;
}

/**
 * Changes an activity; with `fence`, only if the worker that asks still holds it. Returns undefined if it does not, or the move is not legal.
 * One that has ended can only be made due once more, for what is left to be cleaned up.
 */
export function changeActivity(tx: Transaction, id: string, change: Change, fence?: number): Activity | undefined {
  const row = tx.first(sql.selectFrom('activity').selectAll().where('id', '=', id));
  if (!row || (fence !== undefined && row.fence !== fence)) return undefined;
  if (change.state !== undefined && !mayMove(row.state, change.state)) return undefined;
  if (row.ended_at !== null && Object.keys(change).some((field) => field !== 'dueAt' && field !== 'at'))
    return undefined;
  const ended = change.state === 'succeeded' || change.state === 'failed' || change.state === 'canceled';
  const set: Partial<ActivityRow> = {
    ...(change.state !== undefined && { state: change.state }),
    ...(change.message !== undefined && { message: change.message }),
    ...(change.fraction !== undefined && { fraction: change.fraction }),
    ...(change.cancelRequested && { cancel_requested: 1 }),
    ...(change.error !== undefined && { error: JSON.stringify(change.error) }),
    ...(change.report !== undefined && { report: JSON.stringify(change.report) }),
    ...(change.dueAt !== undefined && { due_at: change.dueAt }),
    ...(change.state === 'running' && row.started_at === null && { started_at: change.at }),
    ...(ended && { ended_at: change.at, due_at: null }),
  };
  const after = { ...row, ...set };
  if (Object.keys(set).length > 0) tx.run(sql.updateTable('activity').set(set).where('id', '=', id));
  if (after.due_at !== null) tx.notify(dueTopic);
  const isVisible = Object.keys(set).some((field) => field !== 'due_at');
  return isVisible ? told(tx, after) : activityOf(after);
}

/** Whether it has, or is not there any more. For who must wait for another activity. */
export function hasEnded(tx: Transaction, id: string): boolean {
  const row = tx.first(sql.selectFrom('activity').select('ended_at').where('id', '=', id));
  return row === undefined || row.ended_at !== null;
}

/** Whether a worker still holds what it acts for: others have a newer fence. */
export function isHeld(tx: Transaction, id: string, fence: number): boolean {
  return tx.first(sql.selectFrom('activity').select('fence').where('id', '=', id))?.fence === fence;
}

/** Records the change for the streams. */
function told(tx: Transaction, row: ActivityRow): Activity {
  const activity = activityOf(row);
  tx.run(
    sql
      .insertInto('activity_event')
      .values({ workspace: row.workspace, activity: row.id, record: JSON.stringify(activity) } as never),
  );
  const old = tx
    .statement<{ id: number }>('SELECT id FROM activity_event WHERE activity = ? ORDER BY id DESC LIMIT 1 OFFSET ?')
    .get(row.id, eventsKept);
  if (old) tx.statement('DELETE FROM activity_event WHERE activity = ? AND id <= ?').run(row.id, old.id);
  tx.notify(changedTopic);
  return activity;
}

export function activityOf(row: ActivityRow): Activity {
  return {
    id: row.id,
    workspace: row.workspace,
    kind: row.kind,
    subject: row.subject,
    state: row.state,
    progress: { message: row.message, ...(row.fraction !== null && { fraction: row.fraction }) },
    cancelRequested: row.cancel_requested === 1,
    ...(row.error !== null && { error: JSON.parse(row.error) }),
    ...(row.report !== null && { report: JSON.parse(row.report) }),
    createdAt: row.created_at,
    createdBy: row.created_by,
    ...(row.started_at !== null && { startedAt: row.started_at }),
    ...(row.ended_at !== null && { endedAt: row.ended_at }),
  };
}

function nextDue(tx: Transaction, now: number, except: ActivityKind[]): ActivityRow | undefined {
  const due = sql.selectFrom('activity').selectAll().where('due_at', '<=', now).where('leased_until', '<=', now);
  const query = except.length > 0 ? due.where('kind', 'not in', except) : due;
  return tx.first(query.orderBy('due_at').orderBy('created_at').limit(1));
}

/** The clock was set back: what was due in a moment must not be due in hours. */
function setBack(tx: Transaction, byMs: number): void {
  tx.statement('UPDATE activity SET due_at = due_at - ? WHERE due_at > ?').run(byMs, held);
}

/** What time it was when something was last changed: a server that starts earlier than that finds its clock set back. */
function saw(tx: Transaction, now: number): void {
  tx.statement(
    'INSERT INTO activity_clock VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at',
  ).run(now);
}

export interface Claiming {
  now: number;
  leasedUntil: number;
  limit: number;
  /** How many more of these kinds there is room for; the others have room for any number. */
  room: Partial<Record<ActivityKind, number>>;
}

export const activityTransactions = transactions('activity', {
  /** Takes due activities whose lease has run out, each under a new fence. */
  claim(tx: Transaction, { now, leasedUntil, limit, room }: Claiming): ActivityRow[] {
    const left = { ...room };
    const full = () => (Object.keys(left) as ActivityKind[]).filter((kind) => left[kind] === 0);
    const claimed: ActivityRow[] = [];
    while (claimed.length < limit) {
      const row = nextDue(tx, now, full());
      if (!row) break;
      const holding = { leased_until: leasedUntil, fence: row.fence + 1, due_at: held };
      tx.run(sql.updateTable('activity').set(holding).where('id', '=', row.id));
      claimed.push({ ...row, ...holding });
      const rest = left[row.kind];
      if (rest !== undefined) left[row.kind] = rest - 1;
    }
    if (claimed.length > 0) saw(tx, now);
    return claimed;
  },

  renew(tx: Transaction, { id, fence, leasedUntil }: { id: string; fence: number; leasedUntil: number }): boolean {
    return (
      tx.run(
        sql.updateTable('activity').set({ leased_until: leasedUntil }).where('id', '=', id).where('fence', '=', fence),
      ) > 0
    );
  },

  change(tx: Transaction, { id, change, fence }: { id: string; change: Change; fence?: number }): Activity | undefined {
    return changeActivity(tx, id, change, fence);
  },

  /** The end of a worker's step: the lease is given back, and the next step is due or the activity ends. */
  release(tx: Transaction, { id, change, fence }: { id: string; change: Change; fence: number }): void {
    const row = tx.first(sql.selectFrom('activity').select('due_at').where('id', '=', id).where('fence', '=', fence));
    if (!row) return;
    const ends = change.state !== undefined && changeActivity(tx, id, change, fence) !== undefined;
    if (change.state === undefined && change.message !== undefined) changeActivity(tx, id, change, fence);
    // Who made it due while the step ran saw something the step did not: the next step comes at once.
    const next = row.due_at !== held ? row.due_at : (change.dueAt ?? null);
    const set = { leased_until: 0, due_at: ends ? null : next };
    tx.run(sql.updateTable('activity').set(set).where('id', '=', id).where('fence', '=', fence));
    saw(tx, Date.parse(change.at));
    tx.notify(dueTopic);
  },

  requestCancel(
    tx: Transaction,
    { workspace, id, at, now }: { workspace: string; id: string; at: string; now: number },
  ): Activity {
    const row = tx.first(
      sql.selectFrom('activity').selectAll().where('id', '=', id).where('workspace', '=', workspace),
    );
    if (!row)
      throw new ServiceError(
        'not-found',
        'activity.not-found',
        `There is no activity ${id} in the workspace ${workspace}.`,
      );
    if (row.ended_at !== null)
      throw new ServiceError('failed-precondition', 'activity.ended', `The activity ${id} has ended: it ${row.state}.`);
    return changeActivity(tx, id, {
      cancelRequested: true,
      message: 'Canceling.',
      at,
      ...(row.due_at !== null && { dueAt: now }),
    })!;
  },

  /** After a restart nobody holds anything any more. */
  releaseAll(tx: Transaction, { now }: { now: number }): void {
    tx.run(sql.updateTable('activity').set({ leased_until: 0 }).where('leased_until', '>', 0));
    const seen = tx.first(sql.selectFrom('activity_clock').select('seen_at'))?.seen_at ?? 0;
    if (now < seen) setBack(tx, seen - now);
    saw(tx, now);
  },

  setBack(tx: Transaction, { byMs }: { byMs: number }): void {
    setBack(tx, byMs);
  },
});
