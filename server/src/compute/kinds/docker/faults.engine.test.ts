import { setTimeout as pause } from 'node:timers/promises';
import type { RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoDocker } from '../../../../../test/engines/docker/docker-engine.ts';
import { registrySignIn, whyNoRegistry } from '../../../../../test/engines/docker/registry.ts';
import type { JobHandle, JobOrder, JobState } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnEngine, onEngine } from './docker.fixture.ts';

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
const early = `
import os, time
os.makedirs("outputs", exist_ok=True)
open("outputs/early.txt", "w").write("early")
print("ready", flush=True)
time.sleep(600)
`;
const named = (what: string, why = whyNoDocker) => `${what}${why ? ` (${why})` : ''}`;

describe.skipIf(whyNoDocker)(named('faults of a Docker Engine'), () => {
  let server: RealServer;
  let there: OnEngine;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onEngine(server);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });

  const jobs = () => there.driver().jobs;
  const start = (order: JobOrder) => jobs().start(there.target, order);
  const look = (handle: JobHandle) => jobs().look(there.target, handle);
  const docker = (...args: string[]) => there.engine.docker(...args);

  async function until(what: () => Promise<unknown> | unknown, name: string): Promise<void> {
    for (const began = performance.now(); performance.now() - began < 90_000; await pause(200))
      if (await what()) return;
    throw new Error(`${name} did not happen:\n${docker('ps', '-a')}`);
  }
  /** What the server does while a run is on: it asks again and again, whatever fails. */
  const lookedAfter = (handle: JobHandle, done: () => Promise<boolean>, name: string) =>
    until(async () => {
      await look(handle).catch(() => {});
      return done();
    }, name);
  const printed = (order: JobOrder, text: string) => async () => (await server.log(order)).includes(text);
  const isIn = (order: JobOrder, state: string) => async () => (await server.run(order)).state === state;
  async function ended(handle: JobHandle): Promise<JobState> {
    await until(async () => (await look(handle)).state === 'ended', 'its end');
    return look(handle);
  }
  async function cleanedUp(handle: JobHandle): Promise<void> {
    await jobs().recover(there.target, handle);
    await jobs().cleanUp(there.target, handle);
    await jobs().cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  }

  test('a service that is gone for a while, with all ways back, costs a run nothing', async () => {
    const order = await server.order(talkative);
    const handle = await start(order);
    await until(printed(order, 'line 10\n'), 'the beginning');
    await there.cutWays();
    await pause(5_000); // longer than the run's lease
    const { length } = await server.log(order);
    await lookedAfter(handle, async () => (await server.log(order)).length > length + 100, 'more output');
    docker('exec', String(handle.container), 'touch', '/tmp/enough');
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    const lines = (await server.log(order)).trim().split('\n');
    expect(lines.at(-1)).toBe(`lines ${lines.length - 1}`);
    expect(lines.slice(0, -1)).toEqual(lines.slice(0, -1).map((_, n) => `line ${n}`));
    await ended(handle);
    await cleanedUp(handle);
  });

  test('100 MB of output and a file of 500 MB arrive whole', async () => {
    const order = await server.order(`
import os
line = "x" * 1023
for _ in range(100 * 1024):
    print(line)
os.makedirs("outputs", exist_ok=True)
with open("outputs/large.bin", "wb") as file:
    for _ in range(500):
        file.write(os.urandom(1024 * 1024))
`);
    const handle = await start(order);
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    expect(await server.sizes(order)).toMatchObject({ 'outputs/large.bin': 500 * 1024 * 1024 });
    expect((await server.log(order)).length).toBeGreaterThanOrEqual(100 * 1024 * 1024);
    await ended(handle);
    await cleanedUp(handle);
  });

  test('a runner that is killed takes its script with it; what was written is delivered', async () => {
    const order = await server.order(early);
    const handle = await start(order);
    await until(printed(order, 'ready'), 'the beginning');
    const kill =
      'import os, signal; [os.kill(int(p), signal.SIGKILL) for p in os.listdir("/proc") if p.isdigit() and b"stellwerk.runner\\0" in open("/proc/%s/cmdline" % p, "rb").read()]';
    there.engine.tried('exec', String(handle.container), 'python3', '-c', kill); // the container ends under it
    expect(await ended(handle)).toMatchObject({ state: 'ended', usage: { exitCode: 137 } });
    expect(there.engine.processes()).toEqual([]);
    await jobs().recover(there.target, handle);
    expect(await server.files(order)).toContain('outputs/early.txt');
    await cleanedUp(handle);
  });

  test('an engine that is switched off in the middle of a run has lost it; what was written is delivered once it is on', async () => {
    const order = await server.order(early);
    const handle = await start(order);
    await until(printed(order, 'ready'), 'the beginning');
    await there.engine.crash();
    for (const asked of [
      look(handle),
      jobs().cancel(there.target, handle, 'ask'),
      jobs().recover(there.target, handle),
    ])
      await expect(asked).rejects.toMatchObject({
        retry: 'later',
        message: expect.stringContaining('cannot be reached'),
      });
    await there.engine.start();
    expect(await look(handle)).toMatchObject({
      state: 'ended',
      cause: 'node-lost',
      reason: 'The Docker Engine was restarted while the run was on it.',
    });
    await jobs().recover(there.target, handle);
    expect(await server.files(order)).toContain('outputs/early.txt');
    await cleanedUp(handle);
  });

  test('a container that somebody removed is the end of its run, and what it wrote is delivered', async () => {
    const order = await server.order(early);
    const handle = await start(order);
    await until(printed(order, 'ready'), 'the beginning');
    docker('rm', '-f', String(handle.container));
    expect(await look(handle)).toEqual({
      state: 'ended',
      reason: 'Its container is not on the engine any more.',
    });
    await jobs().recover(there.target, handle);
    expect(await server.files(order)).toContain('outputs/early.txt');
    await cleanedUp(handle);
  });

  test('a start that was cut off half-way is gone on with', async () => {
    const order = await server.order('print("once", flush=True)\n');
    const handle = await start(order);
    const [name] = [String(handle.container)];
    // As it is between making and starting.
    docker('rm', '-f', name);
    docker(
      'create',
      '--name',
      name,
      '-e',
      'PYTHONPATH=/opt/stellwerk/bundle',
      '-v',
      `${name}:/opt/stellwerk`,
      there.engine.image,
      'python3',
      '-S',
      '-m',
      'stellwerk.runner',
      '/opt/stellwerk/job',
    );
    expect(await look(handle)).toMatchObject({ state: 'ended' });
    expect(await start(order)).toEqual(handle);
    await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
    await ended(handle);
    await cleanedUp(handle);
  });

  test('takes no more than it asked for, has no secret where others see it, and may not become more', async () => {
    const order = await server.order(
      'open("/tmp/x", "w").close()\nprint([l for l in open("/proc/self/status") if l.startswith(("NoNewPrivs", "CapEff"))], flush=True)\nimport time; time.sleep(600)\n',
      { resources: { cpus: 1, memory: '256MiB' }, environmentVariables: { GREETING: 'hello' } },
    );
    const handle = await start(order);
    await until(printed(order, 'NoNewPrivs'), 'the beginning');
    const shown = docker('inspect', String(handle.container));
    const [{ HostConfig }] = JSON.parse(shown);
    expect(HostConfig).toMatchObject({
      NanoCpus: 1e9,
      Memory: 2 ** 28,
      MemorySwap: 2 ** 28,
      Init: true,
      CapDrop: ['ALL'],
    });
    expect(shown + docker('top', String(handle.container), 'axe')).not.toContain(order.job.token);
    expect(docker('exec', String(handle.container), 'stat', '-c', '%a', '/opt/stellwerk/job/job.json')).toBe('600');
    expect(await server.log(order)).toMatch(/NoNewPrivs:\\t1/);
    expect(await server.log(order)).toMatch(/CapEff:\\t000000000000000b/);
    expect(await look(handle)).toMatchObject({
      state: 'running',
      facts: { id: handle.container, image: expect.stringMatching(/sha256:[0-9a-f]{64}$/) },
    });
    await jobs().cancel(there.target, handle, 'kill');
    await cleanedUp(handle);
  });

  test('a script that takes more memory than it asked for is killed, and that is said', async () => {
    const order = await server.order('x = bytearray(10 ** 9)\nfor i in range(0, len(x), 4096): x[i] = 1\n', {
      resources: { memory: '128MiB' },
    });
    const handle = await start(order);
    const seen = await ended(handle);
    await jobs().recover(there.target, handle);
    const run = await server.run(order);
    expect([run.state, run.reason], JSON.stringify(seen)).toEqual(['failed', expect.stringMatching(/memory/)]);
    expect(seen).toMatchObject({ cause: 'out-of-memory', reason: expect.stringContaining('resources.memory') });
    await cleanedUp(handle);
  });

  test('GPUs are asked of the engine by their UUIDs; one that has none refuses for good', async () => {
    const order = await server.order('print(1)\n');
    order.job.gpus = ['GPU-one', 'GPU-two'];
    await expect(start(order)).rejects.toMatchObject({ retry: 'never', message: expect.stringContaining('gpu') });
    const [container] = (await there.leftovers())[0]!.split(' ');
    const [{ HostConfig }] = JSON.parse(docker('inspect', container!));
    expect(HostConfig.DeviceRequests).toMatchObject([{ DeviceIDs: ['GPU-one', 'GPU-two'], Capabilities: [['gpu']] }]);
    await jobs().cleanUp(there.target, { id: order.id });
    expect(await there.leftovers()).toEqual([]);
  });

  const inImage = (image: string): Partial<RunConfigurationInput> => ({ container: { image } });

  test('an image without Python is refused, and says what it lacks', async () => {
    there.engine.emptyImage('empty:1');
    const order = await server.order('print(1)\n');
    order.job.configuration.container = { environment: 'at-start', image: 'empty:1' };
    const handle = await start(order);
    expect(await ended(handle)).toMatchObject({ cause: 'refused', reason: expect.stringContaining('Python 3.8') });
    await jobs().cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test.skipIf(whyNoRegistry)(
    named('an image is pulled with what its registry wants, or is refused with what to do', whyNoRegistry),
    async () => {
      const image = await there.engine.registry();
      const order = await server.order('print("pulled", flush=True)\n');
      Object.assign(order.job.configuration, inImage(image));
      await expect(start(order)).rejects.toMatchObject({
        retry: 'never',
        message: expect.stringMatching(new RegExp(`${image} is not on.*cannot pull it.*container[.]user`)),
      });
      order.imageSignIn = registrySignIn;
      const handle = await start(order);
      await lookedAfter(handle, isIn(order, 'completed'), 'the end of the run');
      const { facts } = await ended(handle);
      expect(facts?.image).toMatch(/^127[.]0[.]0[.]1:5000\/team\/base@sha256:[0-9a-f]{64}$/);
      expect(docker('inspect', String(handle.container))).not.toContain(registrySignIn.password);
      await cleanedUp(handle);
    },
  );
});
