// What every kind of compute target that trains must pass: jobs are started once, found again, ended wholly, and leave nothing.
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { ComputeKind } from '@stellwerk/contract/compute-settings.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { endStates, type RunState } from '@stellwerk/contract/run-state.ts';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ComputeDriver, JobHandle, JobOrder, RunsJobs, Target } from './driver.ts';
import { LastCall } from './last-call.fixture.ts';
import { RealServer } from './real-server.fixture.ts';

export interface Tried<K extends ComputeKind> {
  /** Made anew at each call, as after a restart of the service. */
  driver(): ComputeDriver<K>;
  target: Target<K>;
  /** Jobs of a life of the service whose calls to the target are counted by this; given if those are to be cut short. */
  dying?(last: LastCall): RunsJobs<K>;
  /** Whatever jobs have left behind. */
  leftovers(): Promise<string[]>;
  /** Which of these processes live, where they are not this machine's. */
  alive?(pids: string[]): string[];
  end(): Promise<void>;
}

/** What every kind must pass, whatever it can do. */
export function kindSuite<K extends ComputeKind>(
  name: string,
  driver: () => ComputeDriver<K>,
  target: Target<K>,
): void {
  describe(`${name}, as a kind`, () => {
    test('says what it is, and whether it can be used, with a reason for each finding', async () => {
      expect(driver().kind).toBe(target.settings.kind);
      const { usable, findings } = await driver().probe(target);
      expect(findings.length).toBeGreaterThan(0);
      expect(usable).toBe(findings.every(({ ok }) => ok));
      for (const { detail } of findings) expect(detail).toMatch(/^\p{Lu}?.+[.]$/u);
    });

    test('has one queue for a target, by another life of the service too', () => {
      expect(driver().queue(target)).toBe(driver().queue(target));
    });
  });
}

/** A script's process, its child, and a grandchild that left the session and cleared its environment; their ids are printed. */
const family = `
import os, subprocess, sys, time, signal
IGNORE = %s
if IGNORE:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("pid", os.getpid(), flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("pid", child.pid, flush=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("pid", os.getpid(), flush=True)
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {})
    os._exit(0)
os.makedirs("outputs", exist_ok=True)
open("outputs/begun.txt", "w").write("begun")
print("ready", flush=True)
time.sleep(600)
`;
const familyThat = (ignores: boolean) => family.replace('%s', ignores ? 'True' : 'False');

export function driverSuite<K extends ComputeKind>(
  name: string,
  prepare: (server: RealServer) => Promise<Tried<K>>,
  /** `own`: where nothing is outside this machine, or each call is cut short by a test of the kind itself. */
  cutShort: 'here' | 'own' = 'here',
  /** Where jobs reach the server, where that is not carried to them. */
  publicUrl?: string,
): void {
  describe(`jobs on ${name}`, () => {
    let server: RealServer;
    let tried: Tried<K>;
    const jobs = () => tried.driver().jobs!;

    beforeAll(async () => {
      server = await RealServer.start(publicUrl);
      tried = await prepare(server);
    });
    afterAll(async () => {
      await tried?.end();
      await server?.[Symbol.asyncDispose]();
    });
    /** What a test left that failed is not held against the next. */
    afterEach(async ({ task }) => {
      if (task.result?.state === 'fail')
        for (const id of server.ordered) await jobs().cleanUp(tried.target, { id }).catch(console.error);
      server.ordered.clear();
    });

    async function until(what: () => Promise<unknown> | unknown, name: string, withinMs = 50_000): Promise<void> {
      for (const began = performance.now(); performance.now() - began < withinMs; await pause(50))
        if (await what()) return;
      throw new Error(`${name} did not happen within ${withinMs} ms`);
    }
    const untilState = (order: JobOrder, ...states: RunState[]): Promise<Run> =>
      until(async () => states.includes((await server.run(order)).state), states.join(' or ')).then(
        () => server.run(order),
        async (error) => {
          throw new Error(`${error.message}: ${JSON.stringify(await server.run(order))}\n${await server.log(order)}`);
        },
      );
    const untilEnded = (handle: JobHandle) =>
      until(async () => (await jobs().look(tried.target, handle)).state === 'ended', 'the end of the runner');
    const untilPrinted = (order: JobOrder, text: string) =>
      until(async () => (await server.log(order)).includes(text), `the output ${text}`).catch(async (error) => {
        throw new Error(`${error.message}: ${JSON.stringify(await server.run(order))}`);
      });
    const pidsOf = async (order: JobOrder) =>
      [...(await server.log(order)).matchAll(/pid (\d+)\n/g)].map((match) => match[1]!);
    /** The ids of a whole family of processes, once it is there. */
    async function familyOf(order: JobOrder): Promise<string[]> {
      await untilPrinted(order, 'ready');
      await until(async () => (await pidsOf(order)).length === 3, 'the beginning of all processes');
      return pidsOf(order);
    }
    const alive = (pids: string[]) =>
      tried.alive?.(pids) ?? pids.filter((pid) => existsSync(`/proc/${pid}`) && !isZombie(pid));

    async function finished(order: JobOrder): Promise<Run> {
      const handle = await jobs().start(tried.target, order);
      const run = await untilState(order, ...endStates);
      await untilEnded(handle);
      await jobs().recover(tried.target, handle);
      await jobs().cleanUp(tried.target, handle);
      await jobs().cleanUp(tried.target, handle);
      return run;
    }

    test('a script runs to its end; its output, metrics and files arrive; nothing is left', async () => {
      const order = await server.order(
        'import os\nprint("hello from", os.getcwd())\nos.makedirs("outputs", exist_ok=True)\nopen("outputs/model.bin", "w").write("x")\n',
      );
      expect(await finished(order)).toMatchObject({ state: 'completed', exitCode: 0 });
      expect(await server.log(order)).toContain('hello from');
      expect(await server.files(order)).toContain('outputs/model.bin');
      expect(await tried.leftovers()).toEqual([]);
    });

    test('a script that fails fails its run with its code and its last lines', async () => {
      const run = await finished(await server.order('import sys\nprint("so close", file=sys.stderr)\nsys.exit(7)\n'));
      expect(run).toMatchObject({ state: 'failed', exitCode: 7 });
      expect(run.lastLines?.join('\n')).toContain('so close');
    });

    test('output is there while the script runs', async () => {
      const order = await server.order('import time\nprint("early", flush=True)\ntime.sleep(600)\n');
      const handle = await jobs().start(tried.target, order);
      await untilPrinted(order, 'early');
      expect((await server.run(order)).state).toBe('running');
      await jobs().cancel(tried.target, handle, 'kill');
      await jobs().cleanUp(tried.target, handle);
      expect(await tried.leftovers()).toEqual([]);
    });

    test('a second start finds the first, by another life of the service too', async () => {
      const order = await server.order('import os, time\nprint("once", flush=True)\ntime.sleep(2)\n');
      const handle = await jobs().start(tried.target, order);
      expect(await jobs().start(tried.target, order)).toEqual(handle);
      await untilState(order, 'completed');
      await untilEnded(handle);
      expect((await server.log(order)).match(/once/g)).toHaveLength(1);
      await jobs().cleanUp(tried.target, handle);
    });

    test('asked to stop, the runner stops its script and all that it started, delivers its outputs and leaves', async () => {
      const order = await server.order(familyThat(false));
      const handle = await jobs().start(tried.target, order);
      const pids = await familyOf(order);
      await server.cancel(order);
      await jobs().cancel(tried.target, handle, 'ask');
      expect(await untilState(order, ...endStates)).toMatchObject({ state: 'canceled' });
      await untilEnded(handle);
      expect(alive(pids)).toEqual([]);
      expect(await server.files(order)).toContain('outputs/begun.txt');
      await jobs().cleanUp(tried.target, handle);
      expect(await tried.leftovers()).toEqual([]);
    });

    test('a script that ignores SIGTERM is killed after its grace period', async () => {
      const order = await server.order(familyThat(true));
      const handle = await jobs().start(tried.target, order);
      const pids = await familyOf(order);
      await server.cancel(order);
      await jobs().cancel(tried.target, handle, 'ask');
      await untilState(order, 'canceled');
      await untilEnded(handle);
      expect(alive(pids)).toEqual([]);
      await jobs().cleanUp(tried.target, handle);
    });

    test('killed, a job leaves no process, not even one that forked twice, left the session and cleared its environment', async () => {
      const order = await server.order(familyThat(true));
      const handle = await jobs().start(tried.target, order);
      const pids = await familyOf(order);
      await jobs().cancel(tried.target, handle, 'kill');
      expect(await jobs().look(tried.target, handle)).toMatchObject({ state: 'ended' });
      await until(() => alive(pids).length === 0, 'the end of all processes');
      await jobs().recover(tried.target, handle);
      expect(await server.files(order)).toContain('outputs/begun.txt');
      await jobs().cleanUp(tried.target, handle);
      expect(await tried.leftovers()).toEqual([]);
    });

    if (cutShort === 'here')
      test('a service that is killed before or after any of its calls to the target starts a job once, ends it, and leaves nothing', async () => {
        for (let number = 1, goesOn = true; goesOn; number++) {
          const dies = async (act: (jobs: RunsJobs<K>) => Promise<unknown>) => {
            const last = new LastCall(number);
            const died = (error: Error) => error.message === 'killed' || Promise.reject(error);
            return act(tried.dying!(last))
              .then(() => false, died)
              .finally(() => last.end());
          };
          const forgotten = await server.order('print("never", flush=True)\n');
          const began = await dies((dying) => dying.start(tried.target, forgotten));
          await jobs().cleanUp(tried.target, { id: forgotten.id });
          expect(await tried.leftovers()).toEqual([]);
          const order = await server.order('import time\nprint("once", flush=True)\ntime.sleep(600)\n');
          await dies((dying) => dying.start(tried.target, order));
          const handle = await jobs().start(tried.target, order);
          await untilPrinted(order, 'once');
          const canceled = await dies((dying) => dying.cancel(tried.target, handle, 'kill'));
          await jobs().cancel(tried.target, handle, 'kill');
          await untilEnded(handle);
          expect((await server.log(order)).match(/once/g)).toHaveLength(1);
          const cleaned = await dies((dying) => dying.cleanUp(tried.target, handle));
          await jobs().cleanUp(tried.target, handle);
          expect(await tried.leftovers()).toEqual([]);
          goesOn = began || canceled || cleaned;
        }
      });

    test('what was never started is looked after and cleaned up without harm', async () => {
      const order = await server.order('print(1)\n');
      await jobs().cleanUp(tried.target, { id: order.id });
      const run = await finished(order);
      expect(run.state).toBe('completed');
    });
  });
}

function isZombie(pid: string): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}
