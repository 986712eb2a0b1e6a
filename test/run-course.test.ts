// A run's course as it is watched: the queue and the position in it, cancelling, the log as it grows, secrets and progress bars in it, and the
// events of activities, which go on where they were after the server was started again.
import type { ActivityEvent } from '@stellwerk/contract/activity.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { pythonSignals, Signals } from './signals.ts';
import { runOf, submit } from './submission.ts';
import { typed } from './typing.ts';
import { until, untilEnded, untilState } from './waiting.ts';

const workspace = 'story';
const secret = 'correct horse battery';
let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start([], { STORY_SECRET: secret });
  const settings = { kind: 'host' as const, maxConcurrentRuns: 1 };
  await installation.client.compute.attach({ workspace, name: 'single', settings });
});
afterAll(() => installation[Symbol.asyncDispose]());

const userManaged = { environment: { userManaged: true } };
const named = (run: Run) => ({ workspace, run: run.id });
const place = (run: Run) => ({ client: installation.client, ...named(run) });
const get = (run: Run) => installation.client.runs.get(named(run));

const waiting = `${pythonSignals}
import sys
tell("started " + sys.argv[1])
wait("end " + sys.argv[1])
`;

async function submitWaiting(signals: Signals, name: string, target = 'single'): Promise<Run> {
  const { environmentVariables } = signals;
  return submit(installation, { code: waiting, arguments: [name], target, ...userManaged, environmentVariables });
}

test('runs wait in the order they were submitted, their position is shown, and a canceled one makes way', async () => {
  const signals = new Signals(installation.folder);
  const runs: Run[] = [];
  for (const name of ['a', 'b', 'c', 'd']) runs.push(await submitWaiting(signals, name));
  const [a, b, c, d] = runs as [Run, Run, Run, Run];
  await signals.heard('started a');
  const positions = async () => (await Promise.all(runs.map(get))).map(({ queuePosition }) => queuePosition);
  expect(await positions()).toEqual([undefined, 1, 2, 3]);
  expect(await typed(installation, 'run', 'get', d.id)).toMatch(/queuePosition\s+3/);
  const target = await installation.client.compute.get({ workspace, target: 'single' });
  expect(target).toMatchObject({ queued: 3, running: 1 });
  await installation.client.runs.cancel(named(b));
  expect((await get(b)).state).toBe('canceled');
  expect(await positions()).toEqual([undefined, undefined, 1, 2]);
  signals.tell('end a');
  await signals.heard('started c');
  expect((await get(d)).state).toBe('queued');
  signals.tell('end c');
  await signals.heard('started d');
  signals.tell('end d');
  const ended = await Promise.all(runs.map((run) => untilEnded(place(run))));
  expect(ended.map(({ state }) => state)).toEqual(['completed', 'canceled', 'completed', 'completed']);
  const started = [a, c, d].map((run) => ended.find(({ id }) => id === run.id)!.startedAt!);
  expect(started).toEqual([...started].sort());
});

test('cancelling a run and cancelling its activity are the same, and children end with it', async () => {
  const signals = new Signals(installation.folder);
  const byRun = await submitWaiting(signals, 'run', 'host');
  const byActivity = await submitWaiting(signals, 'activity', 'local');
  for (const name of ['run', 'activity']) await signals.heard(`started ${name}`);
  for (const run of [byRun, byActivity]) await untilState(place(run), 'running');
  const child = await installation.client.runs.start({ workspace, experiment: 'x', parent: byRun.id });
  await installation.client.runs.cancel(named(byRun));
  await typed(installation, 'activity', 'cancel', byActivity.activity!);
  for (const run of [byRun, byActivity]) {
    expect(await untilEnded(place(run))).toMatchObject({ state: 'canceled', reason: expect.stringContaining('admin') });
    const activity = { workspace, activity: run.activity! };
    await until(
      'its activity is canceled',
      async () => (await installation.client.activities.get(activity)).state === 'canceled',
    );
  }
  expect((await untilEnded(place(child))).state).toBe('canceled');
});

test('the log is seen while the script prints, read again from any offset, and followed over a restart of the server', async () => {
  const signals = new Signals(installation.folder);
  const code = `${pythonSignals}
for part in ("one", "two", "three"):
    print(part + " ä", flush=True)
    tell("printed " + part)
    wait("after " + part)
`;
  const { environmentVariables } = signals;
  const run = await submit(installation, { code, ...userManaged, environmentVariables });
  const followed = installation.cli(['run', 'logs', run.id, '--follow']);
  const waited = installation.python(['-'], {
    input: `
from stellwerk.core import Run, Workspace
details = Run.get(Workspace.get("story"), "${run.id}").wait_for_completion(show_output=True)
print(details["status"])
`,
  });
  await signals.heard('printed one');
  const from = async (offset: number) => (await installation.client.logs.get({ ...named(run), offset })).text();
  await until('the first line is there while the script runs', async () => (await from(0)) === 'one ä\n');
  signals.tell('after one');
  await until('the second is read from where the first ended', async () => (await from(7)) === 'two ä\n');
  await installation.restart('SIGTERM');
  signals.tell('after two');
  await signals.heard('printed three');
  await installation.restart('SIGKILL');
  signals.tell('after three');
  expect((await untilEnded(place(run))).state).toBe('completed');
  expect(await from(0)).toBe('one ä\ntwo ä\nthree ä\n');
  expect(await from(14)).toBe('three ä\n');
  expect(await followed).toMatchObject({ code: 0, stdout: 'one ä\ntwo ä\nthree ä\n' });
  const { code: exitCode, stdout, stderr } = await waited;
  expect(exitCode, stderr).toBe(0);
  expect(stdout).toContain('\n\none ä\ntwo ä\nthree ä\n\nExecution Summary');
  expect(stdout).toMatch(/Completed\n$/);
});

test('a progress bar leaves its last state, and the values of secrets are masked wherever they are printed', async () => {
  const code = `
import os, sys
for percent in range(101):
    sys.stderr.write("\\r%3d%% done" % percent)
sys.stderr.write("\\n")
value = os.environ["STORY_SECRET"]
print("the secret is", value, "in the middle", len(value))
sys.stdout.write(value[:7]); sys.stdout.flush(); print(value[7:])
raise SystemExit("failed with " + value)
`;
  const run = await runOf(installation, { code, ...userManaged, secrets: ['STORY_SECRET'] });
  expect(run).toMatchObject({ state: 'failed', exitCode: 1 });
  const lines = run.printed.split('\n');
  expect(lines[0]).toMatch(/^(.*\r)?100% done\r?$/);
  expect(run.printed).toContain('the secret is *** in the middle 21');
  expect(run.lastLines!.at(-1)).toBe('failed with ***');
  expect(run.printed + JSON.stringify(run)).not.toContain(secret);
  expect(run.printed + JSON.stringify(run)).not.toContain('horse');
});

test('a watcher of activities hears of every change once, in order, though the server is started again meanwhile', async () => {
  const heard: ActivityEvent[] = [];
  const stop = new AbortController();
  const watching = (async () => {
    for await (const event of installation.client.activities.watch({ workspace }, { signal: stop.signal }))
      heard.push(event);
  })();
  const signals = new Signals(installation.folder);
  const states = (run: Run) => [
    ...new Set(heard.filter(({ activity }) => activity.subject === run.id).map(({ activity }) => activity.state)),
  ];
  const first = await submitWaiting(signals, 'first');
  await signals.heard('started first');
  await until('the beginning is heard', () => states(first).includes('running'));
  await installation.restart('SIGKILL');
  const second = await submitWaiting(signals, 'second');
  signals.tell('end first');
  signals.tell('end second');
  for (const run of [first, second]) await untilEnded(place(run));
  await until('the end is heard', () => states(second).includes('succeeded'));
  stop.abort();
  await watching;
  for (const run of [first, second]) expect(states(run)).toEqual(['queued', 'running', 'succeeded']);
  const ids = heard.map(({ id }) => id);
  expect(ids).toEqual([...new Set(ids)].sort((x, y) => x - y));

  // Whoever was away altogether goes on from the last event it saw, and misses none.
  const middle = Math.floor(ids.length / 2);
  const later: number[] = [];
  const again = installation.client.activities.watch({ workspace }, { lastEventId: ids[middle]! });
  for await (const { id } of again) if (later.push(id) === ids.length - middle - 1) break;
  expect(later).toEqual(ids.slice(middle + 1));
});
