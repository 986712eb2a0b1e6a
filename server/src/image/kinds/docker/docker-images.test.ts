import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Digest } from '../../../blob/bytes.ts';
import { type LayerDescriptor, LayoutBytes, OciImages } from '../../../oci/oci-images.ts';
import { buildDockerImage } from './docker-images.ts';
import { folderLayer } from './folder-layer.ts';
import type { LayerPlan } from './image-layers.ts';

const platform = { os: 'linux', architecture: 'amd64' };
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'image-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** A data folder with a base image, and everything that a build needs. */
async function fresh(name: string) {
  const bytes = new LayoutBytes(join(dir, name));
  const oci = new OciImages({
    bytes,
    cacheDir: join(dir, `${name} cache`),
    platform,
    outbound: () => ({ allowedHosts: [] }),
    registries: () => [],
  });
  const cache = new Map<string, LayerDescriptor>();
  const layerCache = {
    get: async (key: string) => cache.get(key),
    put: async (key: string, layer: LayerDescriptor) => void cache.set(key, layer),
  };
  const made: string[] = [];
  const needs = { oci, bytes, layerCache, log: (line: string) => made.push(line) };
  const store = async (content: Uint8Array | string): Promise<Digest> => {
    const source = async function* () {
      yield Buffer.from(content);
    };
    return (await bytes.write(source())).digest;
  };
  const layer = await oci.writeLayer([
    { path: 'usr/bin/python3', mode: 0o755, source: { bytes: Buffer.from('python') } },
  ]);
  const base = {
    platform,
    layers: [{ ...layer, note: 'base' }],
    config: {
      env: { PATH: '/usr/bin', LANG: 'C' },
      entrypoint: [],
      command: ['python3'],
      workingDir: '/',
      user: '',
      labels: {},
      exposedPorts: [],
    },
  };
  return { bytes, oci, cache, needs, store, base, log: () => made.splice(0) };
}

const model = randomBytes(1_000_000);
const environment: LayerPlan = {
  note: 'environment',
  key: 'environment:lock-hash',
  entries: () => [{ path: 'opt/env/six.py', mode: 0o644, source: { bytes: Buffer.from('six') } }],
};

async function build(data: Awaited<ReturnType<typeof fresh>>, score = 'def init(): pass', weights: Uint8Array = model) {
  const input = {
    base: data.base,
    layers: [environment],
    models: [
      { name: 'diabetes', version: 1, files: [{ path: 'ridge.pkl', digest: await data.store(weights) }] },
      {
        name: 'Straße nach Süden',
        version: 12,
        files: [
          { path: 'b/zwei.txt', digest: await data.store('2') },
          { path: 'a.txt', digest: await data.store('1') },
        ],
      },
    ],
    code: [
      { path: 'score.py', digest: await data.store(score) },
      { path: 'lib/start.sh', digest: await data.store('#!/bin/sh'), executable: true },
    ],
    config: { entrypoint: ['/opt/env/bin/python'], env: { STELLWERK_ENTRY: 'score.py' }, labels: { by: 'test' } },
  };
  return await buildDockerImage(input, data.needs);
}

test('two fresh folders at different paths make the same image, bit for bit', async () => {
  const one = await build(await fresh('one'));
  const two = await build(await fresh('Zweiter Ordner/tief ü'));
  expect(two).toEqual(one);
  expect(one.layers.map((layer) => layer.note)).toEqual([
    'base',
    'environment',
    'model diabetes:1',
    'model Straße nach Süden:12',
    'code',
  ]);
});

test('models and code lie where they belong, and a container starts as it should', async () => {
  const data = await fresh('one');
  const { path, config } = await data.oci.rootFor((await build(data)).digest);
  expect(await readFile(join(path, 'var/stellwerk/models/diabetes/1/ridge.pkl'))).toEqual(model);
  expect(await readFile(join(path, 'var/stellwerk/models/Straße nach Süden/12/b/zwei.txt'), 'utf8')).toBe('2');
  expect(await readFile(join(path, 'var/stellwerk/app/score.py'), 'utf8')).toBe('def init(): pass');
  expect(config).toEqual({
    env: {
      PATH: '/usr/bin',
      LANG: 'C',
      AZUREML_MODEL_DIR: '/var/stellwerk/models',
      STELLWERK_APP_DIR: '/var/stellwerk/app',
      STELLWERK_ENTRY: 'score.py',
    },
    entrypoint: ['/opt/env/bin/python'],
    command: [],
    workingDir: '/var/stellwerk/app',
    user: '',
    labels: { by: 'test' },
    exposedPorts: [],
  });
});

test('a changed script makes the code layer anew and takes all others from the cache', async () => {
  const data = await fresh('one');
  const before = await build(data);
  data.log();
  const after = await build(data, 'def init(): raise SystemExit');
  expect(data.log().filter((line) => /^Layer .*: made/.test(line))).toEqual([
    expect.stringMatching(/^Layer code: made/),
  ]);
  expect(after.digest).not.toBe(before.digest);
  expect(after.layers.slice(0, -1)).toEqual(before.layers.slice(0, -1));
});

test('a changed model makes its layer anew, and no other', async () => {
  const data = await fresh('one');
  await build(data);
  data.log();
  await build(data, undefined, randomBytes(1_000));
  expect(data.log().filter((line) => line.includes(': made'))).toEqual([
    expect.stringMatching(/^Layer model diabetes:1/),
  ]);
});

test('a cached layer whose bytes are gone is made again, to the same digest', async () => {
  const data = await fresh('one');
  const before = await build(data);
  await rm(data.bytes.path(before.layers.at(-1)!.digest));
  expect(await build(data)).toEqual(before);
});

test('a full cache and an empty one give the same image', async () => {
  const data = await fresh('one');
  const before = await build(data);
  data.cache.clear();
  expect(await build(data)).toEqual(before);
});

test('nothing of where an image was built is in its documents', async () => {
  const data = await fresh('secret-place');
  const { digest } = await build(data);
  const manifest = await readFile(data.bytes.path(digest), 'utf8');
  const config = await readFile(data.bytes.path(JSON.parse(manifest).config.digest), 'utf8');
  expect(manifest + config).not.toMatch(/secret-place|\/tmp\//);
});

test.each(['../escape', '/etc/passwd', 'a/../../b', 'a\0b'])('a file placed at %j is refused', async (path) => {
  const data = await fresh('one');
  const code = [{ path, digest: await data.store('x') }];
  const input = { base: data.base, layers: [], models: [], code, config: {} };
  await expect(buildDockerImage(input, data.needs)).rejects.toMatchObject({
    reason: /\0|\.\.|^\//.test(path) ? 'archive.invalid' : '',
  });
});

test('a canceled build stops and leaves no image', async () => {
  const data = await fresh('one');
  const input = { base: data.base, layers: [environment], models: [], code: [], config: {} };
  await expect(buildDockerImage(input, { ...data.needs, signal: AbortSignal.abort() })).rejects.toThrow();
  expect(data.log()).toEqual([]);
});

test("a folder's layer depends on what is in it, not on where it lies or when it was written", async () => {
  const data = await fresh('one');
  const digests = [];
  for (const [place, time] of [
    ['x', 1],
    ['y z', 1_000_000_000],
  ] as const) {
    const folder = join(dir, place, 'scorer');
    await mkdir(join(folder, 'package/__pycache__'), { recursive: true });
    await writeFile(join(folder, 'serve.py'), 'serve', { mode: place === 'x' ? 0o600 : 0o666 });
    await writeFile(join(folder, `package/__pycache__/${place}.pyc`), place);
    await utimes(join(folder, 'serve.py'), time, time);
    const plan = await folderLayer('scorer', folder, 'opt/stellwerk/scorer');
    digests.push([plan.key, (await data.oci.writeLayer(await plan.entries())).digest]);
  }
  expect(digests[0]).toEqual(digests[1]);
  await writeFile(join(dir, 'x/scorer/serve.py'), 'other');
  expect((await folderLayer('scorer', join(dir, 'x/scorer'), 'opt/stellwerk/scorer')).key).not.toBe(digests[0]![0]);
});
