// Garbage collection: frees the disk of what nothing refers to any more, while others write. By itself every few hours, and when it is asked.
// Invariants: what is referred to is never taken (each room decides in the transaction that lets go of a thing); one collection at a
// time; one that a restart interrupts begins again and adds to its report; a dry run changes nothing.
import type { Activity } from '@stellwerk/contract/activity.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Collection, CollectionReport } from '@stellwerk/contract/server.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { type Caller, nameOf } from '../access/access.ts';
import type { Outcome, Work } from '../activity/activities.ts';
import type { Database } from '../db/database.ts';
import { type Collecting, collect } from './collecting.ts';
import { collectionReadings, collectionTransactions } from './store.ts';

export { EmptyTrash } from './empty-trash.ts';

export interface CollectionNeeds {
  db: Database;
  now(): number;
  newId(): string;
  collecting: Collecting;
  everyMs: number;
  incident(error: unknown): void;
}

type Input = CheckedOf<'server', 'collectGarbage'>;

/** As it collects by itself. */
const usual: Input = { dryRun: false, graceHours: 24, unusedDays: 30 };
const longestSleepMs = 3_600_000;

export class Collections {
  readonly #needs: CollectionNeeds;
  #timer: NodeJS.Timeout | undefined;

  constructor(needs: CollectionNeeds) {
    this.#needs = needs;
  }

  async collectGarbage(input: Input, caller: Caller): Promise<Collection> {
    return collectionOf(await this.#begin(input, nameOf(caller)));
  }

  async getCollection({ collection }: CheckedOf<'server', 'getCollection'>): Promise<Collection> {
    const found = (await this.#last()).find(({ activity }) => activity.id === collection);
    if (found) return collectionOf(found);
    throw new ServiceError('not-found', 'collection.not-found', `There is no garbage collection ${collection}.`);
  }

  async listCollections(): Promise<OutputOf<'server', 'listCollections'>> {
    return { items: (await this.#last()).map(collectionOf) };
  }

  #last(): Promise<Begun[]> {
    return this.#needs.db.transact(collectionReadings.last, undefined);
  }

  #begin(input: Input, by: string): Promise<Begun> {
    const now = this.#needs.now();
    const at = new Date(now).toISOString();
    return this.#needs.db.transact(collectionTransactions.begin, { id: this.#needs.newId(), input, by, now, at });
  }

  /** Begins one whenever the last one that was no dry run is old enough, whatever restarts come between. */
  start(): void {
    const tick = async () => {
      const ms = await this.#beginIfDue().catch((error: unknown) => {
        this.#needs.incident(error);
        return longestSleepMs;
      });
      if (this.#timer) this.#timer = setTimeout(tick, Math.min(longestSleepMs, Math.max(1_000, ms))).unref();
    };
    this.#timer = setTimeout(tick, 1_000).unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Returns when to look again. */
  async #beginIfDue(): Promise<number> {
    const last = (await this.#last()).find(({ input }) => !input.dryRun);
    const { everyMs, now } = this.#needs;
    const sinceMs = last ? now() - Date.parse(last.activity.createdAt) : everyMs;
    if (sinceMs >= 0 && sinceMs < everyMs) return everyMs - sinceMs; // a clock that was set back is not waited for
    await this.#begin(usual, 'stellwerk');
    return everyMs;
  }

  /** The activity. */
  async act(work: Work): Promise<Outcome> {
    const input = work.input as Input;
    await collect(this.#needs.collecting, input, this.#needs.now(), work);
    return { state: 'succeeded', message: input.dryRun ? 'Nothing was removed.' : 'Collected.' };
  }
}

interface Begun {
  activity: Activity;
  input: Input;
}

function collectionOf({ activity, input }: Begun): Collection {
  const { id, state, progress, error, createdAt, createdBy, startedAt, endedAt } = activity;
  return {
    id,
    state,
    dryRun: input.dryRun,
    progress,
    createdAt,
    createdBy,
    ...(error && { error }),
    ...(startedAt && { startedAt }),
    ...(endedAt && { endedAt }),
    ...(activity.report && { report: activity.report as CollectionReport }),
  };
}
