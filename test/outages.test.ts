// A server that is killed again and again while runs log as fast as they can: at whatever moment it happens, nothing is lost, nothing comes twice.
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { pythonSignals, Signals } from './signals.ts';
import { submit } from './submission.ts';
import { untilEnded } from './waiting.ts';

const workspace = 'story';
let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '2000', STELLWERK_ACTIVITY_LEASE_MS: '1000' });
});
afterAll(() => installation[Symbol.asyncDispose]());

/** Logs until it is told to stop, and tells how much it was. */
const tireless = `${pythonSignals}
from stellwerk.core import Run
run = Run.get_context()
os.makedirs("outputs", exist_ok=True)
tell("began")
step = children = 0
while not os.path.exists(os.path.join(os.environ["STORY"], "enough")):
    for _ in range(200):
        run.log("loss", step, step=step)
        step += 1
    print("step %d" % step, flush=True)
    if step % 4000 == 0:
        with run.child_run() as child:
            child.log("number", children)
            children += 1
    if step % 6000 == 0:
        with open("outputs/checkpoint", "w") as file:
            file.write(str(step))
    time.sleep(0.02)
tell("logged", "%d %d" % (step, children))
`;

test('killed at any moment, and again while it starts: every point, line, child and file is there exactly once', async () => {
  const { client } = installation;
  const going: { run: Run; signals: Signals }[] = [];
  for (const target of ['host', 'local']) {
    const signals = new Signals(installation.folder);
    const { environmentVariables } = signals;
    const run = await submit(installation, {
      code: tireless,
      target,
      environment: { userManaged: true },
      environmentVariables,
    });
    going.push({ run, signals });
  }
  for (const { signals } of going) await signals.heard('began');
  for (const afterMs of [0, 90, 350, 700, 1_200]) {
    await pause(afterMs);
    await installation.restart('SIGKILL');
  }
  await installation.stop('SIGKILL');
  await pause(3_000); // longer than the lease
  await installation.up();
  for (const { signals } of going) signals.tell('enough');
  for (const { run, signals } of going) {
    const [points, children] = readFileSync(await signals.heard('logged'), 'utf8')
      .split(' ')
      .map(Number);
    const one = { workspace, run: run.id };
    const ended = await untilEnded({ client, ...one });
    expect(ended, ended.reason).toMatchObject({ state: 'completed', attempt: 1, childCount: children });
    const logged: unknown[] = [];
    for (let offset: number | undefined = 0; offset !== undefined; ) {
      const part = await client.metrics.getSeries({ ...one, name: 'loss', offset, limit: 50_000 });
      for (const { step, value } of part.points!) logged.push(step === value ? value : { step, value });
      offset = part.nextOffset;
    }
    expect(logged).toEqual(Array.from({ length: points! }, (_, step) => step));
    const lines = Array.from({ length: points! / 200 }, (_, line) => `step ${(line + 1) * 200}\n`);
    expect(await (await client.logs.get(one)).text()).toBe(lines.join(''));
    const below = (await client.runs.query({ workspace, parent: run.id, metrics: ['number'], pageSize: 1_000 })).items;
    expect(new Set(below.map(({ state }) => state)).size).toBeLessThanOrEqual(1);
    const numbers = below.map(({ metrics }) => metrics![0]!).sort((x, y) => Number(x.last) - Number(y.last));
    expect(numbers.map(({ last, count }) => [last, count])).toEqual(numbers.map((_, number) => [number, 1]));
    if (points! < 6_000) continue;
    const checkpoint = await client.runs.getFile({ ...one, path: 'outputs/checkpoint' });
    expect(await checkpoint.text()).toBe(String(points! - (points! % 6_000)));
  }
});
