// For tests of activities: a database whose worker can begin one, and a service whose executors the test writes.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import type { Activity, ActivityEvent, ActivityKind } from '@stellwerk/contract/activity.ts';
import type { UserCaller } from '../access/access.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { type Transaction, transactions } from '../db/transactions.ts';
import { serveDatabase } from '../db/worker.ts';
import { migrations } from '../stores.ts';
import { Activities, ActivityWorker, type Beginning, beginActivity, type Executor } from './activities.ts';

export const activityFixture = transactions('activity-fixture', {
  begin: (tx: Transaction, beginning: Beginning): Activity => beginActivity(tx, beginning),
});

export interface ActivityRig extends AsyncDisposable {
  scratch: ScratchDatabase;
  activities: Activities;
  incidents: unknown[];
  begin(kind?: ActivityKind, more?: Partial<Beginning>): Promise<Activity>;
  get(id: string): Promise<Activity>;
  /** Starts a worker; it is stopped with the rig. */
  work(
    executors: Partial<Record<ActivityKind, Executor>>,
    more?: { leaseMs?: number; now?(): number },
  ): Promise<ActivityWorker>;
  /** The activity once it has ended. */
  ended(id: string): Promise<Activity>;
}

export const workspace = 'w1';
export const ada: UserCaller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't1' };

export async function activityRig(): Promise<ActivityRig> {
  const scratch = await scratchDatabase(migrations, new URL(import.meta.url).pathname);
  const { db, folder } = scratch;
  const activities = new Activities({ db, now: Date.now, folder: join(folder, 'activities') });
  const workers: ActivityWorker[] = [];
  const incidents: unknown[] = [];
  const get = (activity: string) => activities.get({ workspace, activity });
  const incident = (error: unknown) => `i${incidents.push(error)}`;
  return {
    scratch,
    activities,
    incidents,
    get,
    begin: (kind = 'run', more = {}) => {
      const now = Date.now();
      const at = new Date(now).toISOString();
      const usual = { workspace, kind, subject: 's', message: 'Waiting.', createdBy: 'ada', at, dueAt: now };
      return db.transact(activityFixture.begin, { id: randomUUID(), ...usual, ...more });
    },
    work: async (executors, { leaseMs = 30_000, now = Date.now } = {}) => {
      const all = executors as Record<ActivityKind, Executor>;
      const worker = new ActivityWorker({ db, activities, executors: all, now, leaseMs, incident });
      workers.push(worker);
      await worker.start();
      return worker;
    },
    ended: async (id) => {
      for await (const { activity } of watchFrom(activities, 0, id)) if (activity.endedAt) return activity;
      throw new Error('The stream ended before the activity.');
    },
    [Symbol.asyncDispose]: async () => {
      for (const worker of workers) await worker.stop();
      await scratch[Symbol.asyncDispose]();
    },
  };
}

/** Events after a number, until the reader leaves. */
export async function* watchFrom(
  activities: Activities,
  after: number,
  activity?: string,
): AsyncGenerator<ActivityEvent> {
  const leaving = new AbortController();
  try {
    yield* activities.watch({ workspace, after, ...(activity && { activity }) }, undefined, leaving.signal);
  } finally {
    leaving.abort();
  }
}

if (!isMainThread) serveDatabase();
