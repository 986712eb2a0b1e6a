import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { networkAccess } from '../../../environment/environments.ts';
import { inheritEnvironment, output, plainEnvironment } from '../../../exec/programs.ts';
import { LayoutBytes, OciImages, type Outbound } from '../../../oci/oci-images.ts';
import { serveProxy } from '../../../oci/registry.fixture.ts';
import { type BaseWish, findBase } from './base-images.ts';
import { debianBase, debianOci } from './debian-base.ts';
import { fetchPackages } from './debian-packages.ts';

const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
const platform = { os: 'linux', architecture };
const slow = 120_000;
const network = networkAccess({}, {});
let dir: string;
let log: string[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'base-'));
  await debianBase({ network, cacheDir: cacheOf('cache'), log: () => {} });
}, slow);
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

const cacheOf = (name: string) => join(dir, name);

/** Without a registry that is set, unless given. */
function find(wish: BaseWish, data: string, outbound: Outbound = { allowedHosts: [] }, registries: string[] = []) {
  log = [];
  const bytes = new LayoutBytes(join(dir, data));
  const oci = new OciImages({
    bytes,
    cacheDir: join(dir, `${data}-roots`),
    platform,
    outbound: () => outbound,
    registries: () => registries,
  });
  return { oci, found: findBase(wish, { oci, network, cacheDir: cacheOf('cache'), log: (line) => log.push(line) }) };
}

test(
  'a base of Debian packages is the same from two empty caches at different paths',
  async () => {
    const one = await debianBase({ network, cacheDir: cacheOf('cache'), log: () => {} });
    const two = await debianBase({ network, cacheDir: cacheOf('Anderer Ordner'), log: () => {} });
    expect(two).toEqual(one);
    expect(one.packages.length).toBeLessThan(60);
  },
  slow,
);

test(
  "the base's own Python runs with its library, from bytecode that is not looked up again",
  async () => {
    const { oci, found } = find({ source: { from: 'debian' } }, 'run');
    const { digest, python } = await found;
    const { path } = await oci.rootFor(digest);
    const script =
      'import asyncio, ctypes, decimal, lzma, sqlite3, ssl, sys; print(sys.version_info.minor, asyncio.__cached__, len(ssl.create_default_context().get_ca_certs()) > 50)';
    const args = ['--user', '--map-root-user', '--root', path, python.path, '-B', '-c', script];
    const cached = `/usr/lib/python${python.minor}/asyncio/__pycache__/__init__.cpython-${python.minor.replace('.', '')}.pyc`;
    expect(await output({ command: 'unshare', args })).toBe(`${python.minor.slice(2)} ${cached} True\n`);
    const bytecode = await readFile(join(path, cached));
    expect(bytecode.readUInt32LE(4)).toBe(1); // checked by hash, and that never
    expect(bytecode.includes(dir)).toBe(false);
  },
  slow,
);

test('the base is small, and has no manuals, caches of other places, or set-user-id programs', async () => {
  const { oci, found } = find({ source: { from: 'debian' } }, 'small');
  const { image } = await found;
  expect(image.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0)).toBeLessThan(90_000_000);
  const files = await oci.filesOf(image);
  expect(files.find('usr/share/man')).toBeUndefined();
  expect(files.find('bin/sh')?.kind).toBe('file');
  expect(files.find('tmp')).toMatchObject({ mode: 0o1777 });
  expect(files.find('usr/share/doc/libc6/copyright')?.kind).toBe('file');
});

test('a base written as an OCI layout is taken in again as the same base', async () => {
  const { digest } = await debianBase({ network, cacheDir: cacheOf('cache'), log: () => {} });
  const path = join(dir, 'base.tar');
  await writeFile(path, await debianOci(cacheOf('cache')).export(digest, { format: 'oci', name: 'python-base:3.11' }));
  const fromArchive = await find({ source: { from: 'archive', path } }, 'archive').found;
  const fromPackages = await find({ source: { from: 'debian' } }, 'packages').found;
  expect(fromArchive.image.layers.map((layer) => layer.digest)).toEqual(
    fromPackages.image.layers.map((layer) => layer.digest),
  );
  expect(fromArchive.python).toEqual(fromPackages.python);
});

test('a root filesystem tar is a base, with the Python that is found in it', async () => {
  const root = join(dir, 'rootfs');
  await mkdir(join(root, 'usr/local/bin'), { recursive: true });
  await mkdir(join(root, 'usr/bin'), { recursive: true });
  await writeFile(join(root, 'usr/bin/python3.9'), '');
  await writeFile(join(root, 'usr/local/bin/python3.12'), '');
  await output({ command: 'tar', args: ['-czf', join(dir, 'rootfs.tgz'), '-C', root, '.'] });
  const source = { from: 'archive', path: join(dir, 'rootfs.tgz') } as const;
  expect((await find({ source }, 'rootfs').found).python).toEqual({ path: '/usr/local/bin/python3.12', minor: '3.12' });
  expect((await find({ source, python: '3.9' }, 'rootfs').found).python.path).toBe('/usr/bin/python3.9');
  const nearest = find({ source, python: '3.10', pythonFallback: true }, 'rootfs').found;
  expect((await nearest).python.minor).toBe('3.12');
  await expect(find({ source, python: '3.13', pythonFallback: true }, 'rootfs').found).rejects.toThrow(
    /3.13 is needed/,
  );
  await expect(find({ source, python: '3.8' }, 'rootfs').found).rejects.toThrow(
    /has Python 3.12, 3.9, but Python 3.8 is needed/,
  );
});

test('a base without Python is refused', async () => {
  const root = join(dir, 'empty');
  await mkdir(join(root, 'usr'), { recursive: true });
  await output({ command: 'tar', args: ['-cf', join(dir, 'empty.tar'), '-C', root, '.'] });
  const { found } = find({ source: { from: 'archive', path: join(dir, 'empty.tar') } }, 'empty-data');
  await expect(found).rejects.toMatchObject({
    reason: 'image.base-invalid',
    message: expect.stringMatching(/has no Python 3/),
  });
});

test('a base in the cache costs no work, and half-made ones are not left behind', async () => {
  const lines: string[] = [];
  const before = await stat(join(cacheOf('cache'), 'debian/layout/blobs/sha256'));
  await debianBase({ network, cacheDir: cacheOf('cache'), log: (line) => lines.push(line) });
  expect(lines).toEqual([]);
  expect((await stat(join(cacheOf('cache'), 'debian/layout/blobs/sha256'))).mtimeMs).toBe(before.mtimeMs);
  expect((await readdir(join(cacheOf('cache'), 'debian'))).filter((name) => name.startsWith('.partial'))).toEqual([]);
});

/** Nothing answers there, so that no registry can be reached. */
const noWay: Outbound = { allowedHosts: [], proxies: { httpsProxy: 'http://127.0.0.1:1' } };

test("where no registry can be reached, the base is made of Debian's packages, and that is said", async () => {
  const { minor } = (await find({ source: { from: 'debian' } }, 'default').found).python;
  const { found } = find({ source: { from: 'default' }, python: minor }, 'default', noWay, ['registry.example.org']);
  expect((await found).description).toMatch(/Debian packages/);
  expect(log.join()).toMatch(/could not be reached.*Taking a base image made of Debian's packages instead/);
  await find({ source: { from: 'default' }, python: minor }, 'default', noWay, ['registry.example.org']).found;
  expect(log).toEqual([]);
});

test("where no registry is set, the base is made of Debian's packages, and that is said; one that is named is an error", async () => {
  const { minor } = (await find({ source: { from: 'debian' } }, 'default').found).python;
  const { found } = find({ source: { from: 'default' }, python: minor }, 'default');
  expect((await found).description).toMatch(/Debian packages/);
  expect(log.join()).toMatch(
    /No registry is set.*--image-registry.*Taking a base image made of Debian's packages instead/,
  );
  const named = find({ source: { from: 'registry', reference: `python:${minor}-slim` } }, 'default').found;
  await expect(named).rejects.toMatchObject({
    reason: 'image.base-unavailable',
    message: expect.stringContaining('--image-registry'),
  });
});

test(
  "Debian's packages are fetched through the proxy that is set, and no other way",
  async () => {
    const fetched = async (name: string, proxy: string) => {
      const through = networkAccess({ httpProxy: proxy, httpsProxy: proxy }, { http_proxy: 'http://127.0.0.1:1' });
      return fetchPackages(['netbase'], { workDir: cacheOf(name), network: through, log: () => {} });
    };
    await using proxy = await serveProxy({});
    expect(await fetched('apt through', proxy.url)).toEqual([expect.stringContaining('netbase')]);
    expect(proxy.asked).not.toEqual([]);
    await expect(fetched('apt nowhere', 'http://127.0.0.1:1')).rejects.toMatchObject({
      reason: 'image.base-unavailable',
      message: expect.stringMatching(/Before that: .*127\.0\.0\.1:1/),
    });
  },
  slow,
);

test('a Python that neither a registry nor Debian gives is an error that says what is there', async () => {
  const { found } = find({ source: { from: 'default' }, python: '3.7' }, 'default', noWay, ['registry.example.org']);
  await expect(found).rejects.toMatchObject({
    reason: 'image.base-unavailable',
    message: expect.stringMatching(/could not be reached.*has Python 3\.\d+, but Python 3\.7 is needed/),
  });
});

test('a machine without a registry and without apt is told what to give instead', async () => {
  const environment = plainEnvironment();
  inheritEnvironment({ PATH: '/nowhere' });
  const { found } = find({ source: { from: 'default' } }, 'no-tools', noWay, ['registry.example.org']);
  await expect(found).rejects.toThrow(/could not be reached.*no apt-get and dpkg-deb. Give one that can be read/);
  inheritEnvironment(environment);
});
