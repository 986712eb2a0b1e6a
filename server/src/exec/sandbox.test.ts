import { chmodSync, existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processesMarked } from './processes.ts';
import { type Ended, run, startDetached } from './programs.ts';
import { type Boxed, boxed, type Isolation, isolationHere } from './sandbox.ts';
import { makeTestRoot } from './test-root.ts';

const here = await isolationHere();
const kinds: Isolation[] = here === 'namespace' ? ['namespace', 'none'] : ['none'];
let root = '';
let outside = '';

beforeAll(async () => {
  root = await makeTestRoot();
  outside = mkdtempSync(join(tmpdir(), 'stellwerk-outside-'));
  chmodSync(outside, 0o755);
  writeFileSync(join(outside, 'secret'), 'secret', { mode: 0o644 });
});
afterAll(() => {
  for (const folder of [root, outside]) rmSync(folder, { recursive: true, force: true });
});

function python(code: string, isolation: Isolation, more: Partial<Boxed> = {}, args: string[] = []): Promise<Ended> {
  const box = { rootPath: root, command: ['python3', '-c', code, ...args], env: { PATH: '/usr/bin' }, ...more };
  return run({ ...boxed(box, isolation), timeoutMs: 20_000 });
}

/** What a program in the box prints as JSON. */
async function told(
  code: string,
  isolation: Isolation,
  more: Partial<Boxed> = {},
  args: string[] = [],
): Promise<unknown> {
  const ended = await python(`import json, os, sys\n${code}`, isolation, more, args);
  expect(ended.stderr).toBe('');
  return JSON.parse(ended.stdout);
}

describe.each(kinds)('a program in a box with isolation %s', (isolation) => {
  it("runs the image's own Python with exactly the given environment", async () => {
    const env = { PATH: '/usr/bin', A: 'ü " $(x)', EMPTY: '' };
    const seen = (await told('print(json.dumps([sys.prefix, dict(os.environ)]))', isolation, { env })) as [
      string,
      Record<string, string>,
    ];
    expect(seen[1]).toMatchObject({ A: 'ü " $(x)', EMPTY: '' });
    expect(
      Object.keys(seen[1])
        .filter((name) => !['PYTHONHOME', 'LC_CTYPE'].includes(name))
        .sort(),
    ).toEqual(['A', 'EMPTY', 'PATH']);
    if (isolation === 'none') expect(seen[0].startsWith(root)).toBe(true);
  });

  it('gives arguments on as they are, whatever a shell would make of them', async () => {
    const args = ['$(touch /tmp/x)', '; true', '`id`', "'", '--', '-x', '', 'ä\n'];
    expect(await told('print(json.dumps(sys.argv[1:]))', isolation, {}, args)).toEqual(args);
  });

  it('gives its exit code back', async () => {
    expect((await python('raise SystemExit(7)', isolation)).code).toBe(7);
  });

  it("keeps the program's environment away from the tools that start it", async () => {
    const env = { PATH: '/usr/bin', LD_PRELOAD: '/nothing/evil.so', BASH_ENV: '/nothing', ENV: '/nothing' };
    const ended = await python('print(1)', isolation, { env });
    expect(ended.stdout).toBe('1\n');
    expect(ended.stderr.match(/evil\.so/g)).toHaveLength(1); // the program's own loader, inside
  });

  it('limits memory and open files', async () => {
    const more = { limits: { memoryBytes: 200 * 1024 ** 2, openFiles: 50 } };
    const code = `
import resource
try:
    block = bytearray(300 * 1024 ** 2)
    print(json.dumps("got it"))
except MemoryError:
    print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))`;
    expect(await told(code, isolation, more)).toEqual([50, 50]);
  });

  it('sees the folders that it was given', async () => {
    const socket = join(outside, 'shared');
    const code = `print(json.dumps(open(os.environ['PLACE'] + '/secret').read()))`;
    const more = {
      env: { PATH: '/usr/bin', PLACE: '/run/given' },
      folders: [{ from: outside, to: '/run/given', writable: false }],
    };
    expect(await told(code, isolation, more)).toBe('secret');
    expect(existsSync(socket)).toBe(false);
  });

  it('finds the packages of a virtual environment in the image', async () => {
    const code = `
import subprocess
venv = sys.argv[1]
subprocess.run([sys.executable, '-m', 'venv', '--without-pip', venv], check=True)
library = os.path.join(venv, 'lib', 'python%d.%d' % sys.version_info[:2], 'site-packages')
open(os.path.join(library, 'mine.py'), 'w').write('value = 5')
print(json.dumps(sys.version_info[:2]))`;
    await run({ command: 'python3', args: ['-c', `import json, os, sys${code}`, join(root, 'opt/venv')] });
    rmSync(join(root, 'opt/venv/bin/python'));
    symlinkSync('/usr/bin/python3', join(root, 'opt/venv/bin/python'));
    writeFileSync(join(root, 'opt/venv/pyvenv.cfg'), 'home = /usr/bin\ninclude-system-site-packages = false\n');
    const ended = await run({
      ...boxed(
        { rootPath: root, command: ['/opt/venv/bin/python', '-c', 'import mine; print(mine.value)'], env: {} },
        isolation,
      ),
    });
    expect(ended).toMatchObject({ stdout: '5\n', code: 0 });
  });
});

function inNamespaces(): void {
  const isolation = 'namespace';

  it('nothing of the machine can be read', async () => {
    const code = `
seen = [os.path.exists(path) for path in sys.argv[1:]]
for name in ('/proc/1/root/etc/shadow', '/proc/1/environ', '/proc/self/root' + sys.argv[1], '../../../../..' + sys.argv[1]):
    try:
        seen.append(bool(open(name).read()))
    except OSError:
        seen.append(False)
print(json.dumps(seen))`;
    const args = [join(outside, 'secret'), outside, root, '/etc/shadow', process.execPath];
    expect(await told(code, isolation, {}, args)).toEqual(new Array(9).fill(false));
  });

  it('nothing can be written but /tmp and /dev/shm, which are its own', async () => {
    const code = `
written = []
for folder in ('/', '/usr', '/usr/bin', '/run', '/dev', '/etc', '/tmp', '/dev/shm', '/proc/sys/kernel'):
    try:
        open(folder + '/written', 'w').write('x')
        written.append(folder)
    except OSError:
        pass
print(json.dumps(written))`;
    expect(await told(code, isolation)).toEqual(['/tmp', '/dev/shm']);
    expect(existsSync(join(root, 'tmp/written'))).toBe(false);
    expect(existsSync('/tmp/written')).toBe(false);
  });

  it('it is nobody, without capabilities, and can gain none', async () => {
    const code = `
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
gained = []
for flag in (0x10000000, 0x00020000):  # a new user namespace, a new mount namespace
    gained.append(libc.unshare(flag) == 0)
gained.append(libc.setuid(0) == 0)
gained.append(libc.mount(b'proc', b'/tmp', b'proc', 0, None) == 0)
print(json.dumps([os.getuid(), os.getgid(), os.getgroups(), int(status['CapEff'], 16), int(status['CapPrm'], 16), status['NoNewPrivs'], gained]))`;
    const seen = (await told(code, isolation)) as unknown[];
    expect(seen.toSpliced(2, 1)).toEqual([65534, 65534, 0, 0, '1', [false, false, false, false]]);
    expect((seen[2] as number[]).every((group) => group === 65534)).toBe(true);
  });

  it("it sees no processes but its own, and no process of the machine's can be signalled", async () => {
    const code = `
try:
    os.kill(int(sys.argv[1]), 0)
    reached = True
except OSError:
    reached = False
print(json.dumps([len([p for p in os.listdir('/proc') if p.isdigit()]) <= 3, reached]))`;
    expect(await told(code, isolation, {}, [String(process.pid)])).toEqual([true, false]);
  });

  it('a folder given to be read only cannot be written', async () => {
    const code = `
try:
    open('/run/given/new', 'w')
    print(json.dumps('written'))
except OSError as error:
    print(json.dumps(error.strerror))`;
    const folders = [{ from: outside, to: '/run/given', writable: false }];
    expect(await told(code, isolation, { folders })).toBe('Read-only file system');
  });

  it("without network it reaches nothing, not even the machine's loopback", async () => {
    const server = createServer((socket) => socket.end('hi'));
    await new Promise<void>((listening) => void server.listen(0, '127.0.0.1', listening));
    const { port } = server.address() as { port: number };
    const code = `
import socket
try:
    print(json.dumps(socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2).recv(9).decode()))
except OSError:
    print(json.dumps('unreachable'))`;
    expect(await told(code, isolation, { network: 'none' }, [String(port)])).toBe('unreachable');
    expect(await told(code, isolation, { network: 'host' }, [String(port)])).toBe('hi');
    server.close();
  });

  it('everything it started dies with it, also what left its session', async () => {
    const mark = `mark-${process.pid}`;
    const code = `
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
time.sleep(600)`;
    const box = boxed({ rootPath: root, command: ['python3', '-c', code], env: { STELLWERK_TEST: mark } }, isolation);
    const { pid } = startDetached({ ...box, outputFd: 'ignore' });
    const inside = () => processesMarked('STELLWERK_TEST', mark).length;
    await expect.poll(inside, { timeout: 10_000 }).toBe(2);
    process.kill(pid, 'SIGKILL');
    await expect.poll(inside, { timeout: 5_000 }).toBe(0);
    await pause(50);
    expect(inside()).toBe(0);
  });

  it('an image whose folders are links to elsewhere is refused', async () => {
    const evil = mkdtempSync(join(tmpdir(), 'stellwerk-evil-'));
    symlinkSync(join(root, 'usr'), join(evil, 'usr'));
    symlinkSync('/etc', join(evil, 'run'));
    expect(() => boxed({ rootPath: evil, command: ['/usr/bin/python3'], env: {} }, isolation)).toThrow(
      'is not in the image',
    );
    rmSync(evil, { recursive: true });
    const other = await makeTestRoot();
    rmSync(join(other, 'run'), { recursive: true, force: true });
    symlinkSync(outside, join(other, 'run'));
    expect(() => boxed({ rootPath: other, command: ['python3'], env: {} }, isolation)).toThrow(
      'its /run is not an ordinary folder',
    );
    rmSync(other, { recursive: true });
  });
}
// Where the machine refuses namespaces nothing of this is claimed.
if (here === 'namespace') describe('in namespaces', inNamespaces);

it('a program or a Python that the image lacks is named', async () => {
  expect(() => boxed({ rootPath: outside, command: ['gunicorn'], env: {} }, here)).toThrow(
    "The image's program gunicorn is not in the image.",
  );
  expect(() => boxed({ rootPath: root, command: [], env: {} }, here)).toThrow('no command');
});
