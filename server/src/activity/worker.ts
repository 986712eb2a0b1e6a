// Moves activities on: takes what is due under a lease, runs one step of its executor, and records what came of it.
// A step that ends with `againInMs` is taken up again then: whatever it learned must be in the database, since the next
// step may run after a restart. Long steps keep their lease; if it is lost the step is aborted and changes nothing more.
import { type Activity, type ActivityKind, activityKind } from '@stellwerk/contract/activity.ts';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import type { Activities } from './activities.ts';
import { type ActivityRow, activityOf, activityTransactions, dueTopic } from './store.ts';

export type Outcome =
  | { state: 'succeeded' | 'canceled'; message?: string }
  | { state: 'failed'; error: NonNullable<Activity['error']> }
  | { againInMs: number; message?: string }
  /** Somebody else moves it on from here: no further step. */
  | { leave: true };

export interface Work {
  activity: Activity;
  input: unknown;
  /** Hand it to transactions that change what this activity is about, so that a worker that lost its lease changes nothing. */
  fence: number;
  /** Aborted when the activity is canceled, its lease is lost, or the server stops. */
  signal: AbortSignal;
  /** Whether it was asked to stop: when the step began, or since. */
  cancelRequested(): boolean;
  log(line: string): void;
  progress(message: string, fraction?: number): Promise<void>;
}

export type Executor = (work: Work) => Promise<Outcome>;
export type Executors = Record<ActivityKind, Executor>;

export interface WorkerNeeds {
  db: Database;
  activities: Activities;
  executors: Executors;
  now(): number;
  leaseMs: number;
  /** A step failed in a way nobody foresaw: record it and give the incident's id. */
  incident(error: unknown): string;
}

const stepsAtOnce = 32;
/** Heavy kinds leave room for the others. */
const atOnce: Partial<Record<ActivityKind, number>> = { 'image.build': 2 };
const longestSleepMs = 10_000;
const retryLaterMs = 5_000;

export class ActivityWorker {
  readonly #needs: WorkerNeeds;
  readonly #steps = new Map<string, { kind: ActivityKind; abort: AbortController; done: Promise<void> }>();
  #stopping = false;
  #timer: NodeJS.Timeout | undefined;
  #claiming: Promise<void> | undefined;
  #wokenMeanwhile = false;
  #stopListening = () => {};

  constructor(needs: WorkerNeeds) {
    this.#needs = needs;
  }

  async start(): Promise<void> {
    await this.#needs.db.transact(activityTransactions.releaseAll, undefined);
    this.#stopListening = this.#needs.db.listen(dueTopic, () => this.#wake());
    this.#wake();
  }

  /** Ends the steps under way; they go on after the next start. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#stopListening();
    clearTimeout(this.#timer);
    await this.#claiming;
    for (const { abort } of this.#steps.values()) abort.abort(new Error('The server is stopping.'));
    await Promise.allSettled([...this.#steps.values()].map(({ done }) => done));
  }

  #wake(): void {
    if (this.#stopping) return;
    if (this.#claiming) {
      this.#wokenMeanwhile = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#claiming = this.#claim()
      .catch((error) => void this.#needs.incident(error))
      .finally(() => {
        this.#claiming = undefined;
        if (this.#wokenMeanwhile) {
          this.#wokenMeanwhile = false;
          this.#wake();
        }
      });
  }

  async #claim(): Promise<void> {
    const now = this.#needs.now();
    const free = stepsAtOnce - this.#steps.size;
    if (free > 0) {
      const busy = activityKind.options.filter((kind) => this.#count(kind) >= (atOnce[kind] ?? stepsAtOnce));
      const rows = await this.#needs.db.transact(activityTransactions.claim, {
        now,
        leasedUntil: now + this.#needs.leaseMs,
        limit: Math.min(free, 2),
        except: busy,
      });
      for (const row of rows) this.#begin(row);
      if (rows.length > 0) this.#wokenMeanwhile = true; // there may be more
    }
    await this.#abortCanceled();
    const next = await this.#needs.db.first(
      sql
        .selectFrom('activity')
        .select((e) => e.fn.min('due_at').as('at'))
        .where('due_at', 'is not', null)
        .where('leased_until', '<=', now),
    );
    const wait =
      next?.at == null ? longestSleepMs : Math.min(longestSleepMs, Math.max(5, Number(next.at) - this.#needs.now()));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#wake(), this.#steps.size >= stepsAtOnce ? longestSleepMs : wait);
  }

  #count(kind: ActivityKind): number {
    return [...this.#steps.values()].filter((step) => step.kind === kind).length;
  }

  async #abortCanceled(): Promise<void> {
    if (this.#steps.size === 0) return;
    const rows = await this.#needs.db.all(
      sql
        .selectFrom('activity')
        .select('id')
        .where('id', 'in', [...this.#steps.keys()])
        .where('cancel_requested', '=', 1),
    );
    for (const { id } of rows) this.#steps.get(id)?.abort.abort(new Error('Canceled.'));
  }

  #begin(row: ActivityRow): void {
    const abort = new AbortController();
    const done = this.#step(row, abort).finally(() => {
      this.#steps.delete(row.id);
      this.#wake();
    });
    this.#steps.set(row.id, { kind: row.kind, abort, done });
  }

  async #step(row: ActivityRow, abort: AbortController): Promise<void> {
    const { db, activities, now, leaseMs } = this.#needs;
    const { id, fence } = row;
    const heartbeat = setInterval(async () => {
      const held = await db
        .transact(activityTransactions.renew, { id, fence, leasedUntil: now() + leaseMs })
        .catch(() => false);
      if (!held) abort.abort(new Error('The lease was lost.'));
    }, leaseMs / 3);
    let logged = Promise.resolve();
    const work: Work = {
      activity: activityOf(row),
      input: JSON.parse(row.input),
      fence,
      signal: abort.signal,
      cancelRequested: () =>
        row.cancel_requested === 1 || (abort.signal.aborted && abort.signal.reason?.message === 'Canceled.'),
      log: (line) => {
        logged = logged.then(() => activities.log(id, line)).catch((error) => void this.#needs.incident(error));
      },
      progress: async (message, fraction) => {
        await db.transact(activityTransactions.change, {
          id,
          fence,
          change: { state: 'running', message, fraction: fraction ?? null, at: new Date(now()).toISOString() },
        });
      },
    };
    const outcome = await this.#outcomeOf(row, work);
    clearInterval(heartbeat);
    await logged;
    if (outcome) await this.#release(row, outcome);
  }

  async #outcomeOf(row: ActivityRow, work: Work): Promise<Outcome | undefined> {
    try {
      return await this.#needs.executors[row.kind](work);
    } catch (error) {
      if (this.#stopping) return { againInMs: 0 };
      if (work.cancelRequested()) return { state: 'canceled', message: 'Canceled.' };
      if (work.signal.aborted) return undefined; // the lease is another worker's
      if (error instanceof TargetError && error.retry !== 'never') {
        work.log(error.message);
        return { againInMs: error.retry === 'now' ? 100 : retryLaterMs, message: error.message };
      }
      const failure = this.#failureOf(error);
      work.log(failure.message);
      return { state: 'failed', error: failure };
    }
  }

  #failureOf(error: unknown): NonNullable<Activity['error']> {
    if (error instanceof ServiceError) return { reason: error.reason, message: error.message, hint: error.hint };
    if (error instanceof TargetError) return { reason: 'target.failed', message: error.message };
    return {
      reason: 'server.internal',
      message: `An internal fault happened: incident ${this.#needs.incident(error)}.`,
    };
  }

  async #release(row: ActivityRow, outcome: Outcome): Promise<void> {
    const now = this.#needs.now();
    const at = new Date(now).toISOString();
    const change =
      'leave' in outcome
        ? { at, dueAt: null }
        : 'againInMs' in outcome
          ? {
              at,
              dueAt: now + outcome.againInMs,
              ...(outcome.message !== undefined && outcome.message !== row.message && { message: outcome.message }),
            }
          : {
              at,
              state: outcome.state,
              ...(outcome.state === 'failed'
                ? { error: outcome.error, message: outcome.error.message }
                : { message: outcome.message ?? 'Done.', ...(outcome.state === 'succeeded' && { fraction: 1 }) }),
            };
    await this.#needs.db.transact(activityTransactions.release, {
      id: row.id,
      fence: row.fence,
      change,
      claimedDueAt: row.due_at,
    });
  }
}
