import { copyFileSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packagesFolder } from '../../../../../test/engines/kubernetes/images.ts';
import { whyNoKubernetes } from '../../../../../test/engines/kubernetes/kubernetes-cluster.ts';
import { buildsWithinMs, builtBinary } from '../../../../../test/engines/kubernetes/programs.ts';
import { clockLibrary, clockOffBy, whyNoWrongClock } from '../../../../../test/wrong-clock/wrong-clock.ts';
import type { JobHandle, JobOrder } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { Api } from './api.ts';
import { readKubeconfig } from './kubeconfig.ts';
import { inRuns, type OnCluster, onCluster } from './kubernetes.fixture.ts';

const named = (what: string) => `${what}${whyNoKubernetes ? ` (${whyNoKubernetes})` : ''}`;
/** Prints a line now and then until it is told that it is enough; the last one says how many there were. */
const talkative = `
import os, time
n = 0
while not os.path.exists("/tmp/enough"):
    print("line", n, flush=True)
    n += 1
    time.sleep(0.02)
os.makedirs("outputs", exist_ok=True)
open("outputs/done.txt", "w").write(str(n))
print("lines", n, flush=True)
`;
/** Before it waits for the end of what is taken away. */
const callsOfACleanUp = 10;
const early = `
import os, time
os.makedirs("outputs", exist_ok=True)
open("outputs/early.txt", "w").write("early")
print("ready", flush=True)
time.sleep(600)
`;

describe.skipIf(whyNoKubernetes)(named('faults of a cluster'), () => {
  beforeAll(() => builtBinary(), buildsWithinMs);
  let server: RealServer;
  let there: OnCluster;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onCluster(server);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });

  const jobs = () => there.driver().jobs;
  async function until(what: () => Promise<unknown> | unknown, name: string): Promise<void> {
    for (const began = performance.now(); performance.now() - began < 120_000; await pause(200))
      if (await what()) return;
    throw new Error(`${name} did not happen: ${(await there.leftovers()).join(', ')}`);
  }
  /** What the server does while a run is on: it asks again and again, whatever fails. */
  const lookedAfter = (handle: JobHandle, done: () => Promise<boolean>, name: string) =>
    until(async () => {
      await jobs()
        .look(there.target, handle)
        .catch(() => {});
      return done();
    }, name);
  const printed = (order: JobOrder, text: string) => async () => (await server.log(order)).includes(text);
  const isIn = (order: JobOrder, state: string) => async () => (await server.run(order)).state === state;

  test.each<[string, () => Promise<void>]>([
    ['all ways back are cut, as by the end of the server', () => there.cutWays()],
    ['the API server is killed', async () => there.cluster.kill('kube-apiserver')],
    [
      'the API server is away for a while',
      async () => {
        there.cluster.switchOff('kube-apiserver');
        await pause(8_000); // longer than the run's lease
        there.cluster.switchOn('kube-apiserver');
      },
    ],
    ['the kubelet is killed', async () => there.cluster.kill('kubelet')],
    [
      'the link is cut and mended',
      async () => {
        there.cluster.cutLink();
        await pause(15_000);
        there.cluster.mendLink();
      },
    ],
  ])('nothing of a run is lost when %s', async (_, fault) => {
    const order = await server.order(talkative);
    const handle = await jobs().start(there.target, order);
    await until(printed(order, 'line 10\n'), 'the beginning');
    await fault();
    const { length } = await server.log(order);
    await lookedAfter(handle, async () => (await server.log(order)).length > length + 100, 'more output');
    inRuns(there.cluster, 'touch $process/root/tmp/enough');
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    const lines = (await server.log(order)).trim().split('\n');
    expect(lines.at(-1)).toBe(`lines ${lines.length - 1}`);
    expect(lines.slice(0, -1)).toEqual(lines.slice(0, -1).map((_, n) => `line ${n}`));
    expect(await server.files(order)).toContain('outputs/done.txt');
    await jobs().cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test('a cluster that does not answer is asked again later', async () => {
    const order = await server.order('print(1)\n');
    there.cluster.switchOff('kube-apiserver');
    try {
      const message = expect.stringContaining('cannot be reached');
      await expect(jobs().start(there.target, order)).rejects.toMatchObject({ retry: 'later', message });
      await expect(jobs().cleanUp(there.target, { id: order.id })).rejects.toMatchObject({ retry: 'later', message });
      expect(await there.driver().flaws(there.target, order.job.configuration)).toEqual([]);
    } finally {
      there.cluster.switchOn('kube-apiserver');
      await there.cluster.untilReady();
    }
    await jobs().cleanUp(there.target, { id: order.id });
  });

  test.each(['before', 'after'] as const)(
    'a start that is cut short %s any call to the cluster is taken up again',
    async (when) => {
      const api = new Api(readKubeconfig(there.cluster.kubeconfig), () => {});
      for (let last = 1; ; last++) {
        const order = await server.order('print("once", flush=True)\n');
        const dying = there.jobsBy(dyingApi(api, last, when));
        const ended = await dying.start(there.target, order).then(
          () => 'whole',
          (error: Error) => error.message,
        );
        if (last % 3 === 0) await jobs().cleanUp(there.target, { id: order.id });
        const handle = await jobs().start(there.target, order);
        await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
        expect((await server.log(order)).match(/once/g)).toHaveLength(1);
        await jobs().cleanUp(there.target, handle);
        expect(await there.leftovers()).toEqual([]);
        if (ended === 'whole' || last === 6) break;
        expect(ended).toBe('killed');
      }
    },
  );

  test('a node that is switched off has lost its runs; what they wrote on a volume is delivered once it is on', async () => {
    await there.cluster.addVolume('kept');
    const target = there.targetWith({ volumeClaimSize: '1Gi', storageClass: 'kept' });
    const order = await server.order(early);
    const handle = await jobs().start(target, order);
    await until(printed(order, 'ready'), 'the beginning');
    await there.cluster.crash();
    await expect(jobs().look(target, handle)).rejects.toMatchObject({ retry: 'later' });
    await there.cluster.boot();
    await until(async () => {
      const seen = await jobs()
        .look(target, handle)
        .catch(() => undefined);
      return seen?.state === 'ended';
    }, 'the end of the job');
    expect(await jobs().look(target, handle)).toMatchObject({ state: 'ended', cause: 'node-lost' });
    await jobs().recover(target, handle);
    expect(await server.files(order)).toContain('outputs/early.txt');
    await jobs().cleanUp(target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test('a volume that is full refuses a job, and one that gets full ends neither the script nor what it prints', async () => {
    const [full, small] = [await there.cluster.addVolume('full', 20), await there.cluster.addVolume('small', 60)];
    const on = (storageClass: string) => there.targetWith({ volumeClaimSize: '1Gi', storageClass });
    there.cluster.shell(`dd if=/dev/zero of=${full}/filler bs=4k status=none || true`);
    const refused = await jobs().start(on('full'), await server.order('print(1)\n'));
    await until(async () => (await jobs().look(on('full'), refused)).state === 'ended', 'the end of the job');
    const reason = expect.stringContaining('There is no room for its files');
    expect(await jobs().look(on('full'), refused)).toMatchObject({ state: 'ended', cause: 'refused', reason });
    await jobs().cleanUp(on('full'), refused);

    const order = await server.order(talkative);
    const handle = await jobs().start(on('small'), order);
    await until(printed(order, 'line 10\n'), 'the beginning');
    there.cluster.shell(`dd if=/dev/zero of=${small}/filler bs=4k status=none || true`);
    await pause(3_000);
    expect(await jobs().look(on('small'), handle)).toMatchObject({ state: 'running' });
    there.cluster.shell(`rm ${small}/filler`);
    const { length } = await server.log(order);
    await lookedAfter(handle, async () => (await server.log(order)).length > length, 'more output');
    inRuns(there.cluster, 'touch $process/root/tmp/enough');
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    expect(await server.files(order)).toContain('outputs/done.txt');
    await jobs().cleanUp(on('small'), handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test.skipIf(whyNoWrongClock !== '')(
    `a clock that is off by an hour costs a run nothing${whyNoWrongClock && ` (${whyNoWrongClock})`}`,
    async () => {
      const library = mkdtempSync(join(there.cluster.folder, 'library-'));
      copyFileSync(clockLibrary(), join(library, 'clock.so'));
      for (const hours of [1, -1]) {
        const image = `registry.local/off:${hours > 0 ? 'ahead' : 'behind'}`;
        await there.cluster.addImage(image, library, clockOffBy(hours, `${packagesFolder}/clock.so`));
        const target = there.targetWith({ image });
        const order = await server.order(
          'import time\nfrom stellwerk.core import Run\nRun.get_context().log("loss", 0.5)\nprint("at", time.time())\n',
        );
        const handle = await jobs().start(target, order);
        await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
        const ahead = Number((await server.log(order)).split(' ')[1]) - Date.now() / 1_000;
        expect(ahead * hours).toBeGreaterThan(3_000);
        await jobs().cleanUp(target, handle);
      }
      expect(await there.leftovers()).toEqual([]);
    },
  );

  test('two installations on the same cluster never meet, not even with runs of the same name', async () => {
    const order = await server.order(talkative);
    const handle = await jobs().start(there.target, order);
    await until(printed(order, 'line 10\n'), 'the beginning');
    await there.another().jobs.cleanUp(there.target, { id: order.id });
    expect(await jobs().look(there.target, handle)).toMatchObject({ state: 'running' });
    const { length } = await server.log(order);
    await lookedAfter(handle, async () => (await server.log(order)).length > length, 'more output');
    inRuns(there.cluster, 'touch $process/root/tmp/enough');
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    await jobs().cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test('a cancel and a clean-up that are cut short at any call to the cluster are taken up again', async () => {
    const api = new Api(readKubeconfig(there.cluster.kubeconfig), () => {});
    /** After one call is before the next. */
    const cutShort = async (n: number) => {
      const [first, second] = [dyingApi(api, Math.ceil(n / 2), 'before'), dyingApi(api, n, 'before')];
      const how = n % 2 === 0 ? 'kill' : 'ask';
      const order = await server.order(early);
      const handle = await jobs().start(there.target, order);
      await lookedAfter(handle, printed(order, 'ready'), 'the beginning');
      await server.cancel(order);
      await there.jobsBy(first).cancel(there.target, handle, how).catch(killed);
      await jobs().cancel(there.target, handle, how);
      await lookedAfter(handle, async () => (await jobs().look(there.target, handle)).state === 'ended', 'its end');
      await jobs().recover(there.target, handle);
      expect(await server.files(order)).toContain('outputs/early.txt');
      await there.jobsBy(second).cleanUp(there.target, handle).catch(killed);
      await jobs().cleanUp(there.target, handle);
    };
    await Promise.all(Array.from({ length: callsOfACleanUp }, (_, n) => cutShort(n + 1)));
    expect(await there.leftovers()).toEqual([]);
  });

  test('100 MB of output and a file of 500 MB arrive whole', async () => {
    const order = await server.order(
      'import os, sys\nfor n in range(1_000_000):\n    sys.stdout.write("%099d\\n" % n)\nos.makedirs("outputs", exist_ok=True)\nwith open("outputs/big.bin", "wb") as file:\n    for _ in range(500):\n        file.write(os.urandom(1_000_000))\n',
    );
    const handle = await jobs().start(there.target, order);
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    const log = await server.log(order);
    expect(log.length).toBe(100_000_000);
    expect(log.slice(-100)).toBe(`${'999999'.padStart(99, '0')}\n`);
    expect(await server.sizes(order)).toMatchObject({ 'outputs/big.bin': 500_000_000 });
    await jobs().cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });
});

function killed(error: Error): void {
  expect(error.message).toBe('killed');
}

/** A server that is killed before or after its call of that number. */
function dyingApi(api: Api, last: number, when: 'before' | 'after'): Api {
  let calls = 0;
  const isLast = () => ++calls === last;
  return new Proxy(api, {
    get(of, name) {
      const value = Reflect.get(of, name, of);
      if (name === 'access' && (calls >= last || (isLast() && when === 'before'))) throw new Error('killed'); // by which programs are started in pods
      if (typeof value !== 'function' || !['ask', 'find', 'make'].includes(String(name))) return value;
      return async (...args: unknown[]) => {
        if (calls >= last) throw new Error('killed');
        const dies = isLast();
        if (dies && when === 'before') throw new Error('killed');
        const answer = await value.apply(of, args);
        if (dies) throw new Error('killed');
        return answer;
      };
    },
  });
}
