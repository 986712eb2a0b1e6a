// Runs of which YARN gives the executors.
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { whyNoJars } from '../../../../../test/engines/spark/spark-cluster.ts';
import type { JobHandle, JobOrder } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { asPySpark, type OnCluster, onCluster, rounds } from './spark.fixture.ts';

describe.skipIf(whyNoJars)(`Spark on YARN${whyNoJars ? ` (${whyNoJars})` : ''}`, () => {
  let server: RealServer;
  let there: OnCluster;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onCluster(server, { yarn: true });
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });

  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail')
      for (const id of server.ordered) await jobs().cleanUp(there.target, { id }).catch(console.error);
    server.ordered.clear();
  });

  const jobs = () => there.driver().jobs;
  const order = (script: string) =>
    server.order(script, { environment: { userManaged: true, interpreterPath: there.cluster.python } });
  const eventually = { timeout: 120_000, interval: 200 };
  const untilPrinted = (asked: JobOrder, text: string) =>
    expect.poll(() => server.log(asked), eventually).toContain(text);
  async function ended(asked: JobOrder, handle: JobHandle) {
    await expect.poll(() => server.ended(asked), eventually).toBeDefined();
    await expect.poll(async () => (await jobs().look(there.target, handle)).state, eventually).toBe('ended');
    return server.run(asked);
  }
  const states = () => there.cluster.yarnApplications().map(({ state, finalStatus }) => `${state} ${finalStatus}`);

  test('can be used', async () => {
    const { usable, findings } = await there.driver().probe(there.target);
    expect(usable, JSON.stringify(findings)).toBe(true);
  });

  describe.each(['client', 'cluster'] as const)('in %s mode', (deployMode) => {
    beforeAll(() => {
      const spark = { ...asPySpark.spark, executors: { count: 1, cores: 1, memory: '512m' }, deployMode };
      server.inJobs = { ...asPySpark, spark };
    });

    test('a script drives executors there; its application is told', async () => {
      const asked = await order(`
import os
from pyspark.sql import SparkSession
from stellwerk.core import Run
total = SparkSession.builder.getOrCreate().sparkContext.parallelize(range(100), 2).map(lambda one: one * 2).sum()
Run.get_context().log("total", total)
os.makedirs("outputs", exist_ok=True)
open("outputs/total.txt", "w").write(str(total))
where = "in a container" if "CONTAINER_ID" in os.environ else "on the head node"
os.write(1, ("total %d %s\\n" % (total, where)).encode())
`);
      const handle = await jobs().start(there.target, asked);
      const run = await ended(asked, handle);
      expect(run, await server.log(asked)).toMatchObject({ state: 'completed' });
      const where = deployMode === 'cluster' ? 'in a container' : 'on the head node';
      expect(await server.log(asked)).toContain(`total 9900 ${where}\n`);
      const { items } = await server.ask<{ items: object[] }>('GET', `/workspaces/suite/runs/${asked.job.run}/metrics`);
      expect(items).toMatchObject([{ name: 'total', last: 9900, count: 1 }]);
      expect(await server.files(asked)).toContain('outputs/total.txt');
      await expect.poll(() => states().at(-1), eventually).toBe('FINISHED SUCCEEDED');
      const { id } = there.cluster.yarnApplications().at(-1)!;
      expect(run.job).toMatchObject({ application: id, url: expect.stringContaining('http') });
      await jobs().cleanUp(there.target, handle);
      expect(await there.leftovers()).toEqual([]);
    });

    test('a script that fails fails its run with its code', async () => {
      const asked = await order('import sys\nprint("so close")\nsys.exit(7)\n');
      const handle = await jobs().start(there.target, asked);
      const run = await ended(asked, handle);
      expect(run, await server.log(asked)).toMatchObject({ state: 'failed', exitCode: 7 });
      expect(run.lastLines?.join('\n')).toContain('so close');
      await jobs().recover(there.target, handle);
      await jobs().cleanUp(there.target, handle);
      expect(await there.leftovers()).toEqual([]);
    });

    test.each(['ask', 'kill'] as const)('what is to end (%s) ends there, too', async (how) => {
      const asked = await order(rounds);
      const handle = await jobs().start(there.target, asked);
      await untilPrinted(asked, 'round 2 6\n');
      if (how === 'ask') await server.cancel(asked);
      await jobs().cancel(there.target, handle, how);
      await expect.poll(async () => (await jobs().look(there.target, handle)).state, eventually).toBe('ended');
      await jobs().recover(there.target, handle);
      await jobs().cleanUp(there.target, handle);
      await expect.poll(() => states().filter((state) => /^(RUNNING|ACCEPTED)/.test(state)), eventually).toEqual([]);
      await expect.poll(() => there.leftovers(), eventually).toEqual([]);
    });
  });

  describe('in cluster mode', () => {
    const asking = (more: object = {}) => {
      const spark = { ...asPySpark.spark, executors: { count: 1, cores: 1, memory: '512m' }, deployMode: 'cluster' };
      server.inJobs = { ...asPySpark, spark: { ...spark, ...more } as never };
    };
    beforeEach(() => asking());
    const look = (handle: JobHandle) => jobs().look(there.target, handle);
    const untilSeen = (handle: JobHandle, seen: object) =>
      expect.poll(() => look(handle).catch(() => {}), eventually).toMatchObject(seen);
    async function cleaned(handle: JobHandle) {
      await jobs().recover(there.target, handle);
      await jobs().cleanUp(there.target, handle);
      await expect.poll(() => states().filter((state) => /^(RUNNING|ACCEPTED)/.test(state)), eventually).toEqual([]);
      await expect.poll(() => there.leftovers(), eventually).toEqual([]);
    }
    const shell = (script: string) => there.cluster.host.shell(script);

    test('what YARN could never give is told', async () => {
      asking({ driverMemory: '80g' });
      const handle = await jobs().start(there.target, await order(rounds));
      await untilSeen(handle, {
        state: 'ended',
        cause: 'refused',
        reason: expect.stringMatching(/memory .*above the max/),
      });
      await cleaned(handle);
    });

    test('what YARN has no room for waits with the reason, and is canceled', async () => {
      asking({ driverMemory: '1500m' });
      const first = await order(rounds);
      const handle = await jobs().start(there.target, first);
      await untilPrinted(first, 'round 1 ');
      const second = await order(rounds);
      const other = await jobs().start(there.target, second);
      await untilSeen(other, { state: 'waiting', reason: 'Waits until YARN has room for it (ACCEPTED).' });
      await jobs().cancel(there.target, other, 'ask');
      await untilSeen(other, { state: 'ended', cause: 'canceled' });
      await jobs().cleanUp(there.target, other);
      expect((await look(handle)).state).toBe('running');
      await jobs().cancel(there.target, handle, 'kill');
      await cleaned(handle);
    });

    test('nobody looks in', async () => {
      await expect(
        jobs().beside(there.target, { folder: '/nowhere', mode: 'cluster' }, ['exec']),
      ).rejects.toMatchObject({ retry: 'never', message: expect.stringContaining('client mode') });
    });

    test('killed on the head node, or ended by somebody on YARN, the rest ends, too', async () => {
      const asked = await order(rounds);
      const handle = await jobs().start(there.target, asked);
      await untilPrinted(asked, 'round 1 ');
      shell("pkill -KILL -u trainer -f 'stellwerk[.]runner /srv/trainer/.stellwerk'");
      await untilSeen(handle, { state: 'ended' });
      await cleaned(handle);
      const another = await order(rounds);
      const second = await jobs().start(there.target, another);
      await untilPrinted(another, 'round 1 ');
      const { id } = there.cluster.yarnApplications().find(({ state }) => state === 'RUNNING')!;
      const kill = `--class org.apache.hadoop.yarn.client.cli.ApplicationCLI spark-internal application -kill ${id}`;
      shell(`su trainer -s /bin/sh -c 'spark-submit --master local ${kill}'`);
      await untilSeen(second, {
        state: 'ended',
        cause: 'canceled',
        reason: expect.stringContaining('on YARN has failed'),
      });
      await cleaned(second);
    });

    test('a run goes on through a cut link, and while the resource manager is killed and started again', async () => {
      const asked = await order(rounds);
      const handle = await jobs().start(there.target, asked);
      await untilPrinted(asked, 'round 1 ');
      const goesOn = async () => {
        const { length } = await server.log(asked);
        await expect
          .poll(
            async () =>
              look(handle).then(
                async () => (await server.log(asked)).length,
                () => 0,
              ),
            eventually,
          )
          .toBeGreaterThan(length + 50);
      };
      there.cluster.host.cutLink();
      await pause(20_000); // longer than the connection and the run's lease hold
      there.cluster.host.mendLink();
      await goesOn();
      there.cluster.killYarn('resourcemanager');
      await goesOn();
      there.cluster.startYarn('resourcemanager');
      await goesOn();
      shell('touch /tmp/enough');
      const run = await ended(asked, handle);
      expect(run, await server.log(asked)).toMatchObject({ state: 'completed' });
      const lines = (await server.log(asked)).split('\n').filter((line) => line.startsWith('round '));
      expect(lines).toEqual(lines.map((_, n) => `round ${n} 6`));
      expect(await server.files(asked)).toContain('outputs/done.txt');
      shell('rm /tmp/enough');
      await cleaned(handle);
    });

    test('a run whose node is lost has lost its place', async () => {
      const asked = await order(rounds);
      const handle = await jobs().start(there.target, asked);
      await untilPrinted(asked, 'round 1 ');
      there.cluster.killYarn('nodemanager');
      shell("pkill -KILL -u trainer -f 'org.apache.spark.deploy.yarn|CoarseGrainedExecutor'");
      await untilSeen(handle, {
        state: 'ended',
        cause: 'node-lost',
        reason: expect.stringContaining('on YARN has failed'),
      });
      there.cluster.startYarn('nodemanager');
      await cleaned(handle);
    });
  });
});
