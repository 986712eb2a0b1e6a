// The server is killed at random moments, while it starts too, twenty times and more, while scripts on two targets and a notebook log,
// print and upload. They do not notice; afterwards what is stored equals what each script wrote down for itself, byte for byte.
// The seed is printed; STELLWERK_STORY_SEED repeats its moments and values.
import { createHash, randomInt } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation, type Printed } from './installation.ts';
import { processesWith } from './processes.ts';
import { pythonSignals, Signals } from './signals.ts';
import { submit } from './submission.ts';
import { typed } from './typing.ts';
import { until, untilEnded } from './waiting.ts';

const workspace = 'story';
const seed = Number(process.env.STELLWERK_STORY_SEED ?? randomInt(2 ** 31));
const kills = 22;
/** After so many the scripts may end, so that the last kills meet the end of runs. */
const killsWhileLogging = 17;
const pointsEach = 70_000;
const series = 7;

let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000', STELLWERK_ACTIVITY_LEASE_MS: '1500' });
});
afterAll(() => installation[Symbol.asyncDispose]());

/** Numbers below 1, the same ones for the same seed. */
function* randoms(state: number): Generator<number> {
  for (let at = state >>> 0; ; ) {
    at = (at + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(at ^ (at >>> 15), at | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    yield ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** `run` is given by what stands above. Keeps its own record: points as step and value, lines as printed, files as hashes. */
const working = `
import hashlib, json, random, struct, sys
chance = random.Random(int(os.environ["SEED"]))
record = os.environ["STORY"]
points = [open(os.path.join(record, "points-%d" % n), "wb") for n in range(${series})]
lines = open(os.path.join(record, "lines"), "w")
files = {}

def keep_file(name, content, explicit):
    path = os.path.join(record, "source") if explicit else name
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    if explicit:
        run.upload_file(name, path)
    files[name] = hashlib.sha256(content).hexdigest()

def work(count, outputs):
    step = 0
    while step < count:
        for _ in range(250):
            value = chance.choice([chance.random(), chance.gauss(0, 1e9), chance.random() * 1e-300, float(step), -chance.random()])
            run.log("series %d" % (step % ${series}), value, step=step)
            points[step % ${series}].write(struct.pack("<qd", step, value))
            step += 1
        text = "%d: %s" % (step, chance.random())
        print(text, flush=True)
        lines.write(text + "\\n")
        if step % 5000 == 0:
            keep_file("uploaded/%d.bin" % step, chance.randbytes(200000), True)
            with run.child_run(name="at %d" % step) as child:
                child.log("step", step)
        if outputs and step % 7000 == 0:
            keep_file("outputs/%d.bin" % step, chance.randbytes(300000), False)
        if step >= count - 2000 and not os.path.exists(os.path.join(record, "enough")):
            tell("nearly done")
            wait("enough")
        time.sleep(0.12)
    for file in [*points, lines]:
        file.close()
    with open(os.path.join(record, "files"), "w") as file:
        json.dump(files, file)
    tell("finished")
`;

const script = `${pythonSignals}
from stellwerk.core import Run
run = Run.get_context()
${working}
work(${pointsEach}, True)
`;
const notebook = `${pythonSignals}
from stellwerk.core import Experiment, Workspace
run = Experiment(Workspace.get("${workspace}"), "notebook").start_logging(run_id="notebook")
${working}
work(${pointsEach}, False)
run.complete()
`;

interface Going {
  run: string;
  signals: Signals;
  /** Where a program of the user's own printed. */
  printed?: Promise<Printed>;
}

const signalsWith = (number: number) => {
  const signals = new Signals(installation.folder);
  return { signals, environmentVariables: { ...signals.environmentVariables, SEED: String(seed + number) } };
};

async function begin(): Promise<Going[]> {
  const going: Going[] = [];
  for (const [number, target] of ['host', 'local', 'host'].entries()) {
    const { signals, environmentVariables } = signalsWith(number);
    const environment = { userManaged: true };
    const { id }: Run = await submit(installation, { code: script, target, environment, environmentVariables });
    going.push({ run: id, signals });
  }
  const { signals, environmentVariables } = signalsWith(9);
  const cwd = join(signals.folder, 'work');
  mkdirSync(cwd);
  const printed = installation.python(['-'], { env: environmentVariables, input: notebook, cwd });
  going.push({ run: 'notebook', signals, printed });
  return going;
}

/** The server dies at a random moment after it was started: while it starts, or later. */
async function killed(afterMs: number): Promise<void> {
  const starting = installation.up().catch(() => {}); // killed before it was up
  await pause(afterMs);
  await installation.stop('SIGKILL');
  await starting;
}

test(`kill -9 of the server ${kills} times at random (seed ${seed}): no script notices, and all that they did is there exactly once`, async () => {
  process.stdout.write(`The seed is ${seed}: STELLWERK_STORY_SEED=${seed} repeats it.\n`);
  const moments = randoms(seed);
  const going = await begin();
  for (const { signals } of going) await until('it logs', () => signals.has('lines'));
  await installation.stop('SIGKILL');
  for (let count = 2; count <= kills; count++) {
    if (count === killsWhileLogging) for (const { signals } of going) signals.tell('enough');
    await killed(moments.next().value! ** 2 * 4_000);
  }
  await installation.up();
  for (const one of going) await hasAll(one);
  await until('the runners have left', () => processesWith(`stellwerk.runner\0${installation.folder}`).length === 0);
  const data = join(installation.folder, 'data');
  expect(await typed(installation, 'verify', '--data', data)).toContain('All is there and right.');
});

async function hasAll({ run, signals, printed }: Going): Promise<void> {
  const { client } = installation;
  const of = { workspace, run };
  await signals.heard('finished');
  const own = await printed;
  if (own) expect({ ...own, stdout: '' }).toEqual({ code: 0, stdout: '', stderr: '' });
  const ended = await untilEnded({ client, ...of });
  expect(ended, ended.reason).toMatchObject({ state: 'completed', childCount: pointsEach / 5_000 });
  if (!own) expect(ended).toMatchObject({ exitCode: 0, attempt: 1 });

  const { items } = await client.metrics.list(of);
  expect(items.map(({ name }) => name).sort()).toEqual(Array.from({ length: series }, (_, n) => `series ${n}`));
  for (let n = 0; n < series; n++) {
    const { points } = await client.metrics.getSeries({ ...of, name: `series ${n}`, limit: 100_000 });
    const stored = Buffer.alloc(points!.length * 16);
    for (const [at, { step, value }] of points!.entries()) {
      stored.writeBigInt64LE(BigInt(step!), at * 16);
      stored.writeDoubleLE(Number(value), at * 16 + 8);
    }
    const recorded = readFileSync(join(signals.folder, `points-${n}`));
    expect(points!.length, `points of series ${n}`).toBe(recorded.length / 16);
    expect(stored.equals(recorded), `series ${n} of ${run}`).toBe(true);
  }

  const lines = readFileSync(join(signals.folder, 'lines'), 'utf8');
  expect(own ? own.stdout : await (await client.logs.get(of)).text()).toBe(lines);

  const files = JSON.parse(readFileSync(join(signals.folder, 'files'), 'utf8')) as Record<string, string>;
  const listed = (await client.runs.listFiles({ ...of, pageSize: 1_000 })).items.map(({ path }) => path).sort();
  expect(listed).toEqual(Object.keys(files).sort());
  for (const [path, hash] of Object.entries(files)) {
    const bytes = Buffer.from(await (await client.runs.getFile({ ...of, path })).arrayBuffer());
    expect(createHash('sha256').update(bytes).digest('hex'), path).toBe(hash);
  }
  const children = await client.runs.query({ workspace, parent: run, metrics: ['step'], pageSize: 1_000 });
  expect(children.items.map(({ state }) => state)).toEqual(Array(pointsEach / 5_000).fill('completed'));
  const steps = children.items.map(({ metrics }) => metrics![0]!).sort((a, b) => Number(a.last) - Number(b.last));
  expect(steps.map(({ last, count }) => [last, count])).toEqual(steps.map((_, n) => [(n + 1) * 5_000, 1]));
}
