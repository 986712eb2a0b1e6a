import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sql } from '../db/transactions.ts';
import { type Activities, ActivityWorker, type Outcome, type Work } from './activities.ts';
import { type ActivityRig, activityRig, ada } from './activity.fixture.ts';
import { activityTransactions } from './store.ts';

let rig: ActivityRig;
beforeEach(async () => {
  rig = await activityRig();
});
afterEach(() => rig[Symbol.asyncDispose]());

const succeeded: Outcome = { state: 'succeeded', message: 'Done.' };
/** An executor that waits until it is told to end, or aborted. */
function held() {
  const begun = Promise.withResolvers<Work>();
  const end = Promise.withResolvers<Outcome>();
  const step = (work: Work) => {
    begun.resolve(work);
    work.signal.addEventListener('abort', () => end.reject(work.signal.reason));
    return end.promise;
  };
  return { step, begun: begun.promise, end: end.resolve };
}

describe('a step', () => {
  it('gets what the activity was begun with, and its end is recorded', async () => {
    const { id } = await rig.begin('image.build', { input: { name: 'i', version: 2 } });
    let input: unknown;
    await rig.work({
      'image.build': async (work) => {
        input = work.input;
        await work.progress('Half.', 0.5);
        return { state: 'succeeded', message: 'Built.' };
      },
    });
    const activity = await rig.ended(id);
    expect(input).toEqual({ name: 'i', version: 2 });
    expect(activity).toMatchObject({ state: 'succeeded', progress: { message: 'Built.', fraction: 1 } });
    expect(activity.startedAt! <= activity.endedAt!).toBe(true);
  });

  it('comes again when it asked for it, until it ends', async () => {
    const { id } = await rig.begin();
    const times: number[] = [];
    await rig.work({
      run: async () => (times.push(Date.now()) < 3 ? { againInMs: 60, message: `Step ${times.length}.` } : succeeded),
    });
    await rig.ended(id);
    expect(times).toHaveLength(3);
    expect(times[2]! - times[1]!).toBeGreaterThanOrEqual(50);
  });

  it('that leaves the activity to others is the last one', async () => {
    const { id } = await rig.begin();
    let steps = 0;
    await rig.work({
      run: async () => {
        steps++;
        return { leave: true };
      },
    });
    await expect.poll(() => steps).toBe(1);
    await pause(200);
    expect(steps).toBe(1);
    expect((await rig.get(id)).state).toBe('queued');
  });

  it('comes at once again when somebody made the activity due while it ran', async () => {
    const { id } = await rig.begin();
    const first = held();
    let steps = 0;
    await rig.work({ run: (work) => (++steps === 1 ? first.step(work) : Promise.resolve(succeeded)) });
    await first.begun;
    const change = { dueAt: Date.now(), at: new Date().toISOString() };
    await rig.scratch.db.transact(activityTransactions.change, { id, change });
    first.end({ againInMs: 60_000 });
    await rig.ended(id);
    expect(steps).toBe(2);
  });

  it('that fails because of the caller says so, and an unforeseen one gives an incident', async () => {
    const [one, two] = [await rig.begin(), await rig.begin('web-service.scale')];
    await rig.work({
      run: async () => {
        throw new ServiceError('not-found', 'model.not-found', 'There is no model m.');
      },
      'web-service.scale': async () => {
        throw new TypeError('secret detail');
      },
    });
    const refused = await rig.ended(one.id);
    expect(refused).toMatchObject({
      state: 'failed',
      error: { reason: 'model.not-found', message: 'There is no model m.' },
      progress: { message: 'There is no model m.' },
    });
    expect(refused.error!.hint).toContain('stellwerk model list');
    const failed = await rig.ended(two.id);
    expect(failed.error).toEqual({ reason: 'server.internal', message: 'An internal fault happened: incident i1.' });
    expect(rig.incidents).toMatchObject([{ message: 'secret detail' }]);
  });

  it('is taken again when the world refused for now, and fails when it refused for good', async () => {
    const [one, two] = [await rig.begin(), await rig.begin('web-service.scale')];
    let tries = 0;
    await rig.work({
      run: async () => {
        if (++tries < 3) throw new TargetError('now', `Refused ${tries}.`);
        return succeeded;
      },
      'web-service.scale': async () => {
        throw new TargetError('never', 'There is no such thing.');
      },
    });
    expect((await rig.ended(one.id)).state).toBe('succeeded');
    expect(tries).toBe(3);
    const log = await rig.activities.getLog({ workspace: 'w1', activity: one.id });
    expect((await log.stream.toArray()).join('')).toBe('Refused 1.\nRefused 2.\n');
    const failed = await rig.ended(two.id);
    expect(failed.error).toEqual({ reason: 'target.failed', message: 'There is no such thing.' });
  });

  it('of a heavy kind leaves room for others, and the rest wait without being asked about all the time', async () => {
    const builds = await Promise.all([1, 2, 3].map(() => rig.begin('image.build')));
    const { id: other } = await rig.begin();
    let building = 0;
    let most = 0;
    const gate = Promise.withResolvers<void>();
    await rig.work({
      'image.build': async () => {
        most = Math.max(most, ++building);
        await gate.promise;
        building--;
        return succeeded;
      },
      run: async () => succeeded,
    });
    await rig.ended(other);
    await pause(100);
    const claims = await fencesOf();
    await pause(200);
    expect(await fencesOf()).toEqual(claims);
    gate.resolve();
    for (const { id } of builds) await rig.ended(id);
    expect(most).toBe(2);
  });

  const fencesOf = async () =>
    (await rig.scratch.db.all(sql.selectFrom('activity').select('fence').orderBy('id'))).map(({ fence }) => fence);
});

describe('cancelling', () => {
  const cancel = (activity: string) => rig.activities.cancel({ workspace: 'w1', activity }, ada);

  it('ends a step under way', async () => {
    const { id } = await rig.begin();
    const { step, begun } = held();
    await rig.work({ run: step });
    const work = await begun;
    expect(work.cancelRequested()).toBe(false);
    expect(await cancel(id)).toMatchObject({ cancelRequested: true, progress: { message: 'Canceling.' } });
    const ended = await rig.ended(id);
    expect(ended).toMatchObject({ state: 'canceled', progress: { message: 'Canceled.' } });
    expect(work.cancelRequested()).toBe(true);
    await expect(cancel(id)).rejects.toMatchObject({ reason: 'activity.ended' });
  });

  it('wakes an activity that waits, and its executor hears of it', async () => {
    const { id } = await rig.begin('run', { dueAt: Date.now() + 3_600_000 });
    await rig.work({
      run: async (work) => (work.cancelRequested() ? { state: 'canceled', message: 'Never began.' } : succeeded),
    });
    await cancel(id);
    expect(await rig.ended(id)).toMatchObject({ state: 'canceled', progress: { message: 'Never began.' } });
  });

  it('is done by the room that knows how, where there is one', async () => {
    const { id } = await rig.begin();
    const canceled: string[] = [];
    rig.activities.cancelWith({ run: async ({ subject }, by) => void canceled.push(subject, by) });
    expect((await cancel(id)).cancelRequested).toBe(false);
    expect(canceled).toEqual(['s', 'ada']);
  });
});

describe('a lease', () => {
  it('is renewed as long as a step takes, so that no other worker takes it', async () => {
    const { id } = await rig.begin();
    let steps = 0;
    const executors = {
      run: async () => {
        steps++;
        await pause(900);
        return succeeded;
      },
    };
    await rig.work(executors, { leaseMs: 300 });
    await pause(50);
    await second(executors, 300);
    await rig.ended(id);
    expect(steps).toBe(1);
  });

  it('that was lost aborts the step, which then changes nothing: the fence is another’s', async () => {
    const { id } = await rig.begin();
    const first = held();
    await rig.work({ run: first.step }, { leaseMs: 300 });
    const work = await first.begun;
    // Another server takes it, as after this one's machine had slept.
    const now = Date.now() + 60_000;
    const claiming = { now, leasedUntil: now + 60_000, limit: 5, room: {} };
    const [taken] = await rig.scratch.db.transact(activityTransactions.claim, claiming);
    expect(taken).toMatchObject({ id, fence: work.fence + 1 });
    await expect.poll(() => work.signal.aborted).toBe(true);
    expect(work.cancelRequested()).toBe(false);
    await work.progress('From the past.', 0.9);
    const at = new Date().toISOString();
    const release = { id, fence: work.fence, change: { state: 'failed', at } as const };
    await rig.scratch.db.transact(activityTransactions.release, release);
    expect(await rig.get(id)).toMatchObject({ state: 'queued', progress: { message: 'Waiting.' } });
  });

  it('of a server that was killed ends with the next start: the step is taken again', async () => {
    const { id } = await rig.begin('run', { input: 'what it was given' });
    const now = Date.now();
    const claiming = { now, leasedUntil: now + 3_600_000, limit: 5, room: {} };
    expect(await rig.scratch.db.transact(activityTransactions.claim, claiming)).toHaveLength(1);
    await rig.work({ run: async ({ input }) => ({ state: 'succeeded', message: String(input) }) });
    expect((await rig.ended(id)).progress.message).toBe('what it was given');
  });

  it('is given back when the server stops: the step is aborted and taken again after the next start', async () => {
    const { id } = await rig.begin();
    const first = held();
    const worker = await rig.work({ run: first.step });
    const work = await first.begun;
    await worker.stop();
    expect(work.signal.aborted).toBe(true);
    expect((await rig.get(id)).endedAt).toBeUndefined();
    await rig.work({ run: async () => succeeded });
    expect((await rig.ended(id)).state).toBe('succeeded');
  });

  /** A second worker on the same rows, as a second server would be: it releases nothing when it starts. */
  async function second(executors: object, leaseMs: number): Promise<void> {
    const { db } = rig.scratch;
    for (let round = 0; round < 10; round++) {
      const now = Date.now();
      const claiming = { now, leasedUntil: now + leaseMs, limit: 5, room: {} };
      expect(await db.transact(activityTransactions.claim, claiming)).toEqual([]);
      await pause(70);
    }
    expect(executors).toHaveProperty('run');
  }
});

describe('a clock that is set back by hours', () => {
  const counting = (steps: number) => {
    let count = 0;
    return async (): Promise<Outcome> => (++count < steps ? { againInMs: 300 } : { state: 'succeeded' });
  };

  it('holds up nothing while the server runs: the next step comes when it should', async () => {
    let offsetMs = 0;
    const step = counting(3);
    await rig.work(
      {
        run: async () => {
          setTimeout(() => {
            offsetMs -= 7_200_000; // while it waits for its next step
          }, 100);
          return step();
        },
      },
      { now: () => Date.now() + offsetMs },
    );
    const { id } = await rig.begin();
    expect(await rig.ended(id)).toMatchObject({ state: 'succeeded' });
  });

  it('holds up nothing either when it was set while the server was down; what is due later stays so', async () => {
    const first = await rig.work({ run: counting(9) });
    const { id } = await rig.begin();
    const later = await rig.begin('run', { dueAt: Date.now() + 3_600_000 });
    await expect.poll(async () => (await rig.get(id)).state, { timeout: 30_000 }).toBe('queued');
    await pause(400);
    await first.stop();
    await rig.work({ run: counting(2) }, { now: () => Date.now() - 7_200_000 });
    expect(await rig.ended(id)).toMatchObject({ state: 'succeeded' });
    expect(await rig.get(later.id)).toMatchObject({ state: 'queued' });
  });
});

describe('an activity that has ended', () => {
  it('changes no more, but can be due once again for what is left to clean up', async () => {
    const { id } = await rig.begin();
    const { db } = rig.scratch;
    let steps = 0;
    await rig.work({
      run: async () => {
        if (++steps > 1) return { leave: true };
        const at = new Date().toISOString();
        await db.transact(activityTransactions.change, { id, change: { state: 'failed', message: 'Ended.', at } });
        await db.transact(activityTransactions.change, { id, change: { dueAt: Date.now(), at } });
        return { state: 'succeeded', message: 'Too late.' };
      },
    });
    await expect.poll(() => steps).toBe(2);
    await pause(100);
    expect(steps).toBe(2);
    const at = new Date().toISOString();
    const late = { message: 'Later.', at };
    expect(await db.transact(activityTransactions.change, { id, change: late })).toBeUndefined();
    expect(await rig.get(id)).toMatchObject({ state: 'failed', progress: { message: 'Ended.' } });
  });
});

it('a worker that could not record a step says so and goes on with the others', async () => {
  const { id } = await rig.begin();
  await rig.begin('web-service.scale');
  const activities = Object.create(rig.activities) as Activities;
  const worker = new ActivityWorker({
    db: rig.scratch.db,
    activities,
    executors: {
      run: async () => succeeded,
      'web-service.scale': async () => ({ state: 'succeeded', message: 5n as unknown as string }),
    } as never,
    now: Date.now,
    leaseMs: 30_000,
    incident: (error) => `i${rig.incidents.push(error)}`,
  });
  await worker.start();
  await rig.ended(id);
  await expect.poll(() => rig.incidents.length).toBe(1);
  await worker.stop();
});
