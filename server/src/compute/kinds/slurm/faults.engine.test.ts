import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { whyNoSlurm } from '../../../../../test/engines/slurm/packages.ts';
import { clockOffBy, whyNoWrongClock } from '../../../../../test/wrong-clock/wrong-clock.ts';
import type { JobHandle, JobOrder, JobState, Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import type { SlurmJobs } from './jobs.ts';
import { leftoversOn, type OnCluster, onCluster, targetOn } from './slurm.fixture.ts';

/** Prints a line now and then until it is told that it is enough; the last one says how many there were. */
const talkative = `
import os, time
n = 0
while not os.path.exists("/srv/trainer/enough"):
    print("line", n, flush=True)
    n += 1
    time.sleep(0.02)
print("lines", n, flush=True)
`;
const sleeps = 'import time\nprint("ready", flush=True)\ntime.sleep(600)\n';
type Ended = Extract<JobState, { state: 'ended' }>;

describe.skipIf(whyNoSlurm)(`faults of a Slurm cluster${whyNoSlurm ? ` (${whyNoSlurm})` : ''}`, () => {
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

  /** A test that fails leaves nothing to the next. */
  afterEach(() => {
    there.cluster.shell(
      'for user in trainer alice; do scancel -u $user; scancel -s KILL --full -u $user; done 2>/dev/null; true',
    );
    there.cluster.shell(
      'for try in $(seq 100); do [ -z "$(squeue -h)" ] && break; sleep 0.1; done; rm -rf /srv/*/.stellwerk/*/jobs/* /srv/small/filler',
    );
  });

  const jobs = () => there.driver().jobs;
  const on = (more: Partial<Target<'slurm'>['settings']>) => targetOn(there.cluster, more);
  async function until<T>(
    what: () => Promise<T | false | undefined> | T | false | undefined,
    name: string,
    withinMs = 180_000,
  ): Promise<T> {
    let last: unknown;
    for (const began = performance.now(); performance.now() - began < withinMs; await pause(200)) {
      try {
        const found = await what();
        if (found) return found;
      } catch (error) {
        last = error;
      }
    }
    const told = there.cluster.shell(
      'squeue -a -t all; cat /srv/*/.stellwerk/*/jobs/*/runner.log; tail -n 20 /var/log/slurmctld.log || true',
    );
    throw new Error(`${name} did not happen: ${told}`, { cause: last });
  }
  const printed = (order: JobOrder, text: string) =>
    until(async () => (await server.log(order)).includes(text), `the output ${text}`);
  async function completed(order: JobOrder): Promise<void> {
    const run = await until(() => server.ended(order), 'the end of the run');
    expect(run, run.reason).toMatchObject({ state: 'completed' });
  }
  const ended = (handle: JobHandle, target = there.target): Promise<Ended> => {
    const driver = there.driver();
    return until(async () => {
      const state = await driver.jobs.look(target, handle);
      return state.state === 'ended' && state;
    }, 'the end');
  };
  async function order(
    script: string,
    resources: Partial<JobOrder['job']['resources']> = {},
    more: object = {},
  ): Promise<JobOrder> {
    const made = await server.order(script);
    Object.assign(made.job.resources, resources);
    Object.assign(made.job.configuration, more);
    return made;
  }
  async function begun(made: JobOrder, target = there.target): Promise<JobHandle> {
    const handle = await jobs().start(target, made);
    await printed(made, 'ready');
    return handle;
  }
  async function nothingLeft(handle: JobHandle, target = there.target): Promise<void> {
    await jobs().recover(target, handle);
    await jobs().cleanUp(target, handle);
    expect(leftoversOn(there.cluster)).toEqual([]);
  }

  test('runs that wait tell their place and why, and begin when there is room', async () => {
    const [first, second] = await Promise.all([order('print(1)', { cpus: 4 }), order('print(1)', { cpus: 4 })]);
    const fillers = there.cluster
      .shell(
        'for n in 0 1 2; do runuser -u alice -- sbatch --parsable --chdir=/tmp -o /dev/null --cpus-per-task=4 --wrap "sleep 600"; done',
      )
      .trim()
      .split('\n');
    await until(
      () => there.cluster.shell('squeue -h -t RUNNING -o %A').trim().split('\n').length === 3,
      'a full cluster',
    );
    const handles = [await jobs().start(there.target, first), await jobs().start(there.target, second)];
    const driver = there.driver();
    const seen = () => Promise.all(handles.map((handle) => driver.jobs.look(there.target, handle)));
    await until(
      async () => (await seen()).every((state) => state.state === 'waiting' && /Resources|Priority/.test(state.reason)),
      'both reasons',
    );
    const [one, other] = (await seen()) as Extract<JobState, { state: 'waiting' }>[];
    expect(one).toMatchObject({
      state: 'waiting',
      reason: 'Waits until enough of the cluster is free (Resources).',
      position: 1,
    });
    expect(other).toMatchObject({
      state: 'waiting',
      reason: 'Jobs of a higher priority come first (Priority).',
      position: 2,
    });
    expect(one!.facts?.id).toMatch(/^\d+$/);
    await jobs().cancel(there.target, handles[1]!, 'ask'); // it waits: there is no runner to be asked
    expect(await ended(handles[1]!)).toMatchObject({ cause: 'canceled' });
    there.cluster.shell(`scancel ${fillers.join(' ')}`);
    await completed(first);
    for (const handle of handles) await jobs().cleanUp(there.target, handle);
  });

  test('what a run took is told as Slurm accounts for it, and which node it had', async () => {
    const made = await order(
      'import time\ntaken = bytearray(150_000_000)\nuntil = time.time() + 3\nwhile time.time() < until: pass\nraise SystemExit(3)',
    );
    const handle = await jobs().start(there.target, made);
    await until(async () => (await server.run(made)).state === 'failed', 'the end of the run');
    const state = await until(async () => {
      const now = await ended(handle);
      return now.usage?.peakMemoryBytes !== undefined && now;
    }, 'the accounts');
    expect(state.usage!.peakMemoryBytes).toBeGreaterThan(150_000_000);
    expect(state.usage!.cpuSeconds).toBeGreaterThan(1);
    expect(state.usage!.exitCode).toBe(0); // that of the runner, which delivered all
    expect(state.facts?.nodes).toEqual([expect.stringMatching(/^node\d$/)]);
    await nothingLeft(handle);
  });

  test('a run whose place is taken by others was preempted', async () => {
    const target = on({ partition: 'scavenge' });
    const handle = await begun(await order(sleeps, { cpus: 4 }), target);
    const taker = there.cluster
      .shell('runuser -u alice -- sbatch --parsable --chdir=/tmp -o /dev/null -N3 --cpus-per-task=4 --wrap "sleep 600"')
      .trim();
    expect(await ended(handle, target)).toMatchObject({
      cause: 'preempted',
      reason: expect.stringContaining('PREEMPTED'),
    });
    there.cluster.shell(`scancel ${taker}`);
    await nothingLeft(handle, target);
  });

  test('a run is warned ahead of the time limit of the cluster, and ended by it', async () => {
    const script =
      'import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: print("warned", flush=True))\nprint("ready", flush=True)\nwhile True: time.sleep(1)\n';
    there.cluster.shell('scontrol create PartitionName=brief Nodes=node0 MaxTime=1 State=UP');
    const target = on({ partition: 'brief' });
    const made = await order(script, {}, { warning: { signal: 'USR1', seconds: 50 } });
    const handle = await begun(made, target);
    await printed(made, 'warned');
    expect(await ended(handle, target)).toMatchObject({ cause: 'time-limit' });
    expect((await server.run(made)).state).not.toBe('failed'); // the server learns why from the cluster
    await nothingLeft(handle, target);
    there.cluster.shell('scontrol delete PartitionName=brief');
  });

  test('a run that takes more memory than it was given ends for that', async () => {
    const script =
      'import time\nprint("ready", flush=True)\ntime.sleep(1)\ntaken = bytearray(600_000_000)\ntime.sleep(600)\n';
    const handle = await begun(await order(script, { memoryBytes: 200_000_000 }));
    expect(await ended(handle)).toMatchObject({ cause: 'out-of-memory' });
    await nothingLeft(handle);
  });

  test('a run that somebody cancels on the cluster is canceled', async () => {
    const handle = await begun(await order(sleeps));
    there.cluster.shell(`scancel --name ${handle.name}`);
    expect(await ended(handle)).toMatchObject({ cause: 'canceled', reason: expect.stringContaining('CANCELLED') });
    await nothingLeft(handle);
  });

  test('a run on a node that is switched off has lost it; what was written is delivered', async () => {
    const script = `import os\nos.makedirs("outputs", exist_ok=True)\nopen("outputs/early.txt", "w").write("early")\n${sleeps}`;
    const made = await order(script);
    const handle = await begun(made);
    const running = await jobs().look(there.target, handle);
    const [node] = running.facts!.nodes!;
    there.cluster.crashNode(node!);
    expect(await ended(handle)).toMatchObject({ cause: 'node-lost' });
    await jobs().recover(there.target, handle);
    expect(await server.files(made)).toContain('outputs/early.txt');
    there.cluster.bootNode(node!);
    await nothingLeft(handle);
  });

  /** The lines that it printed. */
  async function doneInSpiteOf(
    fault: (handle: JobHandle, jobs: SlurmJobs) => Promise<void>,
    target = there.target,
  ): Promise<string[]> {
    there.cluster.shell('rm -f /srv/trainer/enough');
    const made = await order(talkative);
    const driver = there.driver();
    const handle = await driver.jobs.start(target, made);
    await printed(made, 'line 10\n');
    await fault(handle, driver.jobs);
    const { length } = await server.log(made);
    const lookedAfter = (done: () => Promise<boolean>, name: string) =>
      until(async () => {
        await driver.jobs.look(target, handle).catch(() => {});
        return done();
      }, name);
    await lookedAfter(async () => (await server.log(made)).length > length + 100, 'more output');
    there.cluster.shell('touch /srv/trainer/enough');
    await lookedAfter(async () => (await server.ended(made)) !== undefined, 'the end of the run');
    await completed(made);
    await nothingLeft(handle, target);
    return (await server.log(made)).trim().split('\n');
  }

  async function wholeInSpiteOf(fault: (handle: JobHandle) => Promise<void>): Promise<void> {
    const lines = await doneInSpiteOf(fault);
    expect(lines.at(-1)).toBe(`lines ${lines.length - 1}`);
    expect(lines.slice(0, -1)).toEqual(lines.slice(0, -1).map((_, n) => `line ${n}`));
  }

  test('a link that is cut and mended costs a run nothing', () =>
    wholeInSpiteOf(async () => {
      there.cluster.cutLink();
      await pause(20_000); // longer than the connection and the run's lease hold
      there.cluster.mendLink();
    }));

  test('a controller that is killed and started again costs a run nothing', () =>
    wholeInSpiteOf(async () => {
      await pause(6_000); // it saves its state every five seconds: a job that it has forgotten leaves its number to the next
      there.cluster.shell('kill -9 $(cat /run/slurmctld.pid)');
      await pause(3_000);
      there.cluster.shell('slurmctld');
    }));

  test('a full disk refuses a run with the reason; one that gets full ends neither the script nor what it prints', async () => {
    const target = on({ folder: '/srv/small/.stellwerk' });
    const fill = 'dd if=/dev/zero of=/srv/small/filler bs=4k status=none || true';
    const made = await order('print(1)');
    there.cluster.shell(fill);
    const refused = { retry: 'never', message: expect.stringContaining('is full') };
    await expect(jobs().start(target, made)).rejects.toMatchObject(refused);
    there.cluster.shell('rm /srv/small/filler');
    const lines = await doneInSpiteOf(async (handle, jobs) => {
      there.cluster.shell(fill);
      await pause(3_000);
      expect(await jobs.look(target, handle)).toMatchObject({ state: 'running' });
      await expect(jobs.start(target, made)).rejects.toMatchObject(refused);
      there.cluster.shell('rm /srv/small/filler');
      await jobs.cleanUp(target, { id: made.id });
    }, target);
    expect(lines.at(-1)).toMatch(/^lines \d+$/);
  });

  test('nodes without the Python that the target names fail a run, which is told what to do', async () => {
    there.cluster.shell('ln -sf /usr/bin/python3 /tmp/python3'); // every machine has a /tmp of its own
    const target = on({ python: '/tmp/python3' });
    const handle = await jobs().start(target, await order('print(1)'));
    expect((await ended(handle, target)).reason).toMatch(
      /\/tmp\/python3 cannot be started on node\d: install Python 3\.8/,
    );
    await jobs().cleanUp(target, handle);
    expect(leftoversOn(there.cluster)).toEqual([]);
  });

  test.skipIf(whyNoWrongClock !== '').each([1, -1])(
    `a clock that is off by %d h costs a run nothing${whyNoWrongClock && ` (${whyNoWrongClock})`}`,
    async (hours) => {
      const target = on({ setUp: Object.entries(clockOffBy(hours)).map((one) => `export ${one.join('=')}`) });
      const made = await order(
        'import time\nfrom stellwerk.core import Run\nRun.get_context().log("loss", 0.5)\nprint("at", time.time())\n',
      );
      const handle = await jobs().start(target, made);
      await completed(made);
      const at = Number((await server.log(made)).split(' ')[1]);
      expect(Math.abs(at - Date.now() / 1_000)).toBeGreaterThan(3_000);
      await nothingLeft(handle, target);
    },
  );

  test('whoever looks in is on the node of the script and has its folder and environment; he leaves with it, or when nobody hears him', async () => {
    const target = on({ setUp: ['echo "set up"; export FROM_SETUP=there'] });
    const made = await order(`
import http.server, os, threading
open("own.txt", "w").write("of the script")
web = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=web.serve_forever).start()
print("port", web.server_port, "on", os.uname().nodename, flush=True)
`);
    const handle = await jobs().start(target, made);
    await printed(made, ' on node');
    const [, port, node] = /port (\d+) on (node\d)/.exec(await server.log(made))!;
    const beside = (words: string[]) => jobs().beside(target, handle, words);
    const seen = await beside([
      'exec',
      '--',
      'sh',
      '-c',
      `echo "$(cat) $(cat own.txt) $FROM_SETUP $(hostname)"; exit 3`,
    ]);
    seen.end('heard');
    const frames = await text(seen);
    expect(frames).toContain(`heard of the script there ${node}`);
    expect(frames).not.toContain('set up');
    expect(frames.at(-1)).toBe('3');
    const page = await beside(['connect', port!]);
    page.write('GET /own.txt HTTP/1.0\r\n\r\n');
    expect(await text(page)).toMatch(/^HTTP.1.0 200.*of the script$/s);
    const looking = () => there.cluster.processes().filter((line) => /runner\.(beside|login_node)|sleep/.test(line));
    const unheard = await beside(['exec', '--', 'sleep', '500']);
    await until(() => looking().some((line) => line === 'sleep 500'), 'the program');
    unheard.destroy();
    await until(() => looking().length === 0, 'the end of what nobody hears');
    const last = await beside(['exec', '--', 'sleep', '500']);
    await until(() => looking().some((line) => line === 'sleep 500'), 'the program');
    await jobs().cancel(target, handle, 'kill');
    await text(last);
    await nothingLeft(handle, target);
  });

  test('a job that was submitted twice has one runner', async () => {
    there.cluster.shell('rm -f /srv/trainer/enough');
    const made = await order(talkative);
    const handle = await jobs().start(there.target, made);
    await printed(made, 'line 10\n');
    const twin = there.cluster
      .shell(
        `runuser -u trainer -- sbatch --parsable --chdir=/tmp -o /dev/null --job-name=${handle.name} ${handle.folder}/batch.sh`,
      )
      .trim();
    await until(
      () => /COMPLETED/.test(there.cluster.shell(`squeue -h -t all -j ${twin} -o %T`)),
      'the end of the twin',
    );
    expect(await jobs().look(there.target, handle)).toMatchObject({ state: 'running' });
    expect(there.cluster.processes().filter((line) => line.endsWith(`stellwerk.runner ${handle.folder}`))).toHaveLength(
      1,
    );
    there.cluster.shell('touch /srv/trainer/enough');
    await completed(made);
    await nothingLeft(handle);
  });

  test('what the cluster refuses fails for good with its words', async () => {
    const made = await order('print(1)');
    for (const [more, words] of [
      [{ partition: 'gone' }, 'Invalid partition'],
      [{ constraint: 'unknown' }, 'Invalid feature'],
      [{ reservation: 'nobody' }, 'reservation'],
    ] as const)
      await expect(jobs().start(on(more), made)).rejects.toMatchObject({
        retry: 'never',
        message: expect.stringContaining(words),
      });
    there.cluster.shell('kill $(cat /run/slurmctld.pid)');
    await expect(jobs().start(there.target, made)).rejects.toMatchObject({ retry: 'later' });
    there.cluster.shell('sleep 1; slurmctld');
    await until(() => there.cluster.tried('scontrol ping').stdout.includes('UP'), 'the controller');
    await jobs().cleanUp(there.target, { id: made.id });
    expect(leftoversOn(there.cluster)).toEqual([]);
  });

  test('partition, features, further options and lines of set-up reach the job', async () => {
    const target = on({ constraint: 'with-gpu', sbatch: ['--comment=from us'], setUp: ['export FROM_SETUP="set up"'] });
    const made = await order(
      'import os, time\nprint("has", os.environ["FROM_SETUP"], os.environ["CUDA_VISIBLE_DEVICES"], os.uname().nodename, flush=True)\ntime.sleep(3)\n',
      { gpus: 1, gpuType: 'a100' },
    );
    const handle = await jobs().start(target, made);
    await printed(made, 'has set up 0 node0');
    expect(there.cluster.shell(`scontrol show job -o $(squeue -h -n ${handle.name} -o %A)`)).toMatch(
      /Features=with-gpu.*Comment=from us/s,
    );
    await completed(made);
    await nothingLeft(handle, target);
  });

  test("each user's jobs run as that user, with the key of that user; others are refused where the target says so", async () => {
    const users = { ada: { user: 'alice', key: 'alice-key' } };
    const target = on({ users, othersMay: false });
    const made = { ...(await order('import getpass\nprint("as", getpass.getuser(), flush=True)')), user: 'ada' };
    const handle = await jobs().start(target, made);
    expect(handle).toMatchObject({ user: 'ada', folder: expect.stringContaining('/srv/alice/') });
    await completed(made);
    expect(await server.log(made)).toContain('as alice');
    await nothingLeft(handle, target);
    const other = { ...(await order('print(1)')), user: 'ben' };
    await expect(jobs().start(target, other)).rejects.toMatchObject({
      retry: 'never',
      message: expect.stringContaining('no sign-in for ben'),
    });
    const allowed = on({ users });
    const own = await jobs().start(allowed, other);
    expect(own.folder).toContain('/srv/trainer/');
    await jobs().cleanUp(allowed, own);
  });

  test('compute nodes have no way to the server but the relay, which knows its own and leads nowhere else', async () => {
    const made = await order(sleeps);
    const handle = await begun(made);
    const { hostname, port } = new URL(server.url);
    const route = there.cluster.nodeShell(
      'node0',
      `ip route get ${there.cluster.address} 2>&1; ip route get ${hostname === '127.0.0.1' ? '10.99.99.99' : hostname} 2>&1 || true`,
    );
    expect(route).toContain('unreachable');
    expect(there.cluster.tried(`curl -s -m 3 http://127.0.0.1:${port}/`).status).not.toBe(0);
    const [file] = there.cluster.shell('ls /srv/trainer/.stellwerk/*/relay/*.json').trim().split('\n');
    expect(there.cluster.shell(`stat -c %a ${file}`).trim()).toBe('600');
    const { port: relayPort, secret } = JSON.parse(there.cluster.shell(`cat ${file}`));
    const ask = (proof: string) =>
      there.cluster.nodeShell(
        'node1',
        `python3 -c 'import socket; s=socket.create_connection(("head", ${relayPort}), 5); s.recv(99); s.sendall(b"${'ab'.repeat(16)} ${proof}\\nGET / HTTP/1.0\\r\\n\\r\\n"); print(len(s.recv(99)))'`,
      );
    expect(ask('00'.repeat(32)).trim()).toBe('0');
    expect(ask(secret).trim()).toBe('0');
    const token = made.job.token.slice(0, 40);
    const shown = there.cluster.shell(
      `ps -eo args; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -v '^AZUREML_\\|^_='; cat ${handle.folder}/batch.sh ${handle.folder}/runner.log; scontrol show job; cat /var/log/slurm*.log`,
    );
    expect(shown).toContain(String(handle.name));
    expect(shown.includes(token)).toBe(false);
    expect(there.cluster.shell(`stat -c %a ${handle.folder} ${handle.folder}/job.json`).trim().split('\n')).toEqual([
      '700',
      '600',
    ]);
    await jobs().cancel(there.target, handle, 'kill');
    await nothingLeft(handle);
  });

  test('where compute nodes cannot connect to the login node a folder carries what they say, and nothing of it stays', async () => {
    const target = on({ wayBack: 'folder' });
    const made = await order(`
import os, sys
print("begun", flush=True)
os.makedirs("outputs", exist_ok=True)
open("outputs/large.bin", "wb").write(os.urandom(30_000_000))
sys.stdout.write("x" * 79 + "\\n" * 1)
sys.stdout.write(("y" * 79 + "\\n") * 50_000)
`);
    const handle = await jobs().start(target, made);
    await completed(made);
    expect((await server.log(made)).length).toBe(6 + 80 * 50_001);
    expect(await server.sizes(made)).toMatchObject({ 'outputs/large.bin': 30_000_000 });
    const file = there.cluster.shell('ls -t /srv/trainer/.stellwerk/*/relay/*.json | head -n 1').trim();
    expect(Object.keys(JSON.parse(there.cluster.shell(`cat ${file}`)))).toEqual(['folder']);
    await until(() => there.cluster.shell(`ls ${file}.*/`).trim() === '', 'an empty folder');
    await nothingLeft(handle, target);
  });

  test('two installations with the same target never meet, not even with runs of the same name', async () => {
    const made = await order(sleeps);
    const handle = await begun(made);
    await there.another().jobs.cleanUp(there.target, { id: made.id });
    expect(await jobs().look(there.target, handle)).toMatchObject({ state: 'running' });
    await jobs().cancel(there.target, handle, 'kill');
    await nothingLeft(handle);
  });

  test('nodes that are off are switched on for a run, which waits for them', async () => {
    const target = on({ partition: 'elastic' });
    const made = await order(sleeps);
    const driver = there.driver();
    const handle = await driver.jobs.start(target, made);
    await until(async () => {
      const state = await driver.jobs.look(target, handle);
      return state.state === 'waiting' && state.reason === 'Its nodes are being started.';
    }, 'the start of a node');
    await printed(made, 'ready');
    expect(await driver.jobs.look(target, handle)).toMatchObject({ state: 'running', facts: { nodes: ['cloud0'] } });
    await jobs().cancel(target, handle, 'kill');
    await nothingLeft(handle, target);
  });
});
