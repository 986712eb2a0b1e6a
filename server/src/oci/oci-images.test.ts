import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Digest } from '../blob/bytes.ts';
import { output } from '../exec/programs.ts';
import { plainLimit } from './decompress.ts';
import { collect, rawTar } from './hostile-tar.ts';
import { importArchive, importRootFilesystem } from './import-image.ts';
import { LayoutBytes, OciImages } from './oci-images.ts';

const platform = { os: 'linux', architecture: 'amd64' };
const quiet = { log: () => {} };
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'oci-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** A store of images in a folder of its own. */
function storeIn(name: string) {
  const bytes = new LayoutBytes(join(dir, name));
  const cacheDir = join(dir, `${name}-cache`);
  return {
    bytes,
    cacheDir,
    oci: new OciImages({ bytes, cacheDir, platform, outbound: () => ({ allowedHosts: [] }), registries: () => [] }),
  };
}

const text = (path: string, content: string) => ({ path, mode: 0o644, source: { bytes: Buffer.from(content) } });

const config = {
  env: { PATH: '/usr/bin', B: 'x=y', A: '1' },
  entrypoint: ['/usr/bin/python3', '-m', 'x'],
  command: [],
  workingDir: '/app',
  user: '1000:1000',
  labels: { z: '1', a: '2' },
  exposedPorts: ['8080/tcp'],
};

async function smallImage({ oci }: ReturnType<typeof storeIn>, content = 'hello') {
  const base = await oci.writeLayer([text('etc/os', 'base')]);
  const code = await oci.writeLayer([text('app/score.py', content)]);
  const layers = [
    { ...base, note: 'base' },
    { ...code, note: 'code' },
  ];
  return await oci.writeImage({ platform, layers, config });
}

async function exportTo(store: ReturnType<typeof storeIn>, digest: Digest, format: 'oci' | 'docker', gzip = false) {
  const file = join(dir, `${format}${gzip ? '.tar.gz' : '.tar'}`);
  await writeFile(file, await store.oci.export(digest, { format, name: 'shop/model:3', gzip }));
  return file;
}

test('an image is read back as it was written', async () => {
  const store = storeIn('a');
  const { digest } = await smallImage(store);
  const image = await store.oci.readImage(digest);
  expect(image.config).toEqual(config);
  expect(image.layers.map((layer) => layer.note)).toEqual(['base', 'code']);
  expect(await store.oci.isComplete(digest)).toBe(true);
  await rm(store.bytes.path(image.layers[0]!.digest));
  expect(await store.oci.isComplete(digest)).toBe(false);
});

test('two stores at different paths make the same image of the same input', async () => {
  const [one, two] = [await smallImage(storeIn('a')), await smallImage(storeIn('Ein anderer Ordner'))];
  expect(one).toEqual(two);
  expect((await smallImage(storeIn('b'), 'other')).digest).not.toBe(one.digest);
});

test('every digest and size in the manifest is that of the stored bytes, and a layer is its own diff id', async () => {
  const store = storeIn('a');
  const { digest, sizeBytes } = await smallImage(store);
  const manifest = JSON.parse(await readFile(store.bytes.path(digest), 'utf8'));
  let sum = (await stat(store.bytes.path(digest))).size;
  for (const part of [manifest.config, ...manifest.layers]) {
    const content = await readFile(store.bytes.path(part.digest));
    expect(part).toMatchObject({
      size: content.length,
      digest: `sha256:${createHash('sha256').update(content).digest('hex')}`,
    });
    sum += content.length;
  }
  expect(sizeBytes).toBe(sum);
  const document = JSON.parse(await readFile(store.bytes.path(manifest.config.digest), 'utf8'));
  expect(document.rootfs.diff_ids).toEqual(manifest.layers.map((layer: { digest: string }) => layer.digest));
  expect(document.created).toBe('1970-01-01T00:00:00Z');
});

test.each([
  ['oci', false],
  ['oci', true],
  ['docker', false],
  ['docker', true],
] as const)('an image that goes out as %s (gzip: %s) and comes in again is the same image', async (format, gzip) => {
  const [from, to] = [storeIn('from'), storeIn('to')];
  const { digest } = await smallImage(from);
  const path = await exportTo(from, digest, format, gzip);
  const image = await to.oci.import({ from: 'archive', path }, quiet);
  expect(image.config).toEqual(config);
  expect(image.layers.map((layer) => layer.digest)).toEqual(
    (await from.oci.readImage(digest)).layers.map((layer) => layer.digest),
  );
  expect(await readdir(join(to.cacheDir, 'passing')).catch(() => [])).toEqual([]);
});

test('an archive of the same image is the same, byte for byte, from any store', async () => {
  const [a, b] = [storeIn('a'), storeIn('b')];
  const { digest } = await smallImage(a);
  await smallImage(b);
  const read = async (store: typeof a) =>
    Buffer.concat(await collect(await store.oci.export(digest, { format: 'oci' })));
  expect((await read(a)).equals(await read(b))).toBe(true);
});

test('a compressed archive holds exactly the plain one', async () => {
  const store = storeIn('a');
  const { digest } = await smallImage(store);
  const plain = await readFile(await exportTo(store, digest, 'docker'));
  expect(gunzipSync(await readFile(await exportTo(store, digest, 'docker', true))).equals(plain)).toBe(true);
});

test('an OCI layout folder is taken in, and one of several images by its name', async () => {
  const [from, to] = [storeIn('from'), storeIn('to')];
  const first = await exportTo(from, (await smallImage(from, 'first')).digest, 'oci');
  const layout = join(dir, 'layout');
  await mkdir(layout);
  await output({ command: 'tar', args: ['-xf', first, '-C', layout] });
  expect((await to.oci.import({ from: 'archive', path: layout, name: '3' }, quiet)).config).toEqual(config);
  await expect(to.oci.import({ from: 'archive', path: layout, name: 'other' }, quiet)).rejects.toThrow(
    /no image named "other"; it has/,
  );
});

/** What `docker save` of an older engine looks like, with layers compressed as registries keep them. */
async function foreignLayout(
  layers: { tar: Buffer; stored: Buffer; mediaType?: string; urls?: string[]; diffId?: string }[],
  architecture = 'amd64',
) {
  const layout = join(dir, 'foreign');
  const blobs = join(layout, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (content: Buffer, mediaType: string) => {
    const hex = createHash('sha256').update(content).digest('hex');
    await writeFile(join(blobs, hex), content);
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  };
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const descriptors = [];
  for (const { stored, mediaType = 'application/vnd.oci.image.layer.v1.tar', urls } of layers) {
    descriptors.push({ ...(await put(stored, mediaType)), ...(urls ? { urls } : {}) });
  }
  const diffIds = layers.map(({ tar, diffId }) => diffId ?? `sha256:${createHash('sha256').update(tar).digest('hex')}`);
  const history = [{ created_by: 'RUN login --password hunter2' }];
  const document = {
    architecture,
    os: 'linux',
    config: { Env: ['A=b'], Cmd: ['sh'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
    history,
  };
  const configuration = await put(json(document), 'application/vnd.oci.image.config.v1+json');
  const manifest = await put(
    json({ schemaVersion: 2, config: configuration, layers: descriptors }),
    'application/vnd.oci.image.manifest.v1+json',
  );
  await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(layout, 'index.json'), json({ schemaVersion: 2, manifests: [manifest] }));
  return { path: layout, blobs, descriptors };
}

const layerTar = rawTar({ name: 'hello', content: 'world' });

test('compressed layers are stored unpacked, and the history of a foreign image stays outside', async () => {
  const other = rawTar({ name: 'second', content: 'x'.repeat(10_000) });
  const { path } = await foreignLayout([
    { tar: layerTar, stored: gzipSync(layerTar), mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' },
    { tar: other, stored: zstdCompressSync(other), mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd' },
  ]);
  const store = storeIn('to');
  const image = await store.oci.import({ from: 'archive', path }, quiet);
  expect(await readFile(store.bytes.path(image.layers[0]!.digest))).toEqual(layerTar);
  expect(await readFile(store.bytes.path(image.layers[1]!.digest))).toEqual(other);
  const { digest } = await store.oci.writeImage(image);
  const all = await Promise.all(
    (await readdir(join(dir, 'to', 'blobs', 'sha256'))).map((name) =>
      readFile(join(dir, 'to', 'blobs', 'sha256', name), 'utf8'),
    ),
  );
  expect(all.join()).not.toContain('hunter2');
  expect((await store.oci.readImage(digest)).config.env).toEqual({ A: 'b' });
});

test('a layer that is not what its digest says is refused and not kept', async () => {
  const { path, blobs, descriptors } = await foreignLayout([{ tar: layerTar, stored: layerTar }]);
  await writeFile(join(blobs, descriptors[0]!.digest.slice(7)), rawTar({ name: 'hello', content: 'evil!' }));
  const store = storeIn('to');
  await expect(store.oci.import({ from: 'archive', path }, quiet)).rejects.toThrow(/where sha256:.* was promised/);
  expect((await readdir(join(dir, 'to', 'blobs', 'sha256'))).filter((name) => !name.startsWith('.'))).toEqual([]);
});

test('a layer whose content is not what the configuration says is refused', async () => {
  const { path } = await foreignLayout([
    { tar: layerTar, stored: gzipSync(layerTar), diffId: `sha256:${'0'.repeat(64)}` },
  ]);
  await expect(storeIn('to').oci.import({ from: 'archive', path }, quiet)).rejects.toThrow(/where sha256:0000/);
});

test('a layer that is longer than announced is refused', async () => {
  const { path } = await foreignLayout([{ tar: layerTar, stored: layerTar }]);
  const index = JSON.parse(await readFile(join(path, 'index.json'), 'utf8'));
  const manifestFile = join(path, 'blobs/sha256', index.manifests[0].digest.slice(7));
  const manifest = JSON.parse(await readFile(manifestFile, 'utf8'));
  manifest.layers[0].size = 100;
  const changed = Buffer.from(JSON.stringify(manifest));
  const digest = `sha256:${createHash('sha256').update(changed).digest('hex')}`;
  await writeFile(join(path, 'blobs/sha256', digest.slice(7)), changed);
  await writeFile(
    join(path, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ digest, size: changed.length }] }),
  );
  await expect(storeIn('to').oci.import({ from: 'archive', path }, quiet)).rejects.toThrow(/longer than the 100 bytes/);
});

test('foreign layers are refused', async () => {
  const { path } = await foreignLayout([{ tar: layerTar, stored: layerTar, urls: ['http://169.254.169.254/latest'] }]);
  await expect(storeIn('to').oci.import({ from: 'archive', path }, quiet)).rejects.toMatchObject({
    reason: 'image.base-invalid',
  });
});

test('an image for another machine is refused', async () => {
  const { path } = await foreignLayout([{ tar: layerTar, stored: layerTar }], 's390x');
  await expect(storeIn('to').oci.import({ from: 'archive', path }, quiet)).rejects.toThrow(
    /made for linux\/s390x, where linux\/amd64 is needed/,
  );
});

test('a hostile layer is refused when it comes in', async () => {
  const hostile = rawTar({ name: '../escape', content: 'x' });
  const { path } = await foreignLayout([{ tar: hostile, stored: hostile }]);
  const store = storeIn('to');
  for (const _ of ['first', 'second time, when its bytes may be there']) {
    await expect(store.oci.import({ from: 'archive', path }, quiet)).rejects.toMatchObject({
      reason: 'archive.invalid',
    });
  }
});

test('a damaged compressed layer is refused', async () => {
  const damaged = gzipSync(layerTar);
  const { path } = await foreignLayout([{ tar: layerTar, stored: damaged.subarray(0, damaged.length - 20) }]);
  await expect(storeIn('to').oci.import({ from: 'archive', path }, quiet)).rejects.toMatchObject({
    reason: 'archive.invalid',
  });
});

test.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)('a %s bomb is stopped by its ratio, and one that is too large by its size', async (_, compress) => {
  const bomb = compress(Buffer.alloc(8 * 1024 * 1024));
  const { bytes, cacheDir } = storeIn('to');
  const importing = { bytes, platform, workDir: cacheDir, log: () => {} };
  const source = async function* () {
    yield bomb;
  };
  const byRatio = { ...plainLimit, ratioFromBytes: 1024 * 1024 };
  await expect(importRootFilesystem(source(), { ...importing, limit: byRatio })).rejects.toThrow(
    /more than 500 times its size/,
  );
  const bySize = { ...plainLimit, sizeBytes: 1024 * 1024 };
  await expect(importRootFilesystem(source(), { ...importing, limit: bySize })).rejects.toThrow(
    /more than 1,048,576 bytes/,
  );
});

test('links in a layout folder cannot lead out of it', async () => {
  const { path, blobs, descriptors } = await foreignLayout([{ tar: layerTar, stored: layerTar }]);
  const blob = join(blobs, descriptors[0]!.digest.slice(7));
  await writeFile(join(dir, 'elsewhere'), layerTar);
  await rm(blob);
  await output({ command: 'ln', args: ['-s', join(dir, 'elsewhere'), blob] });
  const { bytes, cacheDir } = storeIn('to');
  await expect(importArchive(path, undefined, { bytes, platform, workDir: cacheDir, log: () => {} })).rejects.toThrow(
    /lies outside of it/,
  );
});

test.each([
  ['index.json', '{"schemaVersion":2,"manifests":[]}'],
  ['index.json', '{"manifests":{"__proto__":1}}'],
  ['index.json', '{"schemaVersion":2,"manifests":[],"layers":[]}'],
  ['index.json', 'no json'],
  ['index.json', ' '.repeat(5 * 1024 * 1024)],
])('a layout with a bad %s is refused', async (name, content) => {
  const { path } = await foreignLayout([{ tar: layerTar, stored: layerTar }]);
  await writeFile(join(path, name), content);
  await expect(storeIn('to').oci.import({ from: 'archive', path }, quiet)).rejects.toMatchObject({
    reason: 'image.base-invalid',
  });
});

test('a docker-save archive cannot name files outside of itself', async () => {
  const manifest = JSON.stringify([{ Config: '../../etc/passwd', RepoTags: [], Layers: [] }]);
  const path = join(dir, 'save.tar');
  await writeFile(path, rawTar({ name: 'manifest.json', content: manifest }));
  await expect(storeIn('to').oci.import({ from: 'archive', path }, quiet)).rejects.toThrow(/has the part ".."/);
});

test('layers of an old docker-save archive may be links to each other', async () => {
  const diffId = `sha256:${createHash('sha256').update(layerTar).digest('hex')}`;
  const document = JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { diff_ids: [diffId, diffId] } });
  const manifest = JSON.stringify([{ Config: 'c.json', RepoTags: null, Layers: ['a/layer.tar', 'b/layer.tar'] }]);
  const path = join(dir, 'save.tar');
  const members = [
    { name: 'a/layer.tar', content: layerTar },
    { name: 'b/layer.tar', type: '2', link: '../a/layer.tar' },
    { name: 'c.json', content: document },
    { name: 'manifest.json', content: manifest },
  ];
  await writeFile(path, rawTar(...members));
  const image = await storeIn('to').oci.import({ from: 'archive', path }, quiet);
  expect(image.layers.map((layer) => layer.digest)).toEqual([diffId, diffId]);
});

test('a tar of something else is no image', async () => {
  const path = join(dir, 'x.tar');
  await writeFile(path, layerTar);
  const refusal = storeIn('to').oci.import({ from: 'archive', path }, quiet);
  await expect(refusal).rejects.toMatchObject({ reason: 'image.base-invalid' });
});

test('a root filesystem tar becomes an image of one layer', async () => {
  const path = join(dir, 'rootfs.tar.gz');
  const tar = rawTar({ name: './usr/bin/env', content: 'x' });
  await writeFile(path, gzipSync(tar));
  const image = await storeIn('to').oci.import({ from: 'archive', path }, quiet);
  expect(image.layers).toMatchObject([{ sizeBytes: tar.length }]);
  expect(image.config.env.PATH).toContain('/usr/bin');
});

test('many who ask for a root at once get one, and it is complete', async () => {
  const store = storeIn('a');
  const { digest } = await smallImage(store);
  const other = new OciImages({ ...store, platform, outbound: () => ({ allowedHosts: [] }), registries: () => [] });
  const roots = await Promise.all([store.oci, other, store.oci, other].map((oci) => oci.rootFor(digest)));
  expect(new Set(roots.map((root) => root.path)).size).toBe(1);
  expect(roots[0]!.config).toEqual(config);
  expect(await readFile(join(roots[0]!.path, 'app/score.py'), 'utf8')).toBe('hello');
  expect(await readdir(join(store.cacheDir, 'roots'))).toEqual([digest.slice(7)]);
});

test('who gives up unpacking does not stop the others', async () => {
  const store = storeIn('a');
  const { digest } = await smallImage(store);
  const abort = new AbortController();
  const canceled = store.oci.rootFor(digest, abort.signal);
  const other = store.oci.rootFor(digest);
  abort.abort();
  await expect(canceled).rejects.toThrow();
  expect(await readFile(join((await other).path, 'etc/os'), 'utf8')).toBe('base');
});

const allUnused = { before: Date.now() + 60_000, isInUse: () => false, dryRun: false };

test('roots share the files of the layers they have in common, and let go of them when deleted', async () => {
  const store = storeIn('a');
  const [one, two] = [await smallImage(store, 'one'), await smallImage(store, 'two')];
  const paths = [(await store.oci.rootFor(one.digest)).path, (await store.oci.rootFor(two.digest)).path];
  const inodes = await Promise.all(paths.map(async (path) => (await stat(join(path, 'etc/os'))).ino));
  expect(inodes[0]).toBe(inodes[1]);
  await store.oci.sweepRoots([two.digest], allUnused);
  expect(await readdir(join(store.cacheDir, 'roots'))).toEqual([two.digest.slice(7)]);
  expect(await readdir(join(store.cacheDir, 'layers'))).toHaveLength(2);
  expect(await readFile(join(paths[1]!, 'etc/os'), 'utf8')).toBe('base');
});

test('what a killed unpacking left behind is no root', async () => {
  const store = storeIn('a');
  const { digest } = await smallImage(store);
  await mkdir(join(store.cacheDir, 'roots', '.partial-x', 'root'), { recursive: true });
  await mkdir(join(store.cacheDir, 'layers', '.partial-y'), { recursive: true });
  expect(await readdir((await store.oci.rootFor(digest)).path)).toEqual(['app', 'etc']);
  await store.oci.sweepRoots([digest], allUnused);
  expect(await readdir(join(store.cacheDir, 'roots'))).toEqual([digest.slice(7)]);
  expect(await readdir(join(store.cacheDir, 'layers'))).toHaveLength(2);
});
