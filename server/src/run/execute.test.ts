// The activity of a run that has a machine to run on, with jobs that end when the test says so.
import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { RunState } from '@stellwerk/contract/run-state.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { activityTransactions } from '../activity/store.ts';
import { runTransactions } from './lifecycle.ts';
import { ada, type RunRooms, runRooms, workspace } from './run-rooms.fixture.ts';

let rooms: RunRooms;
beforeEach(async () => {
  rooms = await runRooms({ places: 1 });
});
afterEach(() => rooms[Symbol.asyncDispose]());

const script = { script: 'train.py', target: 'host' };
const get = (run: string) => rooms.runs.get({ workspace, run });
const report = (run: string, more: object = {}) => rooms.runs.report({ workspace, run, attempt: 1, ...more }, ada);
const cancel = (run: string) => rooms.runs.cancel({ workspace, run }, ada);
const activityOf = async (run: string) => (await rooms.activities.list({ workspace, subject: run })).items[0]!;

async function until(what: () => Promise<boolean> | boolean, within = 30_000): Promise<void> {
  for (let waited = 0; waited < within; waited += 20) {
    if (await what()) return;
    await pause(20);
  }
  throw new Error('did not happen in time');
}
const untilState = (run: string, state: RunState) => until(async () => (await get(run)).state === state);

test('runs on a machine start first in, first out, as places are free, and their position is shown', async () => {
  const [a, b, c] = [await rooms.submit(script), await rooms.submit(script), await rooms.submit(script)];
  expect((await get(c.id)).queuePosition).toBe(3);
  await rooms.worker.start();
  await until(() => rooms.jobs.running().length === 1);
  expect(rooms.jobs.running()).toEqual([a.id]);
  expect((await get(c.id)).queuePosition).toBe(2);
  expect((await rooms.use.load(workspace)).get('host')).toEqual({ queued: 2, running: 1 });
  await report(a.id, { state: 'running' });
  await report(a.id, { state: 'completed' });
  await pause(200);
  // The place is free only when the job is gone from the machine.
  expect((await get(b.id)).state).toBe('queued');
  rooms.jobs.end(a.id);
  await until(() => rooms.jobs.running().includes(b.id));
  await cancel(b.id);
  await until(() => rooms.jobs.asked.includes('ask'));
  await report(b.id, { state: 'canceled' });
  rooms.jobs.end(b.id);
  await until(() => rooms.jobs.running().includes(c.id));
  expect((await get(c.id)).queuePosition).toBeUndefined();
});

test('a job is given a token, its environment and its configuration, and the lock is recorded', async () => {
  const { id } = await rooms.submit({ ...script, environment: { requirementsFile: 'requirements.txt' } });
  await rooms.worker.start();
  await until(() => rooms.jobs.running().length === 1);
  const { job } = [...rooms.jobs.orders.values()][0]!;
  expect(job).toMatchObject({
    run: id,
    attempt: 1,
    workspace,
    experiment: 'e',
    server: 'http://here',
    environment: { kind: 'user-managed' },
  });
  expect(job.token).toMatch(/^swr_/);
  expect((await get(id)).environment?.notices).toEqual(['made from requirements']);
});

test('a runner that is gone without a word loses its run; what it left is recovered and may end the run rightly', async () => {
  const { id } = await rooms.submit(script);
  await rooms.worker.start();
  await until(() => rooms.jobs.running().length === 1);
  await report(id, { state: 'running' });
  rooms.jobs.recover = async () => {
    expect((await get(id)).state).toBe('lost');
    await report(id, { state: 'completed', exitCode: 0 });
  };
  rooms.jobs.end(id);
  await untilState(id, 'completed');
  expect((await activityOf(id)).state).toBe('succeeded');
  const lost = await rooms.submit(script);
  await until(() => rooms.jobs.running().includes(lost.id));
  rooms.jobs.recover = async () => {};
  rooms.jobs.end(lost.id);
  await until(async () => (await activityOf(lost.id)).state === 'failed');
  expect(await get(lost.id)).toMatchObject({ state: 'lost' });
  expect((await get(lost.id)).reason).toContain('without saying how the run went');
  expect(rooms.jobs.running()).toEqual([]);
});

test('a job that waits in the queue of its target says why, is not lost meanwhile, and then runs', async () => {
  rooms.jobs.waiting = { state: 'waiting', reason: 'Waits for resources.', position: 4 };
  const { id } = await rooms.submit(script);
  await rooms.worker.start();
  await until(async () => (await get(id)).reason === 'Waits for resources. (position 4)');
  await until(async () => (await activityOf(id)).progress.message === 'Waits for resources. (position 4)');
  for (let leases = 0; leases < 3; leases++) {
    rooms.pass(29_000);
    await rooms.leases.sweep();
    const before = rooms.jobs.looks;
    await until(() => rooms.jobs.looks > before + 1);
  }
  expect((await get(id)).state).toBe('preparing');
  rooms.jobs.waiting = undefined;
  await report(id, { state: 'running' });
  expect(await get(id)).toMatchObject({ state: 'running' });
  expect((await get(id)).reason).toBeUndefined();
});

test('what its target tells of a job is on the run: where it is, and in the end what it took', async () => {
  rooms.jobs.waiting = { state: 'waiting', reason: 'Waits.', facts: { id: '17' } };
  const { id } = await rooms.submit(script);
  await rooms.worker.start();
  await until(async () => (await get(id)).job?.id === '17');
  rooms.jobs.waiting = undefined;
  await report(id, { state: 'running', job: { application: 'app-1' } });
  expect((await get(id)).job).toEqual({ id: '17', application: 'app-1' });
  await report(id, { state: 'completed' });
  const usage = { cpuSeconds: 12.5, peakMemoryBytes: 1e9, exitCode: 0 };
  rooms.jobs.end(id, { state: 'ended', facts: { id: '17', nodes: ['n1', 'n2'] }, usage });
  await until(async () => (await get(id)).usage !== undefined);
  expect(await get(id)).toMatchObject({ job: { id: '17', application: 'app-1', nodes: ['n1', 'n2'] }, usage });
});

test.each([
  ['out-of-memory', 'failed'],
  ['refused', 'failed'],
  ['canceled', 'canceled'],
  ['node-lost', 'lost'],
] as const)('a job that its target ended (%s) leaves its run %s, with the reason', async (cause, state) => {
  const { id } = await rooms.submit(script);
  await rooms.worker.start();
  await until(() => rooms.jobs.running().length === 1);
  await report(id, { state: 'running' });
  rooms.jobs.end(id, { state: 'ended', cause, reason: 'The target ended it.' });
  await until(async () => (await activityOf(id)).endedAt !== undefined);
  expect(await get(id)).toMatchObject({ state, reason: 'The target ended it.' });
  expect(rooms.jobs.running()).toEqual([]);
});

test('a run that was lost is begun again as often as it may be, and what an earlier attempt says then is refused', async () => {
  const { id } = await rooms.submit({ ...script, retries: { count: 2 } });
  await rooms.worker.start();
  for (const attempt of [1, 2]) {
    await until(async () => rooms.jobs.running().includes(id) && (await get(id)).attempt === attempt);
    await report(id, { state: 'running', attempt });
    rooms.jobs.end(id, { state: 'ended', cause: 'preempted', reason: 'Its place was taken.' });
    await until(async () => (await get(id)).attempt === attempt + 1);
    await expect(report(id, { state: 'running', attempt })).rejects.toMatchObject({ reason: 'run.attempt-superseded' });
  }
  await until(() => rooms.jobs.running().includes(id));
  expect(await get(id)).toMatchObject({ attempt: 3, state: 'preparing' });
  await report(id, { state: 'running', attempt: 3 });
  rooms.jobs.end(id, { state: 'ended', cause: 'preempted', reason: 'Its place was taken.' });
  await until(async () => (await activityOf(id)).endedAt !== undefined);
  expect(await get(id)).toMatchObject({ attempt: 3, state: 'lost', reason: 'Its place was taken.' });
});

test('a run is begun again for the causes that it names only, and not once it was canceled', async () => {
  const { id } = await rooms.submit({ ...script, retries: { count: 5, on: ['out-of-memory'] } });
  await rooms.worker.start();
  await until(() => rooms.jobs.running().includes(id));
  rooms.jobs.end(id, { state: 'ended', cause: 'out-of-memory', reason: 'Its memory was used up.' });
  await until(async () => (await get(id)).attempt === 2 && rooms.jobs.running().includes(id));
  await report(id, { state: 'running', attempt: 2 });
  await cancel(id);
  rooms.jobs.end(id, { state: 'ended', cause: 'out-of-memory', reason: 'Its memory was used up.' });
  await until(async () => (await get(id)).endedAt !== undefined);
  expect(await get(id)).toMatchObject({ state: 'canceled', attempt: 2 });
  const other = await rooms.submit({ ...script, retries: { count: 5, on: ['preempted'] } });
  await until(() => rooms.jobs.running().includes(other.id));
  rooms.jobs.end(other.id);
  await until(async () => (await activityOf(other.id)).endedAt !== undefined);
  expect(await get(other.id)).toMatchObject({ state: 'lost', attempt: 1 });
});

test('a script that was ended for its own time limit is begun again where that is asked for', async () => {
  const { id } = await rooms.submit({ ...script, retries: { count: 1, on: ['time-limit'] } });
  await rooms.worker.start();
  await until(() => rooms.jobs.running().includes(id));
  await report(id, { state: 'running' });
  const failed = { state: 'failed', cause: 'time-limit', reason: 'Its time was over.', exitCode: 143 };
  expect(await report(id, failed)).toMatchObject({ state: 'lost', cancelRequested: false });
  expect(await report(id)).toMatchObject({ state: 'lost' }); // a last sign of life does not bring it back
  rooms.jobs.end(id);
  await until(async () => (await get(id)).attempt === 2 && rooms.jobs.running().includes(id));
  expect(await activityOf(id)).toMatchObject({ state: 'running' });
  await report(id, { state: 'running', attempt: 2 });
  expect(await report(id, { ...failed, attempt: 2 })).toMatchObject({ state: 'failed' });
  expect(await get(id)).toMatchObject({ state: 'failed', reason: 'Its time was over.', attempt: 2 });
});

test('a script that was ended for its time limit has failed where no other attempt is wanted, or it was canceled', async () => {
  const other = await rooms.submit({ ...script, retries: { count: 3, on: ['preempted'] } });
  await rooms.worker.start();
  await until(() => rooms.jobs.running().includes(other.id));
  await report(other.id, { state: 'failed', cause: 'time-limit', reason: 'Its time was over.' });
  expect(await get(other.id)).toMatchObject({ state: 'failed' });
  rooms.jobs.end(other.id);
  const canceled = await rooms.submit({ ...script, retries: { count: 3, on: ['time-limit'] } });
  await until(() => rooms.jobs.running().includes(canceled.id));
  await report(canceled.id, { state: 'running' });
  await cancel(canceled.id);
  await report(canceled.id, { state: 'failed', cause: 'time-limit', reason: 'Its time was over.' });
  expect(await get(canceled.id)).toMatchObject({ state: 'failed', attempt: 1 });
});

test('a job that cannot be started fails its run and frees the place; what may help later is tried again', async () => {
  rooms.jobs.failStart = 'never';
  const one = await rooms.submit(script);
  await rooms.worker.start();
  await untilState(one.id, 'failed');
  expect(await get(one.id)).toMatchObject({ reason: 'The machine is not in the mood.' });
  rooms.jobs.failStart = undefined;
  const two = await rooms.submit(script);
  await until(() => rooms.jobs.running().includes(two.id));
});

test('a run whose target is let go of just now waits for what comes of that', async () => {
  const leaving = { state: 'detaching' };
  rooms.jobs.failStart = new ServiceError('failed-precondition', 'compute.not-ready', 'It is detaching.', leaving);
  const { id } = await rooms.submit(script);
  await rooms.worker.start();
  await until(async () => (await get(id)).state === 'preparing');
  rooms.jobs.failStart = undefined;
  await until(() => rooms.jobs.running().includes(id));
});

test('a run that is canceled while its environment is made ends at once, and frees its place', async () => {
  rooms.onLock(
    (signal) =>
      new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason), { once: true })),
  );
  const { id } = await rooms.submit(script);
  await rooms.worker.start();
  await until(async () => (await activityOf(id)).progress.message === 'Making the environment.');
  await cancel(id);
  await untilState(id, 'canceled');
  expect((await get(id)).reason).toBe('Canceled by ada.');
  rooms.onLock(async () => {});
  const next = await rooms.submit(script);
  await until(() => rooms.jobs.running().includes(next.id));
});

test('whoever waits behind a run that is canceled before it was ever looked at is not forgotten', async () => {
  const first = await rooms.submit(script);
  const second = await rooms.submit(script);
  const { db } = rooms.scratch;
  const moment = { now: Date.now(), at: new Date().toISOString() };
  const { key } = await rooms.runs.placeOf(workspace, second.id);
  expect(await db.transact(runTransactions.takePlace, { key, room: { places: 1 }, moment })).toBe(false);
  // As the worker leaves it: nobody looks after the second until it is woken.
  await db.transact(activityTransactions.change, { id: second.activity!, change: { dueAt: null, at: moment.at } });
  await cancel(first.id);
  await rooms.worker.start();
  await until(() => rooms.jobs.running().includes(second.id));
});

test('a worker that starts again finds the job it started', async () => {
  const { id } = await rooms.submit(script);
  await rooms.worker.start();
  await until(() => rooms.jobs.running().length === 1);
  await report(id, { state: 'running' });
  await rooms.worker.stop();
  await report(id, { state: 'completed' });
  rooms.jobs.end(id);
  const again = rooms.newWorker();
  await again.start();
  await until(() => rooms.jobs.running().length === 0);
  await again.stop();
  expect((await get(id)).state).toBe('completed');
});
