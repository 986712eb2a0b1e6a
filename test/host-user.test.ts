// The host of a server that others can reach: attached by the administrator only, and then its runs are executed under ids of
// another Unix user, each under its own, which can read neither the data folder nor another run. Making that user needs root.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { freePort } from './ports.ts';
import { processesWith } from './processes.ts';
import { pythonSignals } from './signals.ts';
import { submit } from './submission.ts';
import { until, untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const isRoot = process.getuid?.() === 0;
const workspace = 'story';
/** Hyphens and small letters only, as useradd wants it. */
const user = `stellwerk-${process.pid}`;
const without = `${user}-bare`;

/** Says what it can reach, waits in the middle, and leaves an output. */
const curious = `${pythonSignals}
import json, sys

def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__

name, data, others = sys.argv[1], sys.argv[2], sys.argv[3:]
os.makedirs("outputs", exist_ok=True)
with open("outputs/it.txt", "w") as file:
    file.write(name)
tell(name, json.dumps({"uid": os.getuid(), "groups": os.getgroups(), "folder": os.path.dirname(os.getcwd()), "pid": os.getpid()}))
wait("both are there")
found = {"data": attempt(lambda: os.listdir(data)), "key": attempt(lambda: open(os.path.join(data, "master.key")))}
found["runs"] = attempt(lambda: os.listdir(os.path.dirname(os.path.dirname(os.getcwd()))))
for other in others:
    with open(os.path.join(os.environ["STORY"], other)) as file:
        there = json.load(file)
    found["folder"] = attempt(lambda: os.listdir(there["folder"]))
    found["job"] = attempt(lambda: open(os.path.join(there["folder"], "job.json")))
    found["environment"] = attempt(lambda: open("/proc/%d/environ" % there["pid"]).read())
    found["signal"] = attempt(lambda: os.kill(there["pid"], 0))
print(json.dumps(found), flush=True)
tell("over " + name)
wait("both are over")
`;

/** Tries to change what later runs use, and says what came of it, with where it looked. */
const poisoning = `
import glob, fcntl, importlib, json, os, sys
import six

def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__

environment = sys.prefix
environments = os.path.dirname(environment)
cache = os.path.dirname(environments)
packages = os.path.dirname(six.__file__)
place = os.path.dirname(os.getcwd())
tried = {
    "change a package": lambda: open(six.__file__, "a"),
    "change its compiled form": lambda: open(six.__cached__, "ab"),
    "add a module": lambda: open(os.path.join(packages, "sitecustomize.py"), "w"),
    "replace the Python": lambda: os.unlink(os.path.join(environment, "bin", "python")),
    "add a program": lambda: open(os.path.join(environment, "bin", "uv"), "w"),
    "change rights": lambda: os.chmod(packages, 0o777),
    "call it incomplete": lambda: os.unlink(os.path.join(environment, ".stellwerk.json")),
    "move it away": lambda: os.rename(environment, environment + ".old"),
    "add an environment": lambda: os.mkdir(os.path.join(environments, "another")),
    "list environments": lambda: os.listdir(environments),
    "hold the lock": lambda: fcntl.flock(open(environment + ".lock"), fcntl.LOCK_EX),
    "see downloads": lambda: os.listdir(os.path.join(cache, "uv-cache")),
    "add to downloads": lambda: open(os.path.join(cache, "uv-cache", "x"), "w"),
    "replace uv": lambda: open(os.path.join(os.path.dirname(cache), "uv"), "ab"),
    "add a cache": lambda: os.mkdir(os.path.join(cache, "x")),
    "take the place": lambda: os.mkdir(os.path.join(os.path.dirname(cache), "x")),
}
found = {name: attempt(act) for name, act in tried.items()}
indexes = json.load(open(os.path.join(place, "job.json")))["indexes"]
print(json.dumps({"uid": os.getuid(), "owner": os.stat(environment).st_uid, "environment": environment, "found": found, "indexes": indexes,
    "compiled": os.path.exists(six.__cached__), "own": sorted(set(os.listdir(place)) & {"cache", ".cache", "private"})}), flush=True)
`;

interface Poisoning {
  uid: number;
  owner: number;
  environment: string;
  found: Record<string, string>;
  indexes: unknown;
  compiled: boolean;
  own: string[];
}

describe.skipIf(!isRoot)('the host of a server that others can reach (needs root to make a Unix user)', () => {
  let installation: Installation;
  beforeAll(async () => {
    execFileSync('useradd', ['--system', '--no-create-home', '--add-subids-for-system', user], { stdio: 'ignore' });
    execFileSync('useradd', ['--system', '--no-create-home', without], { stdio: 'ignore' });
    installation = await Installation.start(['--listen', '0.0.0.0']);
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
    for (const name of [user, without]) execFileSync('userdel', [name], { stdio: 'ignore' });
    expect(readFileSync('/etc/subuid', 'utf8')).not.toContain(user);
  });
  const attach = (settings: { user?: string; maxConcurrentRuns?: number }) =>
    installation.client.compute.attach({ workspace, name: 'host', settings: { kind: 'host', ...settings } });

  test('is not there by itself, and nothing is submitted to it', async () => {
    const { items } = await installation.client.compute.list({ workspace });
    expect(items.map(({ name }) => name)).toEqual(['local']);
    const folder = workFolder(installation.folder, { 'main.py': 'print("never")' });
    const args = ['run', 'submit', folder, '--script', 'main.py', '--target', 'host'];
    const refused = await installation.cli(args);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('There is no compute target host');
  });

  test('is attached by an administrator, with a user that keeps runs apart, or refused with what to do', async () => {
    await expect(attach({})).rejects.toMatchObject({ reason: 'compute.host-isolation' });
    const { signIn } = await installation.client.users.create({ name: 'olga' });
    const { token } = await installation.client.signIns.redeem({ code: signIn!.code });
    await installation.client.members.set({ workspace, user: 'olga', role: 'owner' });
    const asOlga = installation.clientWith(token);
    const settings = { kind: 'host' as const, user };
    await expect(asOlga.compute.attach({ workspace, name: 'host', settings })).rejects.toMatchObject({
      reason: 'access.administrator-needed',
    });
    await expect(attach({ user: 'root' })).rejects.toThrow('root is root');
    await expect(attach({ user: 'nobody-at-all' })).rejects.toThrow('There is no Unix user nobody-at-all');
    await expect(attach({ user: without })).rejects.toThrow('has no subordinate ids');
    await expect(attach({ user })).rejects.toThrow(`cannot reach ${installation.folder}`);
    chmodSync(installation.folder, 0o711); // as /var/lib is
    chmodSync(join(installation.folder, 'data'), 0o755);
    await expect(attach({ user })).rejects.toThrow('can enter the data folder');
    chmodSync(join(installation.folder, 'data'), 0o700);
    expect(await attach({ user, maxConcurrentRuns: 2 })).toMatchObject({ name: 'host', state: 'usable' });
    const probed = await installation.client.compute.probe({ workspace, target: 'host' });
    expect(probed.usable, JSON.stringify(probed.findings)).toBe(true);
  });

  test('executes each run under an id of its own, which reaches neither the data folder nor another run', async () => {
    const place = workFolder(installation.folder, {});
    chmodSync(place, 0o777);
    const data = join(installation.folder, 'data');
    const named = ['first', 'second'];
    const runs: Run[] = [];
    for (const name of named)
      runs.push(
        await submit(installation, {
          code: curious,
          arguments: [name, data, ...named.filter((other) => other !== name)],
          environment: { userManaged: true },
          environmentVariables: { STORY: place },
        }),
      );
    const signal = (name: string) => execFileSync('touch', [join(place, name)]);
    const heard = (name: string) => until(`${name} is heard`, () => existsSync(join(place, name)));
    for (const name of named) await heard(name);
    signal('both are there');
    for (const name of named) await heard(`over ${name}`);
    signal('both are over');
    const uids = named.map(
      (name) => JSON.parse(readFileSync(join(place, name), 'utf8')) as { uid: number; groups: number[] },
    );
    expect(new Set([0, process.getuid!(), ...uids.map(({ uid }) => uid)]).size).toBe(3);
    for (const { groups } of uids) expect(groups).not.toContain(0);
    const denied = 'PermissionError';
    for (const [number, run] of runs.entries()) {
      const one = { workspace, run: run.id };
      const ended = await untilEnded({ client: installation.client, ...one });
      expect(ended, ended.reason).toMatchObject({ state: 'completed' });
      const printed = await (await installation.client.logs.get(one)).text();
      expect(JSON.parse(printed)).toEqual({
        data: denied,
        key: denied,
        runs: denied,
        folder: denied,
        job: denied,
        environment: denied,
        signal: denied,
      });
      const output = await installation.client.runs.getFile({ ...one, path: 'outputs/it.txt' });
      expect(await output.text()).toBe(named[number]);
    }
    const isolated = join(installation.folder, 'data-runs');
    await until('nothing of the runs is left', () => readdirSync(isolated).length === 0);
    expect(processesWith(isolated)).toEqual([]);
  });

  test('builds an environment once, for runs at the same time and for later ones, none of which can change it', async () => {
    const submission = { code: poisoning, environment: { requirements: ['six==1.16.0'] } };
    const { client } = installation;
    const ended = async ({ id }: Run) => {
      const run = await untilEnded({ client, workspace, run: id });
      expect(run, run.reason).toMatchObject({ state: 'completed' });
      return JSON.parse(await (await client.logs.get({ workspace, run: id })).text()) as Poisoning;
    };
    const builds = async ({ id }: Run) => {
      const { items } = await client.activities.list({ workspace, subject: id });
      const log = await client.activities.getLog({ workspace, activity: items[0]!.id });
      return (await log.text()).match(/The environment was built/g)?.length ?? 0;
    };
    const atOnce = [await submit(installation, submission), await submit(installation, submission)];
    const found = [await ended(atOnce[0]!), await ended(atOnce[1]!)];
    const later = await submit(installation, submission);
    found.push(await ended(later));
    const numbers = await Promise.all([...atOnce, later].map(builds));
    expect([...numbers.slice(0, 2).sort(), numbers[2]]).toEqual([0, 1, 0]);
    expect(new Set(found.map(({ environment }) => environment)).size).toBe(1);
    for (const one of found) {
      expect(one).toMatchObject({ indexes: { environment: {} }, compiled: true, own: [] });
      expect(one.owner).toBe(found[0]!.owner);
      expect([0, one.uid]).not.toContain(one.owner);
      for (const [name, came] of Object.entries(one.found)) expect(came, name).toBe('PermissionError');
    }
    const isolated = join(installation.folder, 'data-runs');
    await until('only environments are left', () => readdirSync(isolated).join() === 'environments');
  });

  test('builds a package that has no wheel in a box, once for all runs', async () => {
    const submission = {
      code: 'import docopt, sys; print(docopt.__version__, sys.prefix)',
      environment: { requirements: ['docopt==0.6.2'] },
    };
    const { client } = installation;
    const printed: string[] = [];
    const told: string[] = [];
    for (const { id } of [await submit(installation, submission), await submit(installation, submission)]) {
      const run = await untilEnded({ client, workspace, run: id });
      expect(run, run.reason).toMatchObject({ state: 'completed' });
      printed.push(await (await client.logs.get({ workspace, run: id })).text());
      const { items } = await client.activities.list({ workspace, subject: id });
      told.push(await (await client.activities.getLog({ workspace, activity: items[0]!.id })).text());
    }
    expect(printed[0]).toMatch(/^0\.6\.2 .*\/environments\//);
    expect(printed[1]).toBe(printed[0]);
    expect(told.filter((log) => log.includes('it is built in a box'))).toHaveLength(1);
  });

  test('fails a run whose environment cannot be made, with the reason, and leaves nothing of it', async () => {
    const lock = `six==1.16.0 --hash=sha256:${'0'.repeat(64)}\n`;
    const { id } = await submit(installation, { environment: { lockFile: 'lock.txt' }, files: { 'lock.txt': lock } });
    const run = await untilEnded({ client: installation.client, workspace, run: id });
    expect(run.state).toBe('failed');
    expect(run.reason).toMatch(/^The run could not be prepared: It was not possible to install the packages/);
    expect(run.reason).toContain('six');
    const isolated = join(installation.folder, 'data-runs');
    await until('only environments are left', () => readdirSync(isolated).join() === 'environments');
  });
});

describe.skipIf(!isRoot)('a server behind a public address (needs root to make a Unix user)', () => {
  const other = `${user}-b`;
  test('has its host report on the machine itself, not by way of that address', async () => {
    execFileSync('useradd', ['--system', '--no-create-home', '--add-subids-for-system', other], { stdio: 'ignore' });
    const port = await freePort();
    const byTheWay: string[] = [];
    await using proxy = createServer((request, response) => {
      if (request.headers.authorization?.includes('swr_')) byTheWay.push(request.url!);
      const { method, headers, url } = request;
      const onward = httpRequest({ host: '127.0.0.1', port, method, headers, path: url }, (answer) => {
        answer.pipe(response.writeHead(answer.statusCode!, answer.headers));
      });
      request.pipe(onward);
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const publicUrl = `http://localhost:${(proxy.address() as AddressInfo).port}`;
    try {
      await using installation = await Installation.start(['--public-url', publicUrl, '--port', port]);
      chmodSync(installation.folder, 0o711);
      await installation.client.compute.attach({ workspace, name: 'host', settings: { kind: 'host', user: other } });
      const run = await submit(installation, { code: 'print("here")', environment: { userManaged: true } });
      const ended = await untilEnded({ client: installation.client, workspace, run: run.id });
      expect(ended, ended.reason).toMatchObject({ state: 'completed' });
      expect(byTheWay).toEqual([]);
    } finally {
      execFileSync('userdel', [other], { stdio: 'ignore' });
    }
  });
});
