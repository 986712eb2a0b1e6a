// A script that ends while the server is away: its runner delivers for a minute, leaves the rest where it is, and it is delivered days later: by
// the server itself where it had started the runner, by `python -m stellwerk recover` elsewhere.
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { processesWith } from './processes.ts';
import { Clock, fakes } from './set-clock.ts';
import { pythonSignals, Signals } from './signals.ts';
import { submit } from './submission.ts';
import { until, untilState } from './waiting.ts';

const workspace = 'story';
const code = `${pythonSignals}
from stellwerk.core import Run
run = Run.get_context()
run.log("loss", 0)
tell("began")
wait("the server is gone")
for step in range(1, 1000):
    run.log("loss", step)
with run.child_run(name="begun without a server") as child:
    child.log("loss", 7)
os.makedirs("outputs", exist_ok=True)
with open("outputs/model.txt", "w") as file:
    file.write("weights")
print("trained without a server", flush=True)
`;

const runners = (installation: Installation) => processesWith(`stellwerk.runner\0${installation.folder}`);

/** The script has begun, the server is killed, and the script ends; the runner still tries to deliver. */
async function endedAlone(installation: Installation, target: string): Promise<Run> {
  const signals = new Signals(installation.folder);
  const { environmentVariables } = signals;
  const environment = { userManaged: true };
  const run = await submit(installation, { code, target, environment, environmentVariables });
  await signals.heard('began');
  await untilState({ client: installation.client, workspace, run: run.id }, 'running');
  await installation.stop('SIGKILL');
  signals.tell('the server is gone');
  return run;
}

async function isWhole({ client }: Installation, { id }: Run): Promise<void> {
  const of = { workspace, run: id };
  expect(await client.runs.get(of)).toMatchObject({ state: 'completed', exitCode: 0, attempt: 1, childCount: 1 });
  const { points } = await client.metrics.getSeries({ ...of, name: 'loss', limit: 10_000 });
  expect(points!.map(({ value }) => value)).toEqual(Array.from({ length: 1_000 }, (_, step) => step));
  expect(await (await client.logs.get(of)).text()).toBe('trained without a server\n');
  expect(await (await client.runs.getFile({ ...of, path: 'outputs/model.txt' })).text()).toBe('weights');
  const { items } = await client.runs.query({ workspace, parent: id });
  expect(items).toMatchObject([{ displayName: 'begun without a server', state: 'completed' }]);
}

test('what the runner on the host left after its minute, the server delivers itself once it is back, and be it days later', async () => {
  await using installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
  const run = await endedAlone(installation, 'host');
  await until('the runner has left', () => runners(installation).length === 0);
  const runs = join(installation.folder, 'data', 'runs');
  expect(readdirSync(runs)).toHaveLength(1); // its journal is still there
  const clock = fakes === undefined ? undefined : new Clock(join(installation.folder, 'clock'));
  clock?.set('+72h');
  await installation.up(clock?.environment);
  await untilState({ client: installation.client, workspace, run: run.id }, 'completed');
  await isWhole(installation, run);
  await until('nothing of it is left', () => readdirSync(runs).length === 0);
});

test('what a runner elsewhere left is delivered by `python -m stellwerk recover`, once, and harmlessly again', async () => {
  await using installation = await Installation.start([], {
    STELLWERK_DELIVERY_SECONDS: '3',
    STELLWERK_RUN_LEASE_MS: '2000',
  });
  const run = await endedAlone(installation, 'local');
  const folder = dirname(installation.filesOf(run.id).find((file) => file.endsWith('job.json'))!);
  const recover = () => installation.python(['-m', 'stellwerk', 'recover', folder]);
  await until('the runner has left', () => runners(installation).length === 0);
  const tooEarly = await recover();
  expect(tooEarly.code).not.toBe(0);
  expect(tooEarly.stderr).toContain('Not everything could be delivered');
  expect(existsSync(folder)).toBe(true);
  await installation.up();
  await untilState({ client: installation.client, workspace, run: run.id }, 'lost');
  expect(await recover()).toMatchObject({ code: 0 });
  await isWhole(installation, run);
  expect(existsSync(folder)).toBe(false);
  expect(await recover()).toMatchObject({ code: 0 });
  await isWhole(installation, run);
});

test('two runners with the token of one run: the older one is fenced off, ends its script, and writes nothing more', async () => {
  await using installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
  const { client } = installation;
  const signals = new Signals(installation.folder);
  const tireless = `${pythonSignals}
from stellwerk.core import Run
run = Run.get_context()
name = str(os.getpid())
count = 0
while not os.path.exists(os.path.join(os.environ["STORY"], "enough")):
    for _ in range(100):
        run.log(name, count)
        count += 1
    tell("logs " + name)
    time.sleep(0.05)
tell("ended " + name, str(count))
`;
  const { environmentVariables } = signals;
  const environment = { userManaged: true };
  const run = await submit(installation, { code: tireless, target: 'local', environment, environmentVariables });
  const of = { workspace, run: run.id };
  const scripts = () =>
    readdirSync(signals.folder)
      .filter((name) => /^logs \d+$/.test(name))
      .map((name) => name.slice(5));
  await until('the first logs', () => scripts().length === 1);
  const [first] = scripts();
  await until('it is heard', async () => (await client.metrics.list(of)).items[0]?.name === first);

  // The same run is taken up on another machine of the same user; the first one has not noticed yet.
  const machine = JSON.parse((await installation.python(['-m', 'stellwerk.runner', '--machine'])).stdout);
  const job = await client.runs.getJob({ ...of, machine });
  const other = join(installation.folder, 'another machine');
  const args = ['-m', 'stellwerk.runner', '--start', '-', '--below', other];
  expect(await installation.python(args, { input: JSON.stringify(job) })).toMatchObject({ code: 0 });
  await until('the second logs', () => scripts().length === 2);
  const second = scripts().find((name) => name !== first)!;
  await until(
    'the first one has been ended',
    () => processesWith(environmentVariables.STORY!).length > 0 && !isThere(first!),
  );
  const countOf = async (name: string) =>
    (await client.metrics.list(of)).items.find((series) => series.name === name)?.count;
  const kept = await countOf(first!);

  signals.tell('enough');
  const all = Number(await signals.told(`ended ${second}`));
  expect(await untilState({ client, ...of }, 'completed')).toMatchObject({ attempt: 2, exitCode: 0 });
  expect(await countOf(second)).toBe(all);
  expect(await countOf(first!)).toBe(kept);
  expect(signals.has(`ended ${first}`)).toBe(false);
  await until('both have left', () => processesWith(environmentVariables.STORY!).length === 0);
});

const isThere = (pid: string) => existsSync(`/proc/${pid}`);
