import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type BuiltPlan, environmentPlan, type IndexSettings } from '@stellwerk/contract/environment.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { identify, type ProcessIdentity } from '../exec/processes.ts';
import { inheritEnvironment, output, run } from '../exec/programs.ts';
import { writeTar } from '../oci/tar-write.ts';
import { type Asked, type EnvironmentLayer, Environments } from './environments.ts';
import { makeWheel, servePackages } from './package-index.fixture.ts';

const inherited = Object.fromEntries(
  Object.entries(process.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
);
const place = { prefix: '/opt/stellwerk/env', imagePython: '/usr/bin/python3' };
let folder: string;
let environments: Environments;

beforeAll(async () => {
  inheritEnvironment({ PATH: inherited.PATH!, HOME: inherited.HOME! });
  folder = await mkdtemp(join(tmpdir(), 'environments-'));
  environments = open('one');
});
afterAll(() => rm(folder, { recursive: true }));

function open(
  cache: string,
  needs: { inherited?: Record<string, string>; indexes?: IndexSettings } = {},
): Environments {
  return new Environments({
    cacheDir: join(folder, cache),
    inherited: needs.inherited ?? inherited,
    indexes: () => needs.indexes ?? {},
  });
}

async function lockOf(of: Environments, requirements: string, asked: Asked = {}): Promise<BuiltPlan> {
  const plan = await of.lock({ requirements }, asked);
  expect(environmentPlan.parse(plan)).toEqual(plan);
  if (plan.kind !== 'built') throw new Error('a built environment was asked for');
  return plan;
}

async function digestOf(layer: EnvironmentLayer): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of writeTar(layer.entries)) hash.update(chunk);
  return hash.digest('hex');
}

async function textOf(layer: EnvironmentLayer, path: string): Promise<string> {
  const source = layer.entries.find((entry) => entry.path === `opt/stellwerk/env/${path}`)?.source;
  if (source && 'bytes' in source) return Buffer.from(source.bytes).toString();
  return source && 'file' in source ? readFile(source.file, 'utf8') : JSON.stringify(source);
}

/** Every file below a folder that holds a text. */
function filesWith(text: string, below: string): string[] {
  const files = readdirSync(below, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.map((entry) => join(entry.parentPath, entry.name)).filter((file) => readFileSync(file).includes(text));
}

const allUnused = { before: Date.now() + 3_600_000, isInUse: () => false, dryRun: false };

test('resolves requirements from the package index into a lock with hashes, which it keeps', {
  timeout: 120_000,
}, async () => {
  const log: string[] = [];
  const plan = await lockOf(environments, 'uvicorn>=0.30\nazureml-defaults\nsix==1.17.0 # exactly\n', {
    log: (line) => log.push(line),
  });
  expect(plan.lockText).toMatch(/^click==\S+( --hash=sha256:[0-9a-f]{64}){2}\n/);
  expect(plan.lockText.split('\n').map((line) => line.split('==')[0])).toEqual(['click', 'h11', 'six', 'uvicorn', '']);
  expect(plan.lockHash).toBe(createHash('sha256').update(plan.lockText).digest('hex'));
  expect(plan).toMatchObject({ needsStellwerk: true, installFlags: ['--require-hashes', '--no-deps'] });
  expect(log).toEqual([...plan.notices, 'Resolving 2 requirements for Python 3.11.', ...log.slice(2)]);
  const again: string[] = [];
  expect(
    await lockOf(
      open('one', { inherited: { ...inherited, HTTPS_PROXY: 'http://127.0.0.1:9' } }),
      'uvicorn>=0.30\nsix==1.17.0',
      { log: (line) => again.push(line) },
    ),
  ).toMatchObject({ key: plan.key });
  expect(again).toHaveLength(1);
});

test('what uv resolved and a lock that a user gives are the same environment', { timeout: 60_000 }, async () => {
  const plan = await lockOf(environments, 'six==1.17.0');
  const written = plan.lockText.replaceAll(' --hash', ' \\\n    --hash');
  expect(await environments.lock({ lock: `# by hand\n${written}` })).toMatchObject({
    key: plan.key,
    lockHash: plan.lockHash,
  });
});

test('makes the same layer, bit for bit, in two empty folders at different paths', { timeout: 300_000 }, async () => {
  const layers: EnvironmentLayer[] = [];
  for (const cache of ['one', join('a folder', 'of another depth', 'two')]) {
    const here = open(cache);
    // docopt is a source distribution, built here.
    layers.push(await here.layer(await lockOf(here, 'six==1.17.0\nnumpy\nuvicorn\ndocopt==0.6.2'), place));
  }
  const [one, two] = layers as [EnvironmentLayer, EnvironmentLayer];
  expect(one.entries.map(({ path }) => path)).toEqual(two.entries.map(({ path }) => path));
  expect(await digestOf(one)).toBe(await digestOf(two));
  expect(one.entries.some(({ path }) => path.endsWith('numpy/__pycache__/__init__.cpython-311.pyc'))).toBe(true);
  expect(await textOf(one, 'bin/uvicorn')).toMatch(/^#!\/opt\/stellwerk\/env\/bin\/python\n/);
  expect(await textOf(one, 'bin/python')).toBe('{"symlink":"/usr/bin/python3"}');
  expect(await textOf(one, 'pyvenv.cfg')).toContain('home = /usr/bin\n');
  const all = await Promise.all(
    one.entries.map(async ({ path }) => [path, await textOf(one, path.slice('opt/stellwerk/env/'.length))]),
  );
  expect(all.filter(([, text]) => text?.includes(folder))).toEqual([]);
});

test('what lies in the layer works where it was made for, and uses its bytecode', { timeout: 120_000 }, async () => {
  const prefix = join(folder, 'placed');
  const layer = await environments.layer(await lockOf(environments, 'six==1.17.0\nuvicorn'), {
    prefix,
    imagePython: '/usr/bin/python3',
  });
  for (const { path, mode, source } of layer.entries) {
    const target = `/${path}`;
    if ('directory' in source) await mkdir(target, { recursive: true });
    else if ('symlink' in source) await output({ command: 'ln', args: ['-s', source.symlink, target] });
    else await writeFile(target, 'file' in source ? await readFile(source.file) : source.bytes, { mode });
  }
  expect(await output({ command: join(prefix, 'bin', 'uvicorn'), args: ['--version'] })).toMatch(/^Running uvicorn/);
  const { stderr } = await run({ command: layer.python, args: ['-v', '-c', 'import six; print(six.__file__)'] });
  expect(stderr).toContain(`code object from '${prefix}/lib/python3.11/site-packages/__pycache__/six.cpython-311.pyc'`);
  expect(stderr).not.toContain('wrote');
  expect(await readdir(dirname(prefix))).toContain('placed');
});

test('a layer for a Python or a platform that is not here is made from wheels, without bytecode or without building', {
  timeout: 120_000,
}, async () => {
  const elsewhere = { platform: 'linux-arm64', pythons: ['3.14'] } as const;
  const plan = await lockOf(environments, 'uvicorn\nmarkupsafe', { target: { ...elsewhere, pythons: ['3.14'] } });
  expect(plan).toMatchObject({ pythonMinor: '3.14', platform: 'linux-arm64' });
  const layer = await environments.layer(plan, place);
  expect(layer.notices.join()).toContain('Python 3.14 is not on this machine');
  const paths = layer.entries.map(({ path }) => path);
  expect(paths).toContain('opt/stellwerk/env/bin/uvicorn');
  expect(
    paths.some((path) => path.endsWith('site-packages/markupsafe/_speedups.cpython-314-aarch64-linux-gnu.so')),
  ).toBe(true);
  expect(await textOf(layer, 'bin/uvicorn')).toMatch(/^#!\/opt\/stellwerk\/env\/bin\/python\n/);
  expect(
    await textOf(
      layer,
      'lib/python3.14/site-packages/'.concat(
        paths
          .find((path) => /uvicorn.*RECORD$/.test(path))!
          .split('/')
          .slice(-2)
          .join('/'),
      ),
    ),
  ).toMatch(/^\.\.\/\.\.\/\.\.\/bin\/uvicorn,sha256=/m);
});

test('one layer wanted by two at once is made once', { timeout: 120_000 }, async () => {
  const plan = await lockOf(environments, 'six==1.16.0');
  const logs: string[][] = [[], []];
  const layers = await Promise.all(
    logs.map((lines) => environments.layer(plan, place, { log: (line) => lines.push(line) })),
  );
  expect(layers[0]).toEqual(layers[1]);
  expect(logs[0]).toEqual(logs[1]);
  expect(logs[0]!.filter((line) => line.startsWith('Compiling'))).toHaveLength(1);
  await environments.removeUnused(allUnused);
  expect(await readdir(join(folder, 'one', 'layers'))).not.toContain(layers[0]!.key);
});

test('of packages that bring the same file the last by name wins, every time', { timeout: 120_000 }, async () => {
  const findLinks = [join(folder, 'links'), join(folder, 'more links')];
  for (const [at, name] of ['zz_one', 'aa_two', 'mm_three'].entries()) {
    const wheel = await makeWheel(name, '1.0', { 'shared_place/data.txt': name, [`${name}.py`]: '' });
    await mkdir(findLinks[at % 2]!, { recursive: true });
    await writeFile(join(findLinks[at % 2]!, wheel.file), wheel.content);
  }
  const here = open('one', { indexes: { findLinks } });
  const plan = await lockOf(here, 'zz-one\naa-two\nmm-three\n');
  for (let time = 0; time < 3; time += 1) {
    const layer = await here.layer(plan, place);
    expect(await textOf(layer, 'lib/python3.11/site-packages/shared_place/data.txt')).toBe('zz_one');
    await here.removeUnused(allUnused);
  }
});

test('a private index is used for resolving and installing, and its password stays between us and it', {
  timeout: 120_000,
}, async () => {
  const password = 'gEh3im-pa55/word';
  const wheel = await makeWheel('private_package', '2.5', { 'private_package.py': 'answer = 42\n' }, ['six==1.17.0']);
  let seenInArguments = false;
  const lookAround = () => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        seenInArguments ||= readFileSync(join('/proc', pid, 'cmdline'), 'latin1').includes(password);
      } catch {} // it has ended meanwhile
    }
  };
  await using index = await servePackages([wheel], { name: 'me', password }, lookAround);
  const withPassword = index.url.replace('http://', `http://me:${encodeURIComponent(password)}@`);
  const log: string[] = [];
  const here = open('private', { inherited: { ...inherited, PIP_CONFIG_FILE: '/dev/null' } });
  const requirements = `--extra-index-url ${withPassword}\nprivate-package\n`;
  const { indexes } = here.read({ requirements });
  expect(indexes.credentials).toEqual([{ url: index.url, username: 'me', password }]);
  const plan = await lockOf(here, requirements, { log: (line) => log.push(line) });
  expect(plan.lockText).toContain(
    `private-package==2.5 --hash=sha256:${createHash('sha256').update(wheel.content).digest('hex')}\n`,
  );
  expect(plan.lockText).toMatch(/^six==1\.17\.0 /m);
  expect(plan.indexes).toEqual({ extraIndexUrls: [index.url] });
  const layer = await here.layer(plan, place, { indexes, log: (line) => log.push(line) });
  expect(layer.entries.map(({ path }) => path)).toContain(
    'opt/stellwerk/env/lib/python3.11/site-packages/private_package.py',
  );
  expect(index.asked).toContain('/files/private_package-2.5-py3-none-any.whl');
  expect(seenInArguments).toBe(false);
  for (const secret of [password, encodeURIComponent(password)]) {
    expect(JSON.stringify([plan, layer, log])).not.toContain(secret);
    expect(filesWith(secret, join(folder, 'private'))).toEqual([]);
  }
  expect((await here.access(plan, indexes)).environment).toMatchObject({
    UV_INDEX: `stellwerk1=${index.url}`,
    UV_INDEX_STELLWERK1_PASSWORD: password,
  });
});

test('pip’s own configuration holds: its index, with its password, from its file', { timeout: 120_000 }, async () => {
  const wheel = await makeWheel('private_package', '1.0', { 'private_package.py': '' });
  await using index = await servePackages([wheel], { name: 'me', password: 's3cret' });
  await writeFile(join(folder, 'pip.conf'), `[global]\nindex-url = http://me:s3cret@127.0.0.1:${index.port}/simple\n`);
  const { PIP_FIND_LINKS: _links, ...rest } = inherited;
  const plan = await lockOf(
    open('one', { inherited: { ...rest, PIP_CONFIG_FILE: join(folder, 'pip.conf') } }),
    'private-package',
  );
  expect(plan.lockText).toMatch(/^private-package==1\.0 /);
  await writeFile(join(folder, 'pip.conf'), `[global]\nindex-url = http://me:wr0ng@127.0.0.1:${index.port}/simple\n`);
  const refused = open('one', { inherited: { ...rest, PIP_CONFIG_FILE: join(folder, 'pip.conf') } }).lock({
    requirements: 'private-package>=1',
  });
  await expect(refused).rejects.toMatchObject({
    reason: 'environment.unresolvable',
    message: expect.stringContaining('401'),
  });
  await expect(refused).rejects.not.toMatchObject({ message: expect.stringContaining('wr0ng') });
});

test('the hashes that a user gives are the only ones in the lock; others are refused', {
  timeout: 60_000,
}, async () => {
  const { lockText } = await lockOf(environments, 'six==1.17.0');
  const [hash] = /sha256:[0-9a-f]{64}/.exec(lockText)!;
  expect((await lockOf(environments, `six==1.17.0 --hash=${hash}`)).lockText).toBe(`six==1.17.0 --hash=${hash}\n`);
  await expect(
    environments.lock({ requirements: `six==1.17.0 --hash=sha256:${'0'.repeat(64)}` }),
  ).rejects.toMatchObject({ reason: 'environment.unresolvable' });
});

test('packages of conda that PyPI does not have are named, all of them', { timeout: 60_000 }, async () => {
  const condaFile = 'dependencies:\n  - six\n  - stellwerk-test-no-such-a\n  - stellwerk-test-no-such-b=1.2\n';
  await expect(environments.lock({ condaFile })).rejects.toMatchObject({
    reason: 'environment.unresolvable',
    message: expect.stringContaining(
      'PyPI has no package for stellwerk-test-no-such-a (line 3) and stellwerk-test-no-such-b (line 4)',
    ),
  });
});

test('an index that does not answer can be tried again later; requirements that cannot be met cannot', {
  timeout: 120_000,
}, async () => {
  const dead = open('one', {
    inherited: { HOME: folder, PIP_CONFIG_FILE: '/dev/null' },
    indexes: { indexUrl: 'http://127.0.0.1:9/simple', timeoutSeconds: 1 },
  });
  await expect(dead.lock({ requirements: 'six' })).rejects.toMatchObject({ name: 'TargetError', retry: 'later' });
  await expect(environments.lock({ requirements: 'six==1.17.0\nsix<1' })).rejects.toMatchObject({
    reason: 'environment.unresolvable',
    message: expect.stringContaining('six'),
  });
});

test('resolving is stopped when it is no longer wanted, and leaves nothing behind', { timeout: 60_000 }, async () => {
  const stop = new AbortController();
  const lock = environments.lock(
    { requirements: 'apache-airflow[all]' },
    { signal: stop.signal, log: (line) => line.startsWith('Resolving') && setTimeout(() => stop.abort(), 100) },
  );
  await expect(lock).rejects.toMatchObject({ name: 'AbortError' });
  await expect.poll(() => readdir(join(folder, 'one', 'working')), { timeout: 10_000 }).toEqual([]);
});

test('with conda on the target, the plan names its packages and locks those of pip', { timeout: 60_000 }, async () => {
  const target = { platform: 'linux-x64', pythons: ['3.11'], conda: true } as const;
  const plan = await environments.lock(
    { condaFile: 'channels: [conda-forge]\ndependencies: [python=3.9, cudatoolkit=11, {pip: [six==1.17.0]}]' },
    { target: { ...target, pythons: ['3.11'] } },
  );
  expect(plan).toMatchObject({
    pythonMinor: '3.9',
    conda: { channels: ['conda-forge'], packages: ['python=3.9', 'cudatoolkit=11'] },
    lockText: expect.stringMatching(/^six==1\.17\.0 /),
  });
});

test('a Python that is there is used as it is', async () => {
  expect(await environments.lock({ userManaged: true, interpreterPath: '/usr/bin/python3' })).toEqual({
    kind: 'user-managed',
    interpreterPath: '/usr/bin/python3',
    notices: [],
  });
});

test('without Python and uv the error says what to install', async () => {
  inheritEnvironment({ PATH: '/nowhere' });
  try {
    const bare = open('bare', { inherited: { HOME: folder } });
    await expect(
      bare.lock({ requirements: 'six' }, { target: { platform: 'linux-x64', pythons: ['3.11'] } }),
    ).rejects.toMatchObject({
      reason: 'environment.tool-missing',
      message: expect.stringMatching(/no Python 3\.8 or newer was found.*python3-venv/),
    });
    await expect(bare.lock({ requirements: 'six' })).rejects.toMatchObject({ reason: 'environment.python-missing' });
  } finally {
    inheritEnvironment({ PATH: inherited.PATH!, HOME: inherited.HOME! });
  }
});

test('the scorer’s own lock makes a layer of its own', { timeout: 120_000 }, async () => {
  const lock = await readFile(new URL('../../../python/scorer/requirements.lock', import.meta.url), 'utf8');
  const plan = await environments.lock({ lock, python: '3.11' });
  if (plan.kind !== 'built') throw new Error('a built environment was asked for');
  const layer = await environments.layer(plan, { ...place, prefix: '/opt/stellwerk/scorer' });
  const packages = layer.entries
    .map(({ path }) => /site-packages\/([^/]+)\.dist-info$/.exec(path)?.[1])
    .filter((name) => name);
  expect(packages.map((name) => name!.split('-')[0])).toEqual(['click', 'h11', 'uvicorn']);
  expect(layer.sitePackages).toBe('/opt/stellwerk/scorer/lib/python3.11/site-packages');
});

test('a sweep removes what a killed server left: not what a living one works in, nothing else', async () => {
  const cache = join(folder, 'swept');
  const nameOf = ({ pid, startTicks, bootId }: ProcessIdentity) => `working/${pid}_${startTicks}_${bootId}.x`;
  const self = identify(process.pid)!;
  const dead = nameOf({ ...self, startTicks: self.startTicks - 1 });
  const living = nameOf(self);
  for (const left of [dead, living, 'tools/uv', 'layers/x']) {
    await mkdir(join(cache, left), { recursive: true });
    await writeFile(join(cache, left, 'netrc'), 'machine host login me password s3cret');
  }
  await open('swept').sweep();
  expect((await readdir(cache, { recursive: true })).filter((path) => path.endsWith('netrc')).sort()).toEqual([
    'layers/x/netrc',
    'tools/uv/netrc',
    `${living}/netrc`,
  ]);
});

test('gives uv as a program that may be copied, also where the one on the path is a script that leads to it', async () => {
  const program = await environments.uv();
  const [shims, elsewhere] = [join(folder, 'shims'), join(folder, 'elsewhere')];
  await mkdir(shims);
  await writeFile(join(shims, 'uv'), `#!/bin/sh\nexec ${program} "$@"\n`, { mode: 0o755 });
  inheritEnvironment({ PATH: `${shims}:${inherited.PATH}`, HOME: inherited.HOME! });
  try {
    expect((await output({ command: 'uv', args: ['--version'] })).trim()).toMatch(/^uv \d/);
    await copyFile(await environments.uv(), elsewhere);
    await copyFile(await open('behind a script').uv(), `${elsewhere} too`);
  } finally {
    inheritEnvironment({ PATH: inherited.PATH!, HOME: inherited.HOME! });
  }
  for (const copy of [elsewhere, `${elsewhere} too`]) {
    expect(readFileSync(copy).subarray(1, 4).toString()).toBe('ELF');
    expect(await output({ command: copy, args: ['--version'] })).toMatch(/^uv \d/);
  }
});
