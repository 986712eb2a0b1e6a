// What becomes of runs when the head node is cut off, full, without Python, off by an hour, shared with another installation, or switched off.
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoSpark } from '../../../../../test/engines/spark/spark-cluster.ts';
import { clockOffBy, whyNoWrongClock } from '../../../../../test/wrong-clock/wrong-clock.ts';
import type { JobHandle, JobOrder } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnCluster, onCluster, rounds } from './spark.fixture.ts';

describe.skipIf(whyNoSpark)(`the head node of a Spark cluster${whyNoSpark ? ` (${whyNoSpark})` : ''}`, () => {
  let server: RealServer;
  let there: OnCluster;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onCluster(server, { diskMegabytes: 512 });
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });

  const jobs = () => there.driver().jobs;
  const shell = (script: string) => there.cluster.host.shell(script);
  const environment = () => ({ userManaged: true, interpreterPath: there.cluster.python });
  const order = (script: string) => server.order(script, { environment: environment() });
  async function until(what: () => Promise<unknown> | unknown, name: string): Promise<void> {
    for (const began = performance.now(); performance.now() - began < 120_000; await pause(100))
      if (await what()) return;
    const { home } = there.cluster.host;
    throw new Error(`${name} did not happen: ${shell(`ps axf; tail -n 40 ${home}/*/*/jobs/*/runner.log; true`)}`);
  }
  const printed = (asked: JobOrder, text: string) => async () => (await server.log(asked)).includes(text);
  const hasEnded = (asked: JobOrder) => async () => (await server.ended(asked)) !== undefined;
  async function completed(asked: JobOrder, handle: JobHandle): Promise<void> {
    await lookedAfter(handle, hasEnded(asked), 'the end of the run');
    const run = await server.run(asked);
    expect(run, `${run.reason} ${await server.log(asked)}`).toMatchObject({ state: 'completed' });
  }
  /** What the server does while a run is on: it asks again and again, whatever fails. */
  const lookedAfter = (handle: JobHandle, done: () => Promise<boolean>, name: string) => {
    const driver = there.driver();
    return until(async () => {
      await driver.jobs.look(there.target, handle).catch(() => {});
      return done();
    }, name);
  };
  const fill = () => shell(`dd if=/dev/zero of=${there.cluster.host.home}/filler bs=4k status=none || true`);
  const makeRoom = () => shell(`rm ${there.cluster.host.home}/filler`);

  test('a run comes through a link that is cut, a disk that gets full, and another installation that cleans up a job of its name', async () => {
    const asked = await order(rounds);
    const handle = await jobs().start(there.target, asked);
    await until(async () => (await printed(asked, 'round 3 6\n')()) || hasEnded(asked)(), 'the beginning');
    const lines = async () =>
      (await server.log(asked)).split('\n').filter((line) => /^(round \d+ 6|rounds \d+)$/.test(line));
    const goesOn = async () => {
      const { length } = await server.log(asked);
      await lookedAfter(handle, async () => (await server.log(asked)).length > length + 50, 'more output');
    };
    there.cluster.host.cutLink();
    await pause(20_000); // longer than the connection and the run's lease hold
    there.cluster.host.mendLink();
    await goesOn();
    await there.another().jobs.cleanUp(there.target, { id: asked.id });
    expect(await jobs().look(there.target, handle)).toEqual({ state: 'running' });
    await goesOn();
    const untilFull = (await lines()).length;
    fill();
    await pause(3_000);
    expect(await jobs().look(there.target, handle)).toEqual({ state: 'running' });
    makeRoom();
    await goesOn();
    shell('touch /tmp/enough');
    await completed(asked, handle);
    const told = await lines();
    expect(told.slice(0, untilFull)).toEqual(Array.from({ length: untilFull }, (_, n) => `round ${n} 6`));
    // Some of what it printed on a full disk is lost; nothing else is, and nothing comes twice.
    expect(told.at(-1)).toMatch(/^rounds \d+$/);
    const seen = told.slice(0, -1).map((line) => Number(line.split(' ')[1]));
    expect(seen).toEqual([...new Set(seen)].sort((a, b) => a - b));
    expect(await server.files(asked)).toContain('outputs/done.txt');
    await jobs().cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test('nothing is started where the disk is full or Python is not there, and the reason is told', async () => {
    const asked = await order('print(1)\n');
    const refused = (why: string) => ({ retry: 'never', message: expect.stringContaining(why) });
    await jobs().cleanUp(there.target, { id: asked.id }); // our package is there from now on
    fill();
    await expect(jobs().start(there.target, asked)).rejects.toMatchObject(refused('is full'));
    makeRoom();
    shell('for python in $(which -a python3); do [ ! -e "$python" ] || mv "$python" "$python-away"; done');
    await expect(jobs().start(there.target, asked)).rejects.toMatchObject(refused('install Python 3.8'));
    shell('for away in $(which -a python3-away); do [ ! -e "$away" ] || mv "$away" "$(dirname "$away")/python3"; done');
    await jobs().cleanUp(there.target, { id: asked.id });
    expect(await there.leftovers()).toEqual([]);
  });

  test.skipIf(whyNoWrongClock !== '').each([1, -1])(
    `a clock that is off by %d h costs a run nothing${whyNoWrongClock && ` (${whyNoWrongClock})`}`,
    async (hours) => {
      const clock = Object.entries(clockOffBy(hours)).map((one) => one.join('='));
      const restarted = async (change: string) => {
        shell(change);
        there.cluster.host.killSshd();
        await there.cluster.host.startSshd();
      };
      await restarted(`echo "SetEnv ${clock.join(' ')}" >> /host/sshd_config`);
      try {
        const asked = await order(`
import time
from pyspark.sql import SparkSession
from stellwerk.core import Run
Run.get_context().log("sum", SparkSession.builder.getOrCreate().sparkContext.parallelize(range(100), 2).sum())
print("at", time.time())
`);
        const handle = await jobs().start(there.target, asked);
        await completed(asked, handle);
        const at = Number(/^at (.+)$/m.exec(await server.log(asked))![1]);
        expect(Math.abs(at - Date.now() / 1_000)).toBeGreaterThan(3_000);
        await jobs().cleanUp(there.target, handle);
        expect(await there.leftovers()).toEqual([]);
      } finally {
        await restarted("sed -i '/LD_PRELOAD/d' /host/sshd_config");
      }
    },
  );

  test('switched off in the middle of a run it has lost that; what was written is delivered once it is on', async () => {
    shell('rm -f /tmp/enough');
    const asked = await order(
      `import os\nos.makedirs("outputs", exist_ok=True)\nopen("outputs/early.txt", "w").write("x")\n${rounds}`,
    );
    const handle = await jobs().start(there.target, asked);
    await until(async () => (await printed(asked, 'round 3 6\n')()) || hasEnded(asked)(), 'the beginning');
    await there.cluster.host.crash();
    await expect(jobs().look(there.target, handle)).rejects.toMatchObject({ retry: 'later' });
    await there.cluster.host.boot();
    expect(await jobs().look(there.target, handle)).toEqual({
      state: 'ended',
      cause: 'node-lost',
      reason: 'Its machine was restarted while the run was on it.',
    });
    await jobs().recover(there.target, handle);
    expect(await server.files(asked)).toContain('outputs/early.txt');
    await jobs().cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });
});
