import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoSshHost } from '../../../../../test/engines/ssh/ssh-host.ts';
import { clockOffBy, whyNoWrongClock } from '../../../../../test/wrong-clock/wrong-clock.ts';
import type { JobHandle, JobOrder } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnHost, onHost, targetOn } from './ssh.fixture.ts';

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

describe.skipIf(whyNoSshHost)(`faults of a machine by ssh${whyNoSshHost ? ` (${whyNoSshHost})` : ''}`, () => {
  let server: RealServer;
  let there: OnHost;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onHost(server);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });

  async function until(what: () => Promise<unknown> | unknown, name: string, on = there): Promise<void> {
    for (const began = performance.now(); performance.now() - began < 120_000; await pause(100))
      if (await what()) return;
    const home = `${on.host.home}/.stellwerk`;
    throw new Error(
      `${name} did not happen: ${on.host.shell(`ps axf; ls -lR ${home}/*/jobs ${home}/*/relay; cat ${home}/*/jobs/*/runner.log || true`)}`,
    );
  }
  /** What the server does while a run is on: it asks again and again, whatever fails. */
  async function lookedAfter(on: OnHost, handle: JobHandle, done: () => Promise<boolean>, name: string): Promise<void> {
    const driver = on.driver();
    await until(
      async () => {
        await driver.jobs.look(on.target, handle).catch(() => {});
        return done();
      },
      name,
      on,
    );
  }
  const isIn = (order: JobOrder, state: string) => async () => {
    const run = await server.run(order);
    if (run.state === 'failed') throw new Error(`${run.reason}\n${run.lastLines?.join('\n')}`);
    return run.state === state;
  };
  const printed = (order: JobOrder, text: string) => async () => (await server.log(order)).includes(text);

  async function wholeInSpiteOf(fault: () => Promise<void>): Promise<void> {
    there.host.shell('rm -f /tmp/enough');
    const order = await server.order(talkative);
    const handle = await there.driver().jobs.start(there.target, order);
    await until(printed(order, 'line 10\n'), 'the beginning');
    await fault();
    const { length } = await server.log(order);
    await lookedAfter(there, handle, async () => (await server.log(order)).length > length + 100, 'more output');
    there.host.shell('touch /tmp/enough');
    await lookedAfter(there, handle, isIn(order, 'completed'), 'the end of the run');
    const lines = (await server.log(order)).trim().split('\n');
    expect(lines.at(-1)).toBe(`lines ${lines.length - 1}`);
    expect(lines.slice(0, -1)).toEqual(lines.slice(0, -1).map((_, n) => `line ${n}`));
    expect(await server.files(order)).toContain('outputs/done.txt');
    await there.driver().jobs.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  }

  test('a link that is cut and mended costs a run nothing', () =>
    wholeInSpiteOf(async () => {
      there.host.cutLink();
      await pause(20_000); // longer than the connection and the run's lease hold
      there.host.mendLink();
    }));

  test('an sshd that is killed with all its connections and started again costs a run nothing', () =>
    wholeInSpiteOf(async () => {
      there.host.killSshd();
      await pause(1_000);
      await there.host.startSshd();
    }));

  test('a machine that is switched off in the middle of a run has lost it; what was written is delivered once it is on', async () => {
    const order = await server.order(
      'import os, time\nos.makedirs("outputs", exist_ok=True)\nopen("outputs/early.txt", "w").write("early")\nprint("ready", flush=True)\ntime.sleep(600)\n',
    );
    const { jobs } = there.driver();
    const handle = await jobs.start(there.target, order);
    await until(printed(order, 'ready'), 'the beginning');
    await there.host.crash();
    await expect(jobs.look(there.target, handle)).rejects.toMatchObject({ retry: 'later' });
    await there.host.boot();
    await until(
      () =>
        jobs.look(there.target, handle).then(
          () => true,
          () => false,
        ),
      'an answer',
    );
    expect(await jobs.look(there.target, handle)).toEqual({
      state: 'ended',
      cause: 'node-lost',
      reason: 'Its machine was restarted while the run was on it.',
    });
    await jobs.recover(there.target, handle);
    expect(await server.files(order)).toContain('outputs/early.txt');
    await jobs.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test('on a full disk nothing is started, and the reason is told', async () => {
    const small = await onHost(server, { diskMegabytes: 80 });
    try {
      const { jobs } = small.driver();
      const order = await server.order('print(1)\n');
      small.host.shell(`dd if=/dev/zero of=${small.host.home}/filler bs=1M status=none || true`);
      const refused = { retry: 'never', message: expect.stringContaining('is full') };
      await expect(jobs.start(small.target, order)).rejects.toMatchObject(refused);
      small.host.shell(`rm ${small.host.home}/filler`);
      await jobs.cleanUp(small.target, await jobs.start(small.target, order));
      small.host.shell(
        `dd if=/dev/zero of=${small.host.home}/filler bs=1M status=none; dd if=/dev/zero of=${small.host.home}/rest bs=1 status=none || true`,
      );
      await expect(jobs.start(small.target, order)).rejects.toMatchObject(refused);
      small.host.shell(`rm ${small.host.home}/filler ${small.host.home}/rest`);
      await jobs.cleanUp(small.target, { id: order.id });
      expect(await small.leftovers()).toEqual([]);
    } finally {
      await small.end();
    }
  });

  test('a disk that gets full in the middle of a run ends neither the script nor what it prints', async () => {
    const small = await onHost(server, { diskMegabytes: 80 });
    try {
      small.host.shell('rm -f /tmp/enough');
      const order = await server.order(talkative);
      const handle = await small.driver().jobs.start(small.target, order);
      await until(printed(order, 'line 10\n'), 'the beginning');
      small.host.shell(`dd if=/dev/zero of=${small.host.home}/filler bs=4k status=none || true`);
      await pause(3_000);
      expect(await small.driver().jobs.look(small.target, handle)).toEqual({ state: 'running' });
      small.host.shell(`rm ${small.host.home}/filler`);
      const { length } = await server.log(order);
      await lookedAfter(small, handle, async () => (await server.log(order)).length > length, 'more output');
      small.host.shell('touch /tmp/enough');
      await lookedAfter(small, handle, isIn(order, 'completed'), 'the end of the run');
      expect(await server.files(order)).toContain('outputs/done.txt');
      await small.driver().jobs.cleanUp(small.target, handle);
      expect(await small.leftovers()).toEqual([]);
    } finally {
      await small.end();
    }
  });

  test('a machine that has lost its Python says what to do', async () => {
    const bare = await onHost(server);
    try {
      const order = await server.order('print(1)\n');
      bare.host.shell('for python in $(which -a python3); do rm -f "$python"; done');
      const refused = { retry: 'never', message: expect.stringContaining('install Python 3.8') };
      await expect(bare.driver().jobs.start(bare.target, order)).rejects.toMatchObject(refused);
    } finally {
      await bare.end();
    }
  });

  test('another host key than the one it is known by is refused for good, and what was started goes on until the new one is known', async () => {
    const other = await onHost(server);
    try {
      const begun = await server.order('import time\nprint("early", flush=True)\ntime.sleep(8)\nprint("late")\n');
      const handle = await other.driver().jobs.start(other.target, begun);
      await until(printed(begun, 'early'), 'the beginning');
      await other.host.changeHostKey();
      const order = await server.order('print(1)\n');
      const message = expect.stringContaining('another host key');
      await expect(other.driver().jobs.start(other.target, order)).rejects.toMatchObject({ retry: 'never', message });
      await expect(other.driver().jobs.look(other.target, handle)).rejects.toMatchObject({ retry: 'later', message });
      const target = targetOn(other.host, { hostKey: other.host.otherHostKey });
      await lookedAfter({ ...other, target }, handle, isIn(begun, 'completed'), 'the end of the run');
      expect(await server.log(begun)).toBe('early\nlate\n');
    } finally {
      await other.end();
    }
  });

  test.skipIf(whyNoWrongClock !== '').each([1, -1])(
    `a clock that is off by %d h costs a run nothing${whyNoWrongClock && ` (${whyNoWrongClock})`}`,
    async (hours) => {
      const off = await onHost(server, { environment: clockOffBy(hours) });
      try {
        const order = await server.order(
          'import time\nfrom stellwerk.core import Run\nRun.get_context().log("loss", 0.5)\nprint("at", time.time())\n',
        );
        const handle = await off.driver().jobs.start(off.target, order);
        await lookedAfter(off, handle, isIn(order, 'completed'), 'the end of the run');
        const at = Number((await server.log(order)).split(' ')[1]);
        expect(Math.abs(at - Date.now() / 1_000)).toBeGreaterThan(3_000);
        await off.driver().jobs.cleanUp(off.target, handle);
      } finally {
        await off.end();
      }
    },
  );

  test('two installations with the same target never meet, not even with runs of the same name', async () => {
    there.host.shell('rm -f /tmp/enough');
    const order = await server.order(talkative);
    const [first, second] = [there.driver().jobs, there.another().jobs];
    const handle = await first.start(there.target, order);
    await until(printed(order, 'line 10\n'), 'the beginning');
    await second.cleanUp(there.target, { id: order.id });
    expect(await first.look(there.target, handle)).toEqual({ state: 'running' });
    const { length } = await server.log(order);
    await until(async () => (await server.log(order)).length > length, 'more output');
    there.host.shell('touch /tmp/enough');
    await until(isIn(order, 'completed'), 'the end of the run');
    await first.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test('100 MB of output and a file of 500 MB arrive whole', async () => {
    const order = await server.order(
      'import hashlib, os, sys\nfor n in range(1_000_000):\n    sys.stdout.write("%099d\\n" % n)\nos.makedirs("outputs", exist_ok=True)\nwith open("outputs/big.bin", "wb") as file:\n    for _ in range(500):\n        file.write(os.urandom(1_000_000))\n',
    );
    const handle = await there.driver().jobs.start(there.target, order);
    await lookedAfter(there, handle, isIn(order, 'completed'), 'the end of the run');
    const log = await server.log(order);
    expect(log.length).toBe(100_000_000);
    expect(log.slice(-100)).toBe(`${'999999'.padStart(99, '0')}\n`);
    expect(await server.sizes(order)).toMatchObject({ 'outputs/big.bin': 500_000_000 });
    await there.driver().jobs.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });
});
