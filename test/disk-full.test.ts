// A full disk, of the server and of whoever logs: it is said plainly, nothing that was acknowledged is lost, scripts go on, and all goes on
// by itself once there is room.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { pythonSignals, Signals } from './signals.ts';
import { canMount, SmallDisk } from './small-disk.ts';
import { submit } from './submission.ts';
import { typed } from './typing.ts';
import { until, untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const workspace = 'story';
const userManaged = { environment: { userManaged: true } };

const tireless = `${pythonSignals}
from stellwerk.core import Run
run = Run.get_context()
tell("began")
step = 0
while not os.path.exists(os.path.join(os.environ["STORY"], "enough")):
    for _ in range(500):
        run.log("loss", step, step=step)
        step += 1
    print("step %d" % step, flush=True)
    time.sleep(0.05)
tell("logged", str(step))
`;

test.skipIf(!canMount)(
  "the server's disk is full: requests are refused with what to do, it lives on, and afterwards everything is there",
  async () => {
    await using installation = Installation.prepare([], { STELLWERK_RUN_LEASE_MS: '3000' });
    using disk = new SmallDisk(join(installation.folder, 'data'), 64);
    const { signIn } = await installation.up();
    await installation.signIn(signIn!);
    const { client } = installation;
    await client.workspaces.create({ name: workspace });
    const signals = new Signals(installation.folder);
    const { environmentVariables } = signals;
    const run = await submit(installation, { code: tireless, target: 'local', ...userManaged, environmentVariables });
    await signals.heard('began');
    const of = { workspace, run: run.id };
    const acknowledged = async () => (await client.metrics.list(of)).items[0]?.count ?? 0;
    await until('some points are there', async () => (await acknowledged()) > 2_000);
    const tagged = await client.runs.start({ workspace, experiment: 'x', tags: { acknowledged: 'yes' } });

    disk.fill();
    const refusal = await until('it says that its disk is full', () =>
      client.runs.start({ workspace, experiment: 'x' }).then(
        () => undefined,
        (error) => error,
      ),
    );
    expect(refusal).toMatchObject({ reason: 'server.disk-full', status: 503 });
    expect(refusal.hint).toContain('Make room');
    const file = join(workFolder(installation.folder, { 'big.bin': randomBytes(3_000_000) }), 'big.bin');
    const upload = await installation.cli(['datastore', 'upload', 'default', file]);
    expect(upload.code).toBe(1);
    expect(upload.stderr).toContain("The server's disk is full");
    const atLeast = await acknowledged(); // it still answers
    expect((await client.runs.get({ workspace, run: tagged.id })).tags).toEqual({ acknowledged: 'yes' });
    await until(
      'the script goes on',
      () => Number(/step (\d+)\n$/.exec(logOf(installation, run.id))?.[1]) > atLeast + 5_000,
    );
    expect(installation.isUp).toBe(true);
    await installation.stop('SIGKILL'); // and a kill now does not harm either
    disk.makeRoom();
    await installation.up();

    signals.tell('enough');
    const steps = Number(readFileSync(await signals.heard('logged'), 'utf8'));
    const ended = await untilEnded({ client, ...of });
    expect(ended, ended.reason).toMatchObject({ state: 'completed', exitCode: 0, attempt: 1 });
    const { points } = await client.metrics.getSeries({ ...of, name: 'loss', limit: 100_000 });
    expect(points!.map(({ value }) => value)).toEqual(Array.from({ length: steps }, (_, step) => step));
    const lines = Array.from({ length: steps / 500 }, (_, line) => `step ${(line + 1) * 500}\n`);
    expect(await (await client.logs.get(of)).text()).toBe(lines.join(''));
    expect(await typed(installation, 'datastore', 'upload', 'default', file)).toContain('Uploaded 1 file');
    expect(await typed(installation, 'verify', '--data', disk.folder)).toContain('All is there and right.');
    await client.runs.cancel({ workspace, run: tagged.id });
  },
);

/** What the script has printed, where it runs. */
function logOf(installation: Installation, run: string): string {
  const found = installation.filesOf(run).find((file) => file.endsWith('logs/output.txt'));
  return found === undefined ? '' : readFileSync(found, 'utf8');
}

test.skipIf(!canMount)(
  'the disk of a notebook is full: it is told once, goes on, and what could not be kept is counted',
  async () => {
    await using installation = await Installation.start();
    using disk = new SmallDisk(join(installation.folder, 'share'), 8);
    const signals = new Signals(installation.folder);
    const notebook = installation.python(['-'], {
      env: signals.environmentVariables,
      input: `${pythonSignals}
from stellwerk.core import Experiment, Workspace
run = Experiment(Workspace.get("${workspace}"), "notebook").start_logging(run_id="full")
for step in range(1000):
    run.log("loss", step, step=step)
tell("began")
wait("it is full")
for step in range(1000, 5000):
    run.log("loss", step, step=step)
tell("logged")
wait("there is room")
for step in range(5000, 6000):
    run.log("loss", step, step=step)
run.complete()
`,
    });
    await signals.heard('began');
    const { client } = installation;
    const of = { workspace, run: 'full' };
    await until('the first are there', async () => (await client.metrics.list(of)).items[0]?.count === 1_000);
    disk.fill();
    signals.tell('it is full');
    await signals.heard('logged');
    disk.makeRoom();
    signals.tell('there is room');
    const { code, stderr } = await notebook;
    expect(code).toBe(0);
    expect(stderr.match(/could not be written to/g)).toHaveLength(2); // when it began, and at the end how many
    const dropped = Number(/(\d+) entries could not be written/.exec(stderr)?.[1]);
    expect(dropped).toBeGreaterThan(0);
    const ended = await untilEnded({ client, ...of });
    expect(ended).toMatchObject({ state: 'completed', tags: { 'stellwerk.dropped': String(dropped) } });
    const { points } = await client.metrics.getSeries({ ...of, name: 'loss', limit: 100_000 });
    const steps = points!.map(({ step }) => Number(step));
    expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b));
    expect(steps.length).toBe(6_000 - dropped);
    const all = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => n + from);
    expect(steps.filter((step) => step < 1_000)).toEqual(all(0, 1_000));
    expect(steps.filter((step) => step >= 5_000)).toEqual(all(5_000, 6_000));
  },
);
