// One step of an activity: its executor is run under the lease, and what came of it is recorded.
// A step that ends with `againInMs` is taken up again then: whatever it learned must be in the database, since the next
// step may run after a restart. Long steps keep their lease; if it is lost the step is aborted and changes nothing more.
import type { Activity, ActivityKind } from '@stellwerk/contract/activity.ts';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { Database } from '../db/database.ts';
import { diskFull, isDiskFull } from '../db/disk-full.ts';
import type { Activities } from './activities.ts';
import { type ActivityRow, activityOf, activityTransactions, type Change } from './store.ts';

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
  /** Until all that was logged so far can be read. Needed only before a transaction of one's own ends the activity. */
  logged(): Promise<void>;
  progress(message: string, fraction?: number): Promise<void>;
  /** What it has done so far; the next step finds it in the activity. */
  report(report: object, message?: string): Promise<void>;
}

export type Executor = (work: Work) => Promise<Outcome>;
export type Executors = Record<ActivityKind, Executor>;

export interface StepNeeds {
  db: Database;
  activities: Activities;
  executors: Executors;
  now(): number;
  leaseMs: number;
  /** A step failed in a way nobody foresaw: record it and give the incident's id. */
  incident(error: unknown): string;
}

const retryNowMs = 100;
const retryLaterMs = 5_000;
/** Of a failure, what is shown as its progress. */
const messageLength = limits.errorMessageLength;

export class Step {
  readonly kind: ActivityKind;
  /** Never rejects. */
  readonly done: Promise<void>;
  readonly #row: ActivityRow;
  readonly #needs: StepNeeds;
  readonly #abort = new AbortController();
  #canceled: boolean;
  #stopping = false;
  #written: Promise<void> = Promise.resolve();

  constructor(row: ActivityRow, needs: StepNeeds) {
    this.kind = row.kind;
    this.#row = row;
    this.#needs = needs;
    this.#canceled = row.cancel_requested === 1;
    this.done = this.#take();
  }

  cancel(): void {
    this.#canceled = true;
    this.#abort.abort(new Error('Canceled.'));
  }

  /** The server stops: the next one takes this step again. */
  stop(): void {
    this.#stopping = true;
    this.#abort.abort(new Error('The server is stopping.'));
  }

  async #take(): Promise<void> {
    const heartbeat = setInterval(() => void this.#renew(), this.#needs.leaseMs / 3);
    try {
      const outcome = await this.#outcome();
      await this.#written;
      if (outcome) await this.#release(outcome);
    } catch (error) {
      this.#needs.incident(error); // not recorded: the lease runs out, and the step is taken again
    } finally {
      clearInterval(heartbeat);
    }
  }

  async #renew(): Promise<void> {
    const { id, fence } = this.#row;
    const leasedUntil = this.#needs.now() + this.#needs.leaseMs;
    const isHeld = await this.#needs.db
      .transact(activityTransactions.renew, { id, fence, leasedUntil })
      .catch(() => false);
    if (!isHeld) this.#abort.abort(new Error('The lease was lost.'));
  }

  #work(): Work {
    const { id, fence } = this.#row;
    return {
      activity: activityOf(this.#row),
      input: JSON.parse(this.#row.input),
      fence,
      signal: this.#abort.signal,
      cancelRequested: () => this.#canceled,
      log: (line) => this.#log(line),
      logged: () => this.#written,
      progress: async (message, fraction) => {
        const change: Change = { state: 'running', message, fraction: fraction ?? null, at: this.#time() };
        await this.#needs.db.transact(activityTransactions.change, { id, fence, change });
      },
      report: async (report, message) => {
        const said = { report: report as Record<string, unknown>, ...(message !== undefined && { message }) };
        const change: Change = { state: 'running', ...said, at: this.#time() };
        await this.#needs.db.transact(activityTransactions.change, { id, fence, change });
      },
    };
  }

  #log(line: string): void {
    const write = () => this.#needs.activities.log(this.#row.id, line);
    this.#written = this.#written.then(write).catch((error) => void this.#needs.incident(error));
  }

  async #outcome(): Promise<Outcome | undefined> {
    try {
      return await this.#needs.executors[this.kind](this.#work());
    } catch (error) {
      if (this.#stopping) return { againInMs: 0 };
      if (this.#canceled) return { state: 'canceled', message: 'Canceled.' };
      if (this.#abort.signal.aborted) return undefined; // the lease is another worker's
      if (isDiskFull(error)) return { againInMs: retryLaterMs, message: diskFull().message };
      if (error instanceof TargetError && error.retry !== 'never') {
        this.#log(error.message);
        return { againInMs: error.retry === 'now' ? retryNowMs : retryLaterMs, message: error.message };
      }
      const failure = this.#failureOf(error);
      this.#log(failure.message);
      return { state: 'failed', error: failure };
    }
  }

  #failureOf(error: unknown): NonNullable<Activity['error']> {
    if (error instanceof ServiceError) return { reason: error.reason, message: error.message, hint: error.hint };
    if (error instanceof TargetError) return { reason: 'target.failed', message: error.message };
    const incident = this.#needs.incident(error);
    return { reason: 'server.internal', message: `An internal fault happened: incident ${incident}.` };
  }

  async #release(outcome: Outcome): Promise<void> {
    const { id, fence } = this.#row;
    await this.#needs.db.transact(activityTransactions.release, { id, fence, change: this.#changeOf(outcome) });
  }

  #changeOf(outcome: Outcome): Change {
    const at = this.#time();
    if ('leave' in outcome) return { at, dueAt: null };
    if ('againInMs' in outcome) {
      const isNews = outcome.message !== undefined && outcome.message !== this.#row.message;
      return { at, dueAt: this.#needs.now() + outcome.againInMs, ...(isNews && { message: outcome.message! }) };
    }
    if (outcome.state === 'failed')
      return { at, state: 'failed', error: outcome.error, message: outcome.error.message.slice(0, messageLength) };
    const fraction = outcome.state === 'succeeded' && { fraction: 1 };
    return { at, state: outcome.state, message: outcome.message ?? 'Done.', ...fraction };
  }

  #time(): string {
    return new Date(this.#needs.now()).toISOString();
  }
}
