// What a kill does: of the server, which the script never notices; of the runner, which loses its run but leaves no process; and
// of the script itself, when it is cancelled or over its time.
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation, repository } from './installation.ts';
import { isAlive, processesWith } from './processes.ts';
import { pythonSignals, Signals } from './signals.ts';
import { submit } from './submission.ts';
import { asked } from './typing.ts';
import { until, untilEnded, untilState } from './waiting.ts';

let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000', STELLWERK_ACTIVITY_LEASE_MS: '2000' });
});
afterAll(() => installation[Symbol.asyncDispose]());

const userManaged = { environment: { userManaged: true } };
const named = (run: Run) => ({ workspace: installation.workspace, run: run.id });
const place = (run: Run) => ({ client: installation.client, ...named(run) });
const textOf = async (run: Run, path: string) =>
  (await installation.client.runs.getFile({ ...named(run), path })).text();
const printed = async (run: Run) => (await installation.client.logs.get(named(run))).text();
const runners = () => processesWith(`stellwerk.runner\0${installation.folder}`);

const training = `${pythonSignals}
from stellwerk.core import Run

run = Run.get_context()
os.makedirs("outputs", exist_ok=True)
parts = ["before", "without a server", "after"]
for number, part in enumerate(parts):
    for step in range(number * 500, number * 500 + 500):
        run.log("loss", 1 / (step + 1), step=step)
        print("step %d" % step, flush=True)
    with run.child_run(name=part) as child:
        child.log("loss", number, step=0)
        with child.child_run(name="below " + part) as below:
            below.log_list("values", [number] * 100)
            below.log_param("part", part)
    with open("outputs/%s.txt" % part, "w") as file:
        file.write(part * 1000)
    tell("trained %d" % number)
    wait("go on %d" % number)
print("the end", flush=True)
`;

test('kill -9 of the server in the middle of training: the script does not notice, and everything is there exactly once', async () => {
  const signals = ['host', 'local'].map((target) => ({ target, ...signalsFor() }));
  const runs: Run[] = [];
  for (const { target, environmentVariables } of signals)
    runs.push(await submit(installation, { code: training, target, ...userManaged, environmentVariables }));
  for (const { signal } of signals) await signal.heard('trained 0');
  await installation.stop('SIGKILL');
  for (const { signal } of signals) {
    signal.tell('go on 0');
    await signal.heard('trained 1');
  }
  await installation.up();
  for (const { signal } of signals) {
    signal.tell('go on 1');
    await signal.heard('trained 2');
  }
  await installation.restart('SIGKILL');
  for (const { signal } of signals) signal.tell('go on 2');
  const lines = [...Array.from({ length: 1_500 }, (_, step) => `step ${step}`), 'the end', ''].join('\n');
  for (const run of runs) {
    const ended = await untilEnded(place(run));
    expect(ended, ended.reason).toMatchObject({ state: 'completed', exitCode: 0, attempt: 1, childCount: 3 });
    expect(await printed(run)).toBe(lines);
    const { points } = await installation.client.metrics.getSeries({ ...named(run), name: 'loss', limit: 100_000 });
    expect(points!.map(({ step, value }) => [step, value])).toEqual(
      Array.from({ length: 1_500 }, (_, step) => [step, 1 / (step + 1)]),
    );
    const { workspace } = installation;
    const { items } = await installation.client.runs.query({ workspace, ancestor: run.id, orderBy: ['createdAt asc'] });
    expect(items.map(({ state }) => state)).toEqual(Array(6).fill('completed'));
    const names = ['before', 'without a server', 'after'];
    expect(items.map(({ displayName }) => displayName).sort()).toEqual(
      names.flatMap((name) => [name, `below ${name}`]).sort(),
    );
    for (const below of items.filter(({ displayName }) => displayName!.startsWith('below'))) {
      const { summary } = await installation.client.metrics.getSeries({ ...named(below), name: 'values' });
      expect(summary.count).toBe(100);
      expect(below.parameters).toEqual({ part: below.displayName!.slice('below '.length) });
    }
    for (const name of names) expect(await textOf(run, `outputs/${name}.txt`)).toBe(name.repeat(1_000));
  }
  await until('the runners have left', () => runners().length === 0);
});

test("kill -9 of the server in the middle of the demo's training: it goes on and ends right", async () => {
  const folder = join(installation.folder, 'the demo');
  cpSync(join(repository, 'examples', 'diabetes'), folder, { recursive: true });
  const submitted = ['run', 'submit', folder, '--configuration', join(folder, 'train.runconfig')];
  const run = await asked<Run>(installation, ...submitted, '--experiment', 'ridge', '--target', 'host');
  expect((await untilState(place(run), 'running')).state).toBe('running');
  await installation.restart('SIGKILL');
  const ended = await untilEnded(place(run));
  expect(ended, ended.reason).toMatchObject({ state: 'completed', exitCode: 0, attempt: 1, childCount: 5 });
  const { workspace, client } = installation;
  const { items } = await client.runs.query({ workspace, parent: run.id, metrics: ['mse'] });
  const errors = items.map(({ displayName, metrics }) => `${displayName}: mse ${Number(metrics![0]!.last).toFixed(3)}`);
  expect(errors.sort()).toEqual((await printed(run)).trim().split('\n').sort());
  for (const child of items) expect((await textOf(child, 'outputs/model.pkl')).length).toBeGreaterThan(100);
});

test('runs that wait, or whose environment is being made, go on after a kill of the server, in their order', async () => {
  const cache = { XDG_CACHE_HOME: join(installation.folder, 'fresh cache') };
  await using other = await Installation.start([], cache);
  const { workspace, client } = other;
  await client.compute.attach({ workspace, name: 'single', settings: { kind: 'host', maxConcurrentRuns: 1 } });
  const made = { environment: { requirements: ['six==1.16.0', 'idna==3.7'] } };
  const code = 'import six\nprint("with", six.__version__)\n';
  const first = await submit(other, { target: 'single', code, ...made });
  const second = await submit(other, { target: 'single', code: 'print("next")', ...userManaged });
  const ofFirst = { client, workspace, run: first.id };
  await untilState(ofFirst, 'preparing');
  expect((await client.runs.get({ workspace, run: second.id })).queuePosition).toBe(1);
  await other.restart('SIGKILL');
  const ended = [await untilEnded(ofFirst), await untilEnded({ client, workspace, run: second.id })];
  expect(ended.map(({ state, reason }) => ({ state, reason }))).toEqual(Array(2).fill({ state: 'completed' }));
  expect(ended[0]!.endedAt! <= ended[1]!.startedAt!).toBe(true);
  expect(await (await client.logs.get({ workspace, run: first.id })).text()).toBe('with 1.16.0\n');
});

test('a notebook logs on while the server is killed and started again, and loses nothing', async () => {
  const signal = new Signals(installation.folder);
  const notebook = installation.python(['-'], {
    env: signal.environmentVariables,
    input: `${pythonSignals}
from stellwerk.core import Experiment, Workspace
with Experiment(Workspace.get("story"), "notebook").start_logging(run_id="of a notebook") as run:
    run.log("loss", 0)
    tell("began")
    wait("the server is gone")
    for step in range(1, 1000):
        run.log("loss", step)
    with run.child_run(name="begun without a server") as child:
        child.log("loss", 7)
    tell("logged")
    wait("the server is back")
`,
  });
  await signal.heard('began');
  await installation.stop('SIGKILL');
  signal.tell('the server is gone');
  await signal.heard('logged');
  await installation.up();
  signal.tell('the server is back');
  expect(await notebook).toMatchObject({ code: 0 });
  const { workspace, client } = installation;
  const run = await untilEnded({ client, workspace, run: 'of a notebook' });
  expect(run).toMatchObject({ state: 'completed', childCount: 1 });
  const { points } = await client.metrics.getSeries({ workspace, run: run.id, name: 'loss' });
  expect(points!.map(({ value }) => value)).toEqual(Array.from({ length: 1_000 }, (_, step) => step));
});

test('a notebook that is killed: its run ends as failed, with all it had logged, and so do its children', async () => {
  const signal = new Signals(installation.folder);
  const notebook = installation.python(['-'], {
    env: signal.environmentVariables,
    input: `${pythonSignals}
from stellwerk.core import Experiment, Workspace
run = Experiment(Workspace.get("story"), "notebook").start_logging(run_id="of a killed notebook")
child = run.child_run(name="inner")
for step in range(100):
    run.log("loss", step)
tell("logged", str(os.getpid()))
time.sleep(600)
`,
  });
  process.kill(Number(readFileSync(await signal.heard('logged'), 'utf8')), 'SIGKILL');
  await notebook;
  const { workspace, client } = installation;
  const run = await untilEnded({ client, workspace, run: 'of a killed notebook' });
  expect(run.state).toBe('failed');
  expect(run.reason).toBeTruthy();
  expect((await client.metrics.list({ workspace, run: run.id })).items).toMatchObject([{ name: 'loss', count: 100 }]);
  const [child] = (await client.runs.query({ workspace, parent: run.id })).items;
  expect(child).toMatchObject({ displayName: 'inner', state: 'failed' });
});

test('what a runner could not deliver before it left is brought later by the one who submitted', async () => {
  const signal = new Signals(installation.folder);
  const code = `${pythonSignals}
from stellwerk.core import Run
tell("began")
wait("the server is gone")
Run.get_context().log("loss", 5)
os.makedirs("outputs", exist_ok=True)
with open("outputs/model.txt", "w") as file:
    file.write("weights")
print("trained without a server", flush=True)
`;
  const { environmentVariables } = signal;
  await using other = await Installation.start([], { STELLWERK_DELIVERY_SECONDS: '1', STELLWERK_RUN_LEASE_MS: '2000' });
  const run = await submit(other, { target: 'local', code, ...userManaged, environmentVariables });
  await signal.heard('began');
  await other.stop('SIGKILL');
  signal.tell('the server is gone');
  await until('the runner has left', () => processesWith(`stellwerk.runner\0${other.folder}`).length === 0);
  await other.up();
  const { client, workspace } = other;
  expect((await untilState({ client, workspace, run: run.id }, 'lost')).reason).toContain('Nothing was heard');
  expect(await other.cli(['run', 'sync'])).toMatchObject({ code: 0 });
  expect(await client.runs.get({ workspace, run: run.id })).toMatchObject({ state: 'completed', exitCode: 0 });
  expect(await (await client.logs.get({ workspace, run: run.id })).text()).toBe('trained without a server\n');
  expect((await client.metrics.list({ workspace, run: run.id })).items).toMatchObject([{ name: 'loss', last: 5 }]);
  const output = await client.runs.getFile({ workspace, run: run.id, path: 'outputs/model.txt' });
  expect(await output.text()).toBe('weights');
});

/** A daemon as careful as one can be: two forks, a session of its own, an empty environment, no output. */
const daemons = `${pythonSignals}
import subprocess, sys
from stellwerk.core import Run

Run.get_context().log("reached", 1)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(0)
        tell("daemon", str(os.getpid()))
        time.sleep(600)
    os._exit(0)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, env={})
tell("child", str(child.pid))
tell("script", str(os.getpid()))
print("working", flush=True)
time.sleep(600)
`;

test.for(['host', 'local'])(
  'kill -9 of the runner on %s: the run is lost with the reason, and no process of it is left',
  async (target) => {
    const { signal, environmentVariables } = signalsFor();
    const run = await submit(installation, { code: daemons, target, ...userManaged, environmentVariables });
    const pids: number[] = [];
    for (const name of ['daemon', 'child', 'script']) pids.push(Number(readFileSync(await signal.heard(name), 'utf8')));
    await untilState(place(run), 'running');
    expect(pids.map(isAlive)).toEqual([true, true, true]);
    const [runner, ...others] = runners();
    expect(others).toEqual([]);
    process.kill(runner!, 'SIGKILL');
    await until('all processes are gone', () => !pids.some(isAlive));
    const lost = await untilState(place(run), 'lost');
    expect(lost.reason).toMatch(target === 'host' ? /runner ended/ : /nothing was heard from its runner/i);
    if (target === 'host') {
      const activity = { workspace: installation.workspace, activity: run.activity! };
      const failed = await until('the activity has failed', async () => {
        const found = await installation.client.activities.get(activity);
        return found.endedAt !== undefined && found;
      });
      expect(failed).toMatchObject({ state: 'failed', error: { reason: 'run.lost' } });
      expect(await printed(run)).toBe('working\n'); // what it left was delivered
      expect((await installation.client.metrics.list(named(run))).items).toMatchObject([{ name: 'reached', last: 1 }]);
    }
    expect(processesWith(environmentVariables.STORY!)).toEqual([]);
    await installation.client.runs.cancel(named(run));
    expect((await untilEnded(place(run))).state).toBe('canceled');
  },
);

const persistent = `${pythonSignals}
from stellwerk.core import Run
run = Run.get_context()
place = os.path.join(os.environ["STELLWERK_CHECKPOINTS"], "step.txt")
attempt = os.environ["STELLWERK_ATTEMPT"]
print("attempt", attempt, "begins at", open(place).read() if os.path.exists(place) else "the beginning", flush=True)
if attempt == "1":
    with open(place, "w") as file:
        file.write("step 7")
    tell("saved", str(os.getpid()))
    wait("never")
`;

test('kill -9 of the runner of a run that may be begun again: its next attempt goes on from the checkpoint', async () => {
  const { signal, environmentVariables } = signalsFor();
  const retries = { count: 1 };
  const run = await submit(installation, {
    code: persistent,
    target: 'host',
    ...userManaged,
    environmentVariables,
    retries,
  });
  await signal.heard('saved');
  await untilState(place(run), 'running');
  process.kill(runners()[0]!, 'SIGKILL');
  const ended = await untilEnded(place(run));
  expect(ended, ended.reason).toMatchObject({ state: 'completed', attempt: 2 });
  expect(await printed(run)).toBe('attempt 1 begins at the beginning\nattempt 2 begins at step 7\n');
  expect(await textOf(run, 'checkpoints/step.txt')).toBe('step 7');
  const activity = { workspace: installation.workspace, activity: run.activity! };
  expect(await installation.client.activities.get(activity)).toMatchObject({ state: 'succeeded' });
});

const stubborn = `${pythonSignals}
import signal

def asked(*_):
    os.makedirs("outputs", exist_ok=True)
    with open("outputs/late.txt", "w") as file:
        file.write("written in the grace period")
    print("asked to end", flush=True)

signal.signal(signal.SIGTERM, asked)
tell("script", str(os.getpid()))
while True:
    time.sleep(0.1)
`;

test.for(['host', 'local'])(
  'a script on %s that ignores being asked is killed after the grace period, in which outputs still arrive',
  async (target) => {
    const { signal, environmentVariables } = signalsFor();
    const run = await submit(installation, {
      code: stubborn,
      target,
      ...userManaged,
      environmentVariables,
      graceSeconds: 2,
    });
    const pid = Number(readFileSync(await signal.heard('script'), 'utf8'));
    await untilState(place(run), 'running');
    await installation.client.runs.cancel(named(run));
    const ended = await untilEnded(place(run));
    expect(ended).toMatchObject({ state: 'canceled', reason: expect.stringContaining('admin') });
    expect(isAlive(pid)).toBe(false);
    expect(await printed(run)).toBe('asked to end\n');
    expect(await textOf(run, 'outputs/late.txt')).toBe('written in the grace period');
  },
);

test('a time limit ends the script, and says so', async () => {
  const { signal, environmentVariables } = signalsFor();
  const limits = { resources: { timeLimit: '1s' }, graceSeconds: 1 };
  const run = await submit(installation, { code: stubborn, ...userManaged, environmentVariables, ...limits });
  const ended = await untilEnded(place(run));
  expect(ended).toMatchObject({ state: 'failed', reason: expect.stringContaining('time limit of 1 s') });
  expect(isAlive(Number(readFileSync(await signal.heard('script'), 'utf8')))).toBe(false);
  expect(await textOf(run, 'outputs/late.txt')).toBe('written in the grace period');
});

function signalsFor() {
  const signal = new Signals(installation.folder);
  return { signal, environmentVariables: signal.environmentVariables };
}
