import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { processesMarked } from '../../../exec/processes.ts';
import { type Isolation, isolationHere } from '../../../exec/sandbox.ts';
import { makeTestRoot } from '../../../exec/test-root.ts';
import { type HostReplica, HostServices, markOf } from './services.ts';

const here = await isolationHere();
const kinds: Isolation[] = here === 'namespace' ? ['namespace', 'none'] : ['none'];
let rootPath = '';
const folder = mkdtempSync(join(tmpdir(), 'stellwerk-replicas-'));
const started: HostReplica[] = [];

beforeAll(async () => {
  rootPath = await makeTestRoot();
});
afterAll(() => {
  for (const path of [rootPath, folder]) rmSync(path, { recursive: true, force: true });
});
afterEach(async () => {
  const services = new HostServices({ folder, isolation: isolationHere });
  for (const handle of started.splice(0)) {
    await services.stop(handle, 0);
    await services.cleanUp(handle);
  }
});

let count = 0;
const newId = () => `replica-${process.pid}-${++count}`;

describe.each(kinds)('a replica with isolation %s', (isolation) => {
  const services = new HostServices({ folder, isolation: async () => isolation, logPartBytes: 10_000 });

  async function start(code: string, id = newId()): Promise<HostReplica> {
    const handle = await services.start({
      id,
      rootPath,
      command: ['python3', '-u', '-c', code],
      env: { PATH: '/usr/bin' },
    });
    started.push(handle);
    return handle;
  }
  const log = async (handle: HostReplica) => (await services.logs(handle, 0)).text;
  const alive = (handle: HostReplica) => processesMarked('STELLWERK_REPLICA', markOf(handle.folder)).length;

  it('listens on a socket in its folder, where it is told to', async () => {
    const handle = await start(`
import os, socket, time
s = socket.socket(socket.AF_UNIX)
s.bind(os.environ['STELLWERK_SOCKET'])
time.sleep(600)`);
    await expect.poll(() => existsSync(handle.address.socketPath), { timeout: 10_000 }).toBe(true);
    expect(statSync(handle.address.socketPath).isSocket()).toBe(true);
    expect(handle.isolation).toBe(isolation);
  });

  it('that is started again with the same id is the same replica', async () => {
    const handle = await start('import time; time.sleep(600)');
    await expect.poll(() => alive(handle), { timeout: 10_000 }).toBe(1);
    expect(await start('print("second")', handle.id)).toEqual(handle);
    expect(alive(handle)).toBe(1);
  });

  it('is found again by another server with nothing but its handle', async () => {
    const kept = JSON.stringify(await start('import time; print("hello"); time.sleep(600)'));
    const later = new HostServices({ folder, isolation: async () => isolation, logPartBytes: 10_000 });
    const handle = JSON.parse(kept) as HostReplica;
    expect(await later.look(handle)).toEqual({ state: 'running' });
    await expect.poll(async () => (await later.logs(handle, 0)).text, { timeout: 10_000 }).toBe('hello\n');
    await later.stop(handle, 0);
    expect(await later.look(handle)).toMatchObject({ state: 'ended' });
  });

  it('that ends by itself tells its exit code', async () => {
    const handle = await start('import time; print("bye"); time.sleep(0.2); raise SystemExit(3)');
    await expect.poll(() => services.look(handle), { timeout: 10_000 }).toEqual({ state: 'ended', exitCode: 3 });
    await expect.poll(() => log(handle)).toBe('bye\n');
  });

  it('that is started again after its end goes on in the same log, with offsets that stay true', async () => {
    const first = await start('import time; print("first"); time.sleep(0.1)');
    await expect.poll(() => services.look(first), { timeout: 10_000 }).toEqual({ state: 'ended', exitCode: 0 });
    await expect.poll(() => log(first)).toBe('first\n');
    const { nextOffset } = await services.logs(first, 0);
    const second = await start('import time; print("second"); time.sleep(600)', first.id);
    expect(second.process).not.toEqual(first.process);
    expect(await services.look(second)).toEqual({ state: 'running' });
    await expect.poll(() => log(second), { timeout: 10_000 }).toBe('first\nsecond\n');
    const rest = await services.logs(second, nextOffset);
    expect(rest.text).toBe('second\n');
    expect((await services.logs(second, rest.nextOffset)).text).toBe('');
  });

  it('is asked to end first and may finish what it does', async () => {
    const handle = await start(`
import signal, sys, time
def end(*_):
    time.sleep(0.3)
    print('finished')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('ready')
while True: time.sleep(1)`);
    await expect.poll(() => log(handle), { timeout: 10_000 }).toBe('ready\n');
    await services.stop(handle, 10_000);
    expect(await services.look(handle)).toEqual({ state: 'ended', exitCode: 0 });
    expect(await log(handle)).toBe('ready\nfinished\n');
    await services.stop(handle, 10_000);
  });

  it('that does not end is killed with all it started, also what left its session', async () => {
    const handle = await start(`
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
print('ready')
time.sleep(600)`);
    await expect.poll(() => log(handle), { timeout: 10_000 }).toBe('ready\n');
    await expect.poll(() => alive(handle)).toBe(2);
    await services.stop(handle, 200);
    expect(alive(handle)).toBe(0);
    expect(processesMarked('STELLWERK_ATTENDS', markOf(handle.folder))).toEqual([]);
    expect((await services.look(handle)).state).toBe('ended');
  });

  it('that prints without end keeps the last of it only, and offsets stay true', async () => {
    const handle = await start(`
import time
for i in range(10000): print('line %05d' % i)
time.sleep(600)`);
    await expect.poll(() => log(handle), { timeout: 10_000 }).toMatch(/line 09999\n$/);
    const files = readdirSync(handle.folder).filter((name) => name.startsWith('log.'));
    expect(files).toHaveLength(2);
    const all = await services.logs(handle, 0);
    expect(all.offset).toBe(90_000);
    expect(all.nextOffset).toBe(110_000);
    const part = await services.logs(handle, 95_711);
    expect(part.text.split('\n')[0]).toBe('line 08701');
    expect(await services.logs(handle, 110_000)).toEqual({ text: '', offset: 110_000, nextOffset: 110_000 });
  });

  it('has a log in which no character is cut in two', async () => {
    const handle = await start(`
import sys, time
for i in range(4):
    sys.stdout.buffer.write('äöü€'.encode()[:5] if i % 2 == 0 else 'äöü€'.encode()[5:])
    sys.stdout.buffer.flush()
    time.sleep(0.3)
time.sleep(600)`);
    let [text, offset] = ['', 0];
    await expect
      .poll(
        async () => {
          const part = await services.logs(handle, offset);
          text += part.text;
          offset = part.nextOffset;
          return text;
        },
        { timeout: 10_000, interval: 30 },
      )
      .toBe('äöü€äöü€');
  });

  it('leaves nothing after cleaning up, twice', async () => {
    const handle = await start('import time; time.sleep(600)');
    await services.stop(handle, 0);
    await services.cleanUp(handle);
    await services.cleanUp(handle);
    expect(existsSync(handle.folder)).toBe(false);
  });

  it('that fails at once says why', async () => {
    const handle = await start('raise RuntimeError("no weights")').catch((error: Error) => error);
    if (handle instanceof Error) expect(handle.message).toContain('no weights');
    else await expect.poll(() => log(handle)).toContain('no weights');
  });
});

it('an id that could lead out of the folder is refused', async () => {
  const services = new HostServices({ folder, isolation: isolationHere });
  for (const id of ['../x', '.', '', 'a/b', '-x']) {
    await expect(services.start({ id, rootPath, command: ['python3'], env: {} })).rejects.toThrow('is no replica id');
  }
});
