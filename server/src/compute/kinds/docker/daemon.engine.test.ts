// What becomes of runs when an engine's disk is full, its daemon is killed and started again, the clock of containers is off, or another
// installation has the same engine.
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoDocker } from '../../../../../test/engines/docker/docker-engine.ts';
import { whyNoWrongClock } from '../../../../../test/wrong-clock/wrong-clock.ts';
import type { JobHandle, JobOrder } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnEngine, onEngine } from './docker.fixture.ts';

/** Prints a line now and then until it is told that it is enough; the last one says how many there were. */
const talkative = `
import os, time
os.makedirs("outputs", exist_ok=True)
open("outputs/early.txt", "w").write("early")
n = 0
while not os.path.exists("/tmp/enough"):
    print("line", n, flush=True)
    n += 1
    time.sleep(0.02)
print("lines", n, flush=True)
`;

describe.skipIf(whyNoDocker)(`the daemon of an engine${whyNoDocker ? ` (${whyNoDocker})` : ''}`, () => {
  let server: RealServer;
  let there: OnEngine;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onEngine(server, { diskMegabytes: 600 });
    docker('run', '--detach', '--name', 'filler', there.engine.image, 'sleep', 'infinity');
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });

  const jobs = () => there.driver().jobs;
  const docker = (...args: string[]) => there.engine.docker(...args);
  const fill = () => there.engine.tried('exec', 'filler', 'dd', 'if=/dev/zero', 'of=/full', 'bs=4k');
  const makeRoom = () => docker('exec', 'filler', 'rm', '/full');
  const left = async () => (await there.leftovers()).filter((name) => !name.startsWith('filler'));

  /** What the server does while a run is on: it asks again and again, whatever fails. */
  async function lookedAfter(handle: JobHandle, done: () => Promise<boolean>, name: string): Promise<void> {
    for (const began = performance.now(); performance.now() - began < 120_000; await pause(200)) {
      await jobs()
        .look(there.target, handle)
        .catch(() => undefined);
      if (await done()) return;
    }
    throw new Error(`${name} did not happen:\n${docker('ps', '-a')}`);
  }
  const isIn = (order: JobOrder, state: string) => async () => (await server.run(order)).state === state;

  async function begun(): Promise<{ order: JobOrder; handle: JobHandle }> {
    const order = await server.order(talkative);
    const handle = await jobs().start(there.target, order);
    await lookedAfter(handle, async () => (await server.log(order)).includes('line 10\n'), 'the beginning');
    return { order, handle };
  }
  async function goesOn(order: JobOrder, handle: JobHandle): Promise<void> {
    const { length } = await server.log(order);
    await lookedAfter(handle, async () => (await server.log(order)).length > length + 100, 'more output');
  }
  async function completes(order: JobOrder, handle: JobHandle): Promise<void> {
    docker('exec', String(handle.container), 'touch', '/tmp/enough');
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    const lines = (await server.log(order)).trim().split('\n');
    expect(lines).toEqual([...lines.slice(1).map((_, n) => `line ${n}`), `lines ${lines.length - 1}`]);
    expect(await server.files(order)).toContain('outputs/early.txt');
    await jobs().cleanUp(there.target, handle);
    expect(await left()).toEqual([]);
  }

  test('on a full disk nothing is started, and the reason is told; with room again the same start goes through', async () => {
    const order = await server.order('print("once", flush=True)\n');
    fill();
    const refused = { retry: 'never', message: expect.stringContaining('is full') };
    await expect(jobs().start(there.target, order)).rejects.toMatchObject(refused);
    makeRoom();
    const handle = await jobs().start(there.target, order);
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    await jobs().cleanUp(there.target, handle);
    expect(await left()).toEqual([]);
  });

  test('a run comes through a disk that gets full, and another installation that cleans up a job of its name', async () => {
    const { order, handle } = await begun();
    await there.another().jobs.cleanUp(there.target, { id: order.id });
    await goesOn(order, handle);
    fill();
    await pause(3_000);
    expect(await jobs().look(there.target, handle)).toMatchObject({ state: 'running' });
    makeRoom();
    await goesOn(order, handle);
    await completes(order, handle);
  });

  test('a daemon that is killed costs a run nothing where containers live on without it', async () => {
    const { order, handle } = await begun();
    there.engine.killDaemon();
    await expect(jobs().look(there.target, handle)).rejects.toMatchObject({ retry: 'later' });
    await pause(5_000); // longer than the run's lease
    await there.engine.startDaemon({ isKeeping: true });
    await goesOn(order, handle);
    await completes(order, handle);
  });

  test('elsewhere the run is lost with that reason, and what was written is delivered', async () => {
    const { order, handle } = await begun();
    there.engine.killDaemon();
    await there.engine.startDaemon();
    const seen = await jobs().look(there.target, handle);
    expect(seen).toMatchObject({
      state: 'ended',
      cause: 'node-lost',
      reason: expect.stringContaining('was restarted'),
    });
    await jobs().recover(there.target, handle);
    expect(await server.files(order)).toContain('outputs/early.txt');
    expect(await server.run(order)).not.toMatchObject({ state: 'canceled' });
    await jobs().cleanUp(there.target, handle);
    docker('start', 'filler');
    expect(await left()).toEqual([]);
  });

  test.skipIf(whyNoWrongClock !== '').each([1, -1])(
    `a clock that is off by %d h costs a run nothing${whyNoWrongClock && ` (${whyNoWrongClock})`}`,
    async (hours) => {
      const image = `clock:${hours > 0 ? 'ahead' : 'behind'}`;
      there.engine.imageWithClock(hours, image);
      const order = await server.order(
        'import time\nfrom stellwerk.core import Run\nRun.get_context().log("loss", 0.5)\nprint("at", time.time())\n',
      );
      order.job.configuration.container = { environment: 'at-start', image };
      const handle = await jobs().start(there.target, order);
      await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
      const at = Number((await server.log(order)).split(' ')[1]);
      expect(Math.abs(at - Date.now() / 1_000)).toBeGreaterThan(3_000);
      await jobs().cleanUp(there.target, handle);
      expect(await left()).toEqual([]);
    },
  );

  test('the volume of its environments goes when the target is forgotten', async () => {
    const caches = async () => there.engine.left().filter((name) => name.includes('-cache-'));
    expect(await caches()).toHaveLength(1);
    await there.driver().forget(there.target);
    await there.driver().forget(there.target);
    expect(await caches()).toEqual([]);
  });
});
