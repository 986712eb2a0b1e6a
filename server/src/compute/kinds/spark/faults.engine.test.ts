import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import type { Spark } from '@stellwerk/contract/spark.ts';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { whyNoJars, whyNoSpark } from '../../../../../test/engines/spark/spark-cluster.ts';
import type { JobHandle, JobOrder } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { asPySpark, type OnCluster, onCluster, rounds, targetOn } from './spark.fixture.ts';

/** Two executors work for it until somebody ends it. */
const busy = `
import os, time
from pyspark.sql import SparkSession
context = SparkSession.builder.getOrCreate().sparkContext
print("sum", context.parallelize(range(100), 2).sum(), flush=True)
os.makedirs("outputs", exist_ok=True)
open("outputs/begun.txt", "w").write("begun")
print("it computes", flush=True)
context.parallelize(range(2), 2).map(lambda _: __import__("time").sleep(600)).collect()
`;

describe.skipIf(whyNoSpark)(`faults of a Spark cluster${whyNoSpark ? ` (${whyNoSpark})` : ''}`, () => {
  let server: RealServer;
  let there: OnCluster;
  const isWithLivy = !whyNoJars;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onCluster(server, { livy: isWithLivy }, { livy: undefined });
    there.target = targetOn(there.cluster);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });

  /** A test that fails leaves nothing to the next. */
  afterEach(async () => {
    if (isWithLivy) for (const batch of cluster().batches()) cluster().endBatch(Number(batch.split(' ')[1]));
    cluster().host.shell("pkill -KILL -u trainer -f 'stellwerk.runner|SparkSubmit' || true");
    await untilNothingWorks();
    cluster().host.shell(`rm -rf ${cluster().host.home}/.stellwerk/*/jobs/*`);
  });

  const jobs = () => there.driver().jobs;
  const cluster = () => there.cluster;
  const byLivy = () => targetOn(there.cluster, { livy: there.cluster.livy, master: undefined });
  async function until(what: () => Promise<unknown> | unknown, name: string): Promise<void> {
    for (const began = performance.now(); performance.now() - began < 90_000; await pause(100))
      if (await what()) return;
    const { home } = there.cluster.host;
    throw new Error(
      `${name} did not happen: ${there.cluster.host.shell(`ps axf; tail -n 40 ${home}/*/*/jobs/*/runner.log ${home}/*/*/jobs/*/logs/output.txt; true`)}`,
    );
  }
  const printed = (order: JobOrder, text: string) => async () => (await server.log(order)).includes(text);
  const order = (spark?: Spark, script = busy) =>
    server
      .order(script, { environment: { userManaged: true, interpreterPath: there.cluster.python } })
      .then((made) => ({
        ...made,
        job: { ...made.job, configuration: { ...made.job.configuration, ...(spark && { spark }) } },
      }));
  async function beside(target: OnCluster['target'], handle: JobHandle, words: string[], said = ''): Promise<string> {
    const stream = await jobs().beside(target, handle, words);
    stream.write(said);
    return text(stream);
  }
  async function untilNothingWorks(): Promise<void> {
    await until(() => cluster().applications().length === 0, 'the end of the application at the master');
    await until(() => cluster().executors().length === 0, 'the end of its executors');
  }
  async function cleaned(target: OnCluster['target'], handle: JobHandle): Promise<void> {
    await jobs().cleanUp(target, handle);
    expect(await there.leftovers()).toEqual([]);
    if (isWithLivy) expect(cluster().batches()).toEqual([]);
  }

  const ways = [['spark-submit', () => there.target, false] as const, ['Livy', byLivy, true] as const];
  describe.each(ways)('by %s', (_, target, needsLivy) => {
    test.skipIf(needsLivy && !isWithLivy)(
      'the application and where it is shown are told; killed, it leaves no Python, no executor and no application',
      async () => {
        const asked = await order();
        const handle = await jobs().start(target(), asked);
        await until(printed(asked, 'it computes'), 'the beginning');
        await until(async () => (await server.run(asked)).job, 'the facts');
        const [application] = cluster().applications();
        const { job } = await server.run(asked);
        expect(job).toMatchObject({ application: application!.id, url: expect.stringMatching(/^http:\/\/.+:40\d\d$/) });
        expect(application).toMatchObject({ cores: 2, memoryperexecutor: 512, state: 'RUNNING' });
        expect(cluster().executors().length).toBeGreaterThanOrEqual(2);
        const page = new URL(job!.url!).port;
        const python = 'echo "$PYSPARK_PYTHON $(cat outputs/begun.txt)"';
        expect(await beside(target(), handle, ['exec', '--', 'sh', '-c', python])).toContain(
          `${cluster().python} begun`,
        );
        expect(await beside(target(), handle, ['connect', page], 'GET / HTTP/1.0\r\n\r\n')).toMatch(/^HTTP.1.1 [23]/);
        await jobs().cancel(target(), handle, 'kill');
        expect(await jobs().look(target(), handle)).toMatchObject({ state: 'ended' });
        await untilNothingWorks();
        await jobs().recover(target(), handle);
        expect(await server.files(asked)).toContain('outputs/begun.txt');
        await cleaned(target(), handle);
      },
    );

    test.skipIf(needsLivy && !isWithLivy)('a JVM that dies takes its script with it', async () => {
      const asked = await order();
      const handle = await jobs().start(target(), asked);
      await until(printed(asked, 'it computes'), 'the beginning');
      cluster().host.shell('pkill -KILL -u trainer -f org.apache.spark.deploy.SparkSubmit');
      await until(async () => (await jobs().look(target(), handle)).state === 'ended', 'the end of the runner');
      await untilNothingWorks();
      await jobs().recover(target(), handle);
      expect(await server.files(asked)).toContain('outputs/begun.txt');
      await cleaned(target(), handle);
    });

    test.skipIf(needsLivy && !isWithLivy)('what no worker can give waits, says so, and can be canceled', async () => {
      const asked = await order({ driverMemory: '512m', executors: { count: 1, cores: 1, memory: '900g' } });
      const handle = await jobs().start(target(), asked);
      await until(() => cluster().applications()[0]?.state === 'WAITING', 'an application that waits');
      await until(async () => (await server.run(asked)).job?.application, 'the facts');
      expect((await server.run(asked)).state).toBe('running');
      await server.cancel(asked);
      await jobs().cancel(target(), handle, 'ask');
      await until(async () => (await server.run(asked)).state === 'canceled', 'the cancellation');
      await cleaned(target(), handle);
      await untilNothingWorks();
    });
  });

  test('a worker and the master that are killed in the middle of a run cost it nothing, once they are started again', async () => {
    const asked = await order(undefined, rounds);
    const handle = await jobs().start(there.target, asked);
    await until(printed(asked, 'round 3 6'), 'the beginning');
    const goesOn = async (what: string) => {
      const { length } = await server.log(asked);
      await until(async () => (await server.log(asked)).length > length + 100, what);
    };
    cluster().kill('worker1');
    await goesOn('work on the other worker');
    cluster().kill('master');
    await goesOn('work without a master');
    cluster().startMaster();
    cluster().startWorker(1);
    await cluster().untilWorkers(2);
    await until(() => cluster().applications()[0]?.state === 'RUNNING', 'the application at the new master');
    await goesOn('work with the new master');
    cluster().host.shell('touch /tmp/enough');
    await until(async () => (await server.run(asked)).state === 'completed', 'the end of the run');
    const lines = (await server.log(asked)).split('\n').filter((line) => /^rounds? /.test(line));
    expect(lines).toEqual([...lines.slice(1).map((_, n) => `round ${n} 6`), `rounds ${lines.length - 1}`]);
    await untilNothingWorks();
    await cleaned(there.target, handle);
  });

  test('a head node without Spark fails the run with what to do', async () => {
    const asked = await order();
    const target = targetOn(cluster(), { sparkHome: '/opt/no-spark' });
    const handle = await jobs().start(target, asked);
    await until(async () => (await server.run(asked)).state === 'failed', 'the failure');
    expect((await server.run(asked)).reason).toContain('There is no spark-submit in /opt/no-spark');
    await cleaned(target, handle);
  });

  test.skipIf(!isWithLivy)('a batch that somebody else deletes leaves no Python process', async () => {
    const asked = await order();
    const handle = await jobs().start(byLivy(), asked);
    await until(printed(asked, 'it computes'), 'the beginning');
    cluster().endBatch(Number(handle.batch));
    await until(async () => (await jobs().look(byLivy(), handle)).state === 'ended', 'the end of the runner');
    await untilNothingWorks();
    await until(async () => (await there.leftovers()).every((line) => !/python|java/.test(line)), 'no process');
    await jobs().recover(byLivy(), handle);
    await cleaned(byLivy(), handle);
  });

  test.skipIf(!isWithLivy)('what Livy cannot start is refused with what it says', async () => {
    const asked = await order({ packages: ['no.such.group:no-such-thing:1'], repositories: ['http://127.0.0.1:1/'] });
    const handle = await jobs().start(byLivy(), asked);
    expect((await jobs().look(byLivy(), handle)).state).toBe('waiting');
    await until(async () => (await jobs().look(byLivy(), handle)).state === 'ended', 'the refusal');
    expect(await jobs().look(byLivy(), handle)).toMatchObject({
      cause: 'refused',
      reason: expect.stringContaining('Livy could not start it: '),
    });
    await cleaned(byLivy(), handle);
  });

  test.skipIf(!isWithLivy)(
    'without its Livy nothing is started, and the reason is told; what was placed is removed',
    async () => {
      const asked = await order();
      const target = targetOn(cluster(), { livy: 'http://127.0.0.1:1' });
      const refused = { retry: 'later', message: expect.stringContaining('Livy cannot be reached') };
      await expect(jobs().start(target, asked)).rejects.toMatchObject(refused);
      await expect(jobs().cleanUp(target, { id: asked.id })).rejects.toMatchObject(refused);
      await jobs().cleanUp(byLivy(), { id: asked.id });
      expect(await there.leftovers()).toEqual([]);
    },
  );

  test('runs are refused at submit with what the cluster cannot do', async () => {
    const asked = async (spark: Spark, target = there.target) =>
      (await there.driver().flaws(target, { ...(await order()).job.configuration, ...asPySpark, spark }))[0];
    expect(await asked({ deployMode: 'cluster' })).toMatchObject({
      field: 'spark.deployMode',
      why: expect.stringContaining('standalone'),
    });
    const onYarn = { deployMode: 'cluster', master: 'yarn' } as const;
    expect(await asked(onYarn)).toBeUndefined();
    expect(await asked({ ...onYarn, pyFiles: ['a.py'] })).toMatchObject({ field: 'spark.pyFiles' });
    expect(await asked({ ...onYarn, master: 'local[2]' })).toMatchObject({ field: 'spark.deployMode' });
    expect(await asked({ settings: { 'spark.master': 'yarn' } })).toMatchObject({ field: 'spark.settings' });
    expect(await asked({ executors: { count: 2 } })).toBeUndefined();
    const livy = targetOn(there.cluster, { livy: 'http://127.0.0.1:1' });
    expect(await asked({ pyFiles: ['a.py'] }, livy)).toMatchObject({ field: 'spark.pyFiles' });
    expect(await asked({ master: 'yarn' }, livy)).toMatchObject({ field: 'spark.master' });
    expect(await asked(onYarn, livy)).toMatchObject({ field: 'spark.deployMode' });
  });
});
