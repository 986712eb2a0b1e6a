// Clocks that somebody sets: the server's, back by hours and forward by a day while it was away; and that of the machine on which scripts
// run. Order stays the order in which things happened, leases are durations, and nothing waits for a time that never comes.
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { Clock, fakes } from './set-clock.ts';
import { pythonSignals, Signals } from './signals.ts';
import { submit } from './submission.ts';
import { until, untilEnded, untilState } from './waiting.ts';

const workspace = 'story';
const userManaged = { environment: { userManaged: true } };
const stages = `${pythonSignals}
from stellwerk.core import Run
run = Run.get_context()
for stage in range(3):
    for step in range(1000):
        run.log("loss", stage * 1000 + step)
    print("stage %d" % stage, flush=True)
    tell("stage %d" % stage)
    wait("after %d" % stage)
`;

async function begun(installation: Installation, target: string) {
  const signals = new Signals(installation.folder);
  const { environmentVariables } = signals;
  const run = await submit(installation, { code: stages, target, ...userManaged, environmentVariables });
  await signals.heard('stage 0');
  await untilState({ client: installation.client, workspace, run: run.id }, 'running');
  return { run, signals };
}

async function endedRight(installation: Installation, run: Run): Promise<void> {
  const { client } = installation;
  const ended = await untilEnded({ client, workspace, run: run.id });
  expect(ended, ended.reason).toMatchObject({ state: 'completed', exitCode: 0, attempt: 1 });
  const { points } = await client.metrics.getSeries({ workspace, run: run.id, name: 'loss', limit: 10_000 });
  expect(points!.map(({ value }) => value)).toEqual(Array.from({ length: 3_000 }, (_, value) => value));
  expect(await (await client.logs.get({ workspace, run: run.id })).text()).toBe('stage 0\nstage 1\nstage 2\n');
}

test.skipIf(!fakes)(
  "the server's clock is set back by two hours while runs go on, and again while it is down",
  async () => {
    await using installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
    const clock = new Clock(join(installation.folder, 'clock'));
    await installation.stop();
    await installation.up(clock.environment);
    const { client } = installation;
    await client.compute.attach({ workspace, name: 'single', settings: { kind: 'host', maxConcurrentRuns: 2 } });
    const going = [await begun(installation, 'single'), await begun(installation, 'local')];
    const waiting: Run[] = [];
    for (const code of ['print(1)', 'print(2)'])
      waiting.push(
        await submit(installation, { code, target: 'host', ...userManaged, environmentVariables: { A: code } }),
      );
    clock.set('-2h');
    const isBack =
      Date.parse((await client.runs.start({ workspace, experiment: 'x' })).createdAt) < Date.now() - 3_600_000;
    expect(isBack).toBe(true);
    for (const { signals } of going) {
      signals.tell('after 0');
      await signals.heard('stage 1');
    }
    for (const { run } of going)
      await until(
        'its points arrive',
        async () => (await client.metrics.list({ workspace, run: run.id })).items[0]!.count! >= 2_000,
      );
    clock.set('-4h');
    await installation.stop('SIGKILL');
    await installation.up(clock.environment);
    for (const { signals } of going) {
      signals.tell('after 1');
      signals.tell('after 2');
    }
    for (const { run } of going) await endedRight(installation, run);
    for (const run of waiting)
      expect(await untilEnded({ client, workspace, run: run.id })).toMatchObject({ state: 'completed' });
    await until(
      'no place is taken',
      async () => (await client.compute.get({ workspace, target: 'single' })).running === 0,
    );
  },
);

test.skipIf(!fakes)(
  'the server is away for a day: the run is lost by then, comes back, and all of it is there',
  async () => {
    await using installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
    const clock = new Clock(join(installation.folder, 'clock'));
    await installation.stop();
    await installation.up(clock.environment);
    const going = [await begun(installation, 'host'), await begun(installation, 'local')];
    await installation.stop('SIGKILL');
    clock.set('+26h');
    for (const { signals } of going) {
      signals.tell('after 0');
      await signals.heard('stage 1');
    }
    await installation.up(clock.environment);
    const { client } = installation;
    for (const { run } of going)
      await until(
        'its points arrive',
        async () => (await client.metrics.list({ workspace, run: run.id })).items[0]!.count! >= 2_000,
      );
    for (const { signals } of going) {
      signals.tell('after 1');
      signals.tell('after 2');
    }
    for (const { run } of going) await endedRight(installation, run);
  },
);

/** The clock as Python code sees it that is loaded later; set back in the middle of everything. */
const ownClock = `
import time
given, off = time.time, [0]
time.time = lambda: given() + off[0]
time.time_ns = lambda: int(time.time() * 1e9)
`;
const workingOn = `
for step in range(1000):
    run.log("loss", step)
off[0] = -86400
time.sleep(4) # longer than the lease
with run.child_run(name="yesterday") as child:
    child.log("loss", 1)
for step in range(1000, 2000):
    run.log("loss", step)
`;

test.for(['local', 'host', 'a notebook'])(
  'the clock that a script on %s sees is set back by a day: order and leases stay right',
  async (where) => {
    await using installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '2000' });
    const { client } = installation;
    const notebook = `${ownClock}
from stellwerk.core import Experiment, Workspace
run = Experiment(Workspace.get("${workspace}"), "notebook").start_logging(run_id="notebook")
${workingOn}
run.complete()
`;
    const script = `${ownClock}
from stellwerk.core import Run
run = Run.get_context()
${workingOn}`;
    const states = new Set<string>();
    const isNotebook = where === 'a notebook';
    const own = isNotebook ? installation.python(['-'], { input: notebook }) : undefined;
    const id = isNotebook
      ? 'notebook'
      : (await submit(installation, { code: script, target: where, ...userManaged })).id;
    const of = { workspace, run: id };
    const ended = await until('it has ended', async () => {
      const run = await client.runs.get(of);
      states.add(run.state);
      return run.endedAt !== undefined && run;
    });
    if (own) expect(await own).toMatchObject({ code: 0, stderr: '' });
    expect(ended, ended.reason).toMatchObject({ state: 'completed' });
    await until('its child has come', async () => (await client.runs.get(of)).childCount === 1);
    expect(states).not.toContain('lost');
    const { points } = await client.metrics.getSeries({ ...of, name: 'loss', limit: 10_000 });
    expect(points!.map(({ value }) => value)).toEqual(Array.from({ length: 2_000 }, (_, value) => value));
    const times = points!.map(({ at }) => Date.parse(at));
    expect(times[1_999]! - times[0]!).toBeLessThan(-80_000_000); // it was set, indeed
  },
);
