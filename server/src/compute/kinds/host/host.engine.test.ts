import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { wheelPath } from '../../../assets.ts';
import { configOf } from '../../../config.ts';
import { Environments } from '../../../environment/environments.ts';
import { run } from '../../../exec/programs.ts';
import { driverSuite } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { DockerDriver } from '../docker/docker.ts';
import { HostDriver, type HostNeeds } from './host.ts';

const isRoot = process.getuid?.() === 0;
/** Beside the system's own files, so that no test changes those. */
function idFiles(folder: string, line: string): NonNullable<HostNeeds['subordinateIds']> {
  const file = join(folder, 'subordinate-ids');
  writeFileSync(file, `${line}\n`);
  return { users: file, groups: file };
}

async function needsIn(folder: string): Promise<HostNeeds> {
  const config = configOf({ data: join(folder, 'data') });
  const environments = new Environments({
    cacheDir: join(config.cache, 'server'),
    inherited: config.packageEnvironment,
    indexes: () => ({}),
    box: { pythonPackage: (await wheelPath())!, hidden: [config.data] },
  });
  return {
    folder: join(folder, 'runs'),
    isolatedFolder: join(folder, 'isolated'),
    dataFolder: join(folder, 'data'),
    pythonPackage: (await wheelPath())!,
    cacheFolder: join(folder, 'cache'),
    inherited: config.packageEnvironment,
    uv: (watch) => environments.uv(watch),
  };
}

/** What executes runs in containers; these name no image. */
const noEngine = new DockerDriver({
  installation: 'suite',
  pythonPackage: 'none',
  secret: async () => '',
  connectHere: () => {
    throw new Error('nobody is there');
  },
});

async function tried(server: RealServer, settings: Target<'host'>['settings'], line?: string) {
  const needs = await needsIn(server.folder);
  const given = line === undefined ? needs : { ...needs, subordinateIds: idFiles(server.folder, line) };
  const folder = settings.user === undefined ? needs.folder : needs.isolatedFolder;
  return {
    driver: () => new HostDriver(given, noEngine),
    target: { workspace: 'suite', name: 'host', settings },
    leftovers: async () => readdirSync(folder),
    end: async () => {},
  };
}

driverSuite('the host', (server) => tried(server, { kind: 'host' }), 'own');

if (isRoot)
  driverSuite(
    'the host, under another Unix id for each run',
    async (server) => {
      // What lies in it is closed to others, but they may pass through.
      rmSync(join(server.folder, 'isolated'), { recursive: true, force: true });
      chmodSync(server.folder, 0o711);
      return tried(server, { kind: 'host', user: 'nobody' }, 'nobody:700000:1000');
    },
    'own',
  );

/** What one run tries to learn of another and of the server. */
const curious = (folder: string, pid: number, data: string) => `
import os
print("uid", os.getuid())
def tries(act):
    try:
        act()
        print("succeeded")
    except OSError as error:
        print("refused", type(error).__name__)
tries(lambda: open(${JSON.stringify(join(folder, 'job.json'))}))
tries(lambda: os.listdir(${JSON.stringify(folder)}))
tries(lambda: open("/proc/${pid}/environ").read())
tries(lambda: os.kill(${pid}, 0))
tries(lambda: os.listdir(${JSON.stringify(data)}))
`;

if (isRoot)
  test('under other Unix ids, no run reads the data folder, or the files, environment or processes of another run', async () => {
    await using server = await RealServer.start();
    chmodSync(server.folder, 0o711);
    const subject = await tried(server, { kind: 'host', user: 'nobody' }, 'nobody:700000:1000');
    const { jobs } = subject.driver();
    const secretive = await server.order('import time\nprint("here", flush=True)\ntime.sleep(600)\n');
    const first = await jobs!.start(subject.target, secretive);
    while (!(await server.log(secretive)).includes('here')) await pause(50);
    const nosy = await server.order(curious(String(first.folder), Number(first.pid), join(server.folder, 'data')));
    const second = await jobs!.start(subject.target, nosy);
    while ((await jobs!.look(subject.target, second)).state === 'running') await pause(50);
    const said = (await server.log(nosy)).trim().split('\n');
    expect(said).toEqual([`uid ${second.uid}`, ...new Array(5).fill('refused PermissionError')]);
    expect(second.uid).not.toBe(first.uid);
    for (const handle of [first, second]) {
      await jobs!.cancel(subject.target, handle, 'kill');
      await jobs!.cleanUp(subject.target, handle);
    }
    expect(await subject.leftovers()).toEqual([]);
  });

if (isRoot)
  test('under other Unix ids, making an environment ends at once when it is not wanted any more, and is made anew', async () => {
    await using server = await RealServer.start();
    chmodSync(server.folder, 0o711);
    const subject = await tried(server, { kind: 'host', user: 'nobody' }, 'nobody:700000:1000');
    const { jobs } = subject.driver();
    const order = await server.order('import six; print(six.__version__)', {
      environment: { requirements: ['six==1.16.0'] },
    });
    const unwanted = new AbortController();
    const told: string[] = [];
    const log = (line: string) => {
      told.push(line);
      unwanted.abort();
    };
    await expect(jobs!.start(subject.target, order, { log, signal: unwanted.signal })).rejects.toThrow('was canceled');
    expect(told.join(), 'it was ended in the middle').not.toContain('was built');
    await jobs!.cleanUp(subject.target, { id: order.id });
    expect(await subject.leftovers()).toEqual(['environments']);
    expect(await processesOf(700_999)).toBe('');
    const handle = await jobs!.start(subject.target, order, { log: (line) => told.push(line) });
    expect(told.join()).toContain('was built');
    while ((await jobs!.look(subject.target, handle)).state === 'running') await pause(50);
    expect(await server.log(order)).toBe('1.16.0\n');
    await jobs!.cleanUp(subject.target, handle);
    expect(await subject.leftovers()).toEqual(['environments']);
  });

const processesOf = async (uid: number) =>
  (await run({ command: 'ps', args: ['-u', String(uid), '-o', 'pid='] })).stdout;

describe('the host, probed', () => {
  let folder: string;
  let needs: HostNeeds;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'stellwerk-host-'));
    mkdirSync(join(folder, 'data'), { mode: 0o700 });
    needs = await needsIn(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const probe = (user: string | undefined, more: Partial<HostNeeds> = {}) =>
    new HostDriver({ ...needs, ...more }, noEngine).probe({
      workspace: 'w',
      name: 'host',
      settings: { kind: 'host', ...(user !== undefined && { user }) },
    });

  test('its Python is found', async () => {
    expect(await probe(undefined)).toMatchObject({ usable: true, findings: [{ what: 'python', ok: true }] });
  });

  test.each(
    isRoot
      ? [
          ['there is no such user', 'no-such-user', 'nobody:700000:1000', 'no Unix user'],
          ['it is root', 'root', 'root:700000:1000', 'is root'],
          ['it has no ids of its own', 'nobody', 'somebody:700000:1000', 'no subordinate ids'],
          ['its ids are nonsense', 'nobody', 'nobody:0:-5', 'no subordinate ids'],
          ['it cannot reach the place for its runs', 'nobody', 'nobody:700000:1000', 'cannot reach'],
        ]
      : [['the server is not root', 'nobody', 'nobody:700000:1000', 'runs as root']],
  )('another user is refused if %s', async (_, user, line, why) => {
    const { usable, findings } = await probe(user, { subordinateIds: idFiles(folder, line) });
    expect(usable).toBe(false);
    expect(findings.find(({ ok }) => !ok)).toMatchObject({ what: 'isolation' });
    expect(findings.find(({ ok }) => !ok)?.detail).toContain(why);
  });

  if (isRoot)
    test('another user is accepted that can reach its runs and not the data folder', async () => {
      const subordinateIds = idFiles(folder, 'nobody:700000:1000');
      chmodSync(folder, 0o711);
      expect(await probe('nobody', { subordinateIds })).toMatchObject({ usable: true });
      chmodSync(join(folder, 'data'), 0o755);
      const { findings } = await probe('nobody', { subordinateIds });
      expect(findings[0]?.detail).toContain('can enter the data folder');
      chmodSync(join(folder, 'data'), 0o700);
      chmodSync(folder, 0o700);
      expect(statSync(folder).mode & 0o777).toBe(0o700);
    });
});
