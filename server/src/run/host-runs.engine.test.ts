// Runs on the host from submission to their end, by a real server and real runners.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Activity } from '@stellwerk/contract/activity.ts';
import type { ComputeTarget } from '@stellwerk/contract/compute.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { endStates, type RunState } from '@stellwerk/contract/run-state.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RealServer } from '../compute/real-server.fixture.ts';
import { killProcess, processesMarked } from '../exec/processes.ts';

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server?.[Symbol.asyncDispose]());

const host = { target: 'host' };
async function until(what: () => Promise<unknown> | unknown, name: string, withinMs = 50_000): Promise<void> {
  for (const began = performance.now(); performance.now() - began < withinMs; await pause(50)) if (await what()) return;
  throw new Error(`${name} did not happen within ${withinMs} ms`);
}
async function untilState({ id }: Run, ...states: readonly RunState[]): Promise<Run> {
  await until(async () => states.includes((await server.run(id)).state), states.join(' or '));
  return server.run(id);
}
const untilPrinted = ({ id }: Run, text: string) => until(async () => (await server.log(id)).includes(text), text);
const target = () => server.ask<ComputeTarget>('GET', '/workspaces/suite/compute/host');
const activityOf = ({ activity }: Run) => server.ask<Activity>('GET', `/workspaces/suite/activities/${activity}`);
const untilIdle = () =>
  until(() => readdirSync(join(server.folder, 'data', 'runs')).length === 0, 'the end of all jobs');

test('a submitted script runs; its output, parameters and outputs are there; its activity tells how it went; nothing is left', async () => {
  const run = await server.submit(
    'import os, sys\nprint("alpha is", sys.argv[2])\nopen("outputs/m.txt", "w").write("x")\n',
    { ...host, arguments: ['--alpha', 0.5] },
  );
  expect(await untilState(run, ...endStates)).toMatchObject({
    state: 'completed',
    exitCode: 0,
    attempt: 1,
    parameters: { alpha: 0.5 },
  });
  expect(await server.log(run.id)).toContain('alpha is 0.5');
  expect(await server.files(run.id)).toContain('outputs/m.txt');
  expect(await activityOf(run)).toMatchObject({ state: 'succeeded', kind: 'run', subject: run.id });
  await untilIdle();
  expect(await target()).toMatchObject({ queued: 0, running: 0 });
});

test('a canceled script is asked to stop, its outputs still arrive, and the next in the queue starts', async () => {
  const script = `
import signal, sys, time
def stop(*_):
    open("outputs/last-words.txt", "w").write("bye")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
`;
  const run = await server.submit(script, { ...host, graceSeconds: 600 }); // it ends by itself, not after that
  await untilPrinted(run, 'ready');
  await server.cancel(run.id);
  expect(await untilState(run, ...endStates)).toMatchObject({ state: 'canceled', reason: 'Canceled by admin.' });
  expect(await server.files(run.id)).toContain('outputs/last-words.txt');
  expect((await activityOf(run)).state).toBe('canceled');
  await untilIdle();
});

test('a runner that is killed loses its run with a reason; no process of its script is left; its place is free', async () => {
  const run = await server.submit(
    'import subprocess, sys, time\nsubprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)\nprint("ready", flush=True)\ntime.sleep(600)\n',
    host,
  );
  await untilPrinted(run, 'ready');
  const above = join(server.folder, 'data', 'runs');
  const folder = join(above, readdirSync(above)[0]!);
  const { pid } = JSON.parse(readFileSync(join(folder, 'process.json'), 'utf8'));
  expect(processesMarked('STELLWERK_HOST_JOB', folder).length).toBeGreaterThan(2);
  killProcess(pid, 'SIGKILL');
  const lost = await untilState(run, 'lost');
  expect(lost.reason).toContain('runner');
  await until(() => processesMarked('STELLWERK_HOST_JOB', folder).length === 0, 'the end of all processes');
  await untilIdle();
  await until(async () => (await activityOf(run)).endedAt !== undefined, 'the end of the activity');
  expect(await activityOf(run)).toMatchObject({ state: 'failed', error: { reason: 'run.lost' } });
  expect((await target()).running).toBe(0);
  expect((await server.log(run.id)).includes('ready')).toBe(true);
});

test('a time limit ends a script', async () => {
  const run = await server.submit('import time\ntime.sleep(600)\n', { ...host, resources: { timeLimit: 1 } });
  const ended = await untilState(run, ...endStates);
  expect(ended.state).toBe('failed');
  expect(ended.reason).toMatch(/time limit|1 s/);
});

test('an environment that cannot be resolved fails its run before anything is started, and says why', async () => {
  const run = await server.submit('print(1)\n', {
    ...host,
    environment: { requirements: ['no-such-package-of-stellwerk==99.99'] },
  });
  const failed = await untilState(run, ...endStates);
  expect(failed).toMatchObject({ state: 'failed', attempt: 1 });
  expect(failed.reason).toContain('no-such-package-of-stellwerk');
  await untilIdle();
});
