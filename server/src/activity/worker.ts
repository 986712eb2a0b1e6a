// Moves activities on: takes what is due under a lease and has each one's next step taken (`step.ts`).
// Wakes when something becomes due, when a step has ended, and now and then by itself.
import type { ActivityKind } from '@stellwerk/contract/activity.ts';
import { sql } from '../db/transactions.ts';
import { Step, type StepNeeds } from './step.ts';
import { activityTransactions, dueTopic } from './store.ts';

export interface WorkerNeeds extends StepNeeds {
  leaseMs: number;
}

const stepsAtOnce = 32;
/** Heavy kinds leave room for the others. */
const atOnce: Partial<Record<ActivityKind, number>> = {
  'image.build': 2,
  'server.collect': 1,
  'trash.empty': 2,
  'runs.delete': 2,
  'runs.archive': 2,
};
const longestSleepMs = 10_000;

export class ActivityWorker {
  readonly #needs: WorkerNeeds;
  readonly #steps = new Map<string, Step>();
  #stopping = false;
  #timer: NodeJS.Timeout | undefined;
  #claiming: Promise<void> | undefined;
  #wokenMeanwhile = false;
  #claimedAt = 0;
  #stopListening = () => {};

  constructor(needs: WorkerNeeds) {
    this.#needs = needs;
  }

  async start(): Promise<void> {
    await this.#needs.db.transact(activityTransactions.releaseAll, { now: this.#needs.now() });
    this.#stopListening = this.#needs.db.listen(dueTopic, () => this.#wake());
    this.#wake();
  }

  /** Ends the steps under way; they go on after the next start. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#stopListening();
    await this.#claiming;
    clearTimeout(this.#timer);
    const steps = [...this.#steps.values()];
    for (const step of steps) step.stop();
    await Promise.all(steps.map((step) => step.done));
  }

  #wake(): void {
    if (this.#stopping) return;
    if (this.#claiming) {
      this.#wokenMeanwhile = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#claiming = this.#claim()
      .catch((error) => {
        this.#needs.incident(error);
        this.#sleep(longestSleepMs);
      })
      .finally(() => {
        this.#claiming = undefined;
        if (!this.#wokenMeanwhile) return;
        this.#wokenMeanwhile = false;
        this.#wake();
      });
  }

  async #claim(): Promise<void> {
    const now = this.#needs.now();
    const byMs = this.#claimedAt - now;
    if (byMs > 0) await this.#needs.db.transact(activityTransactions.setBack, { byMs });
    this.#claimedAt = now;
    const limit = stepsAtOnce - this.#steps.size;
    const room = this.#room();
    if (limit > 0) {
      const leasedUntil = now + this.#needs.leaseMs;
      const rows = await this.#needs.db.transact(activityTransactions.claim, { now, leasedUntil, limit, room });
      for (const row of rows) {
        const step = new Step(row, this.#needs);
        this.#steps.set(row.id, step);
        void step.done.then(() => {
          this.#steps.delete(row.id);
          this.#wake();
        });
      }
    }
    await this.#tellCanceled();
    this.#sleep(await this.#untilNext(now));
  }

  /** How many more of the limited kinds may begin. */
  #room(): Partial<Record<ActivityKind, number>> {
    const kinds = Object.entries(atOnce) as [ActivityKind, number][];
    return Object.fromEntries(kinds.map(([kind, most]) => [kind, most - this.#count(kind)]));
  }

  #count(kind: ActivityKind): number {
    return [...this.#steps.values()].filter((step) => step.kind === kind).length;
  }

  async #untilNext(now: number): Promise<number> {
    if (this.#steps.size >= stepsAtOnce) return longestSleepMs; // the end of a step wakes
    const full = (Object.entries(this.#room()) as [ActivityKind, number][]).filter(([, room]) => room <= 0);
    let query = sql
      .selectFrom('activity')
      .select((e) => e.fn.min('due_at').as('at'))
      .where('due_at', 'is not', null)
      .where('leased_until', '<=', now);
    if (full.length > 0)
      query = query.where(
        'kind',
        'not in',
        full.map(([kind]) => kind),
      );
    const next = await this.#needs.db.first(query);
    return next?.at == null ? longestSleepMs : Number(next.at) - this.#needs.now();
  }

  #sleep(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#wake(), Math.min(longestSleepMs, Math.max(5, ms)));
  }

  async #tellCanceled(): Promise<void> {
    if (this.#steps.size === 0) return;
    const rows = await this.#needs.db.all(
      sql
        .selectFrom('activity')
        .select('id')
        .where('id', 'in', [...this.#steps.keys()])
        .where('cancel_requested', '=', 1),
    );
    for (const { id } of rows) this.#steps.get(id)?.cancel();
  }
}
