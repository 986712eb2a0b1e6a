import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { damaged, mutated, valueOrRefusal } from '@stellwerk/contract/mutated.fixture.ts';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { openArchive } from './archive-files.ts';
import { decompressed } from './decompress.ts';
import { parseDockerManifest } from './docker-archive.ts';
import { collect, rawTar } from './hostile-tar.ts';
import { configOf, mediaTypes, parseConfig, parseManifest, platformOf } from './manifest.ts';
import { placesOf } from './registry-reference.ts';

const folder = mkdtempSync(join(tmpdir(), 'oci-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const numRuns = 2_000;
const digest = `sha256:${'a'.repeat(64)}`;

test('a reference to an image, whatever became of it, names a host, a repository and a manifest, or is refused', async () => {
  const samples = ['python:3.11-slim', 'registry.example.org:5000/team/app:1.2', `[::1]:5000/a@${digest}`];
  await fc.assert(
    fc.asyncProperty(mutated(...samples), async (text) => {
      for (const place of (await valueOrRefusal(() => placesOf(text, ['registry.example.org/mirror']))) ?? []) {
        const path = `/v2/${place.repository}/manifests/${place.manifest}`;
        const url = new URL(`https://${place.registry}${path}`);
        expect([url.pathname, url.username, url.password, url.search, url.hash]).toEqual([path, '', '', '', '']);
      }
    }),
    { numRuns },
  );
});

test('manifests, indexes and configurations, whatever became of them, are read or refused', async () => {
  const descriptor = { mediaType: mediaTypes.layer, digest, size: 1 };
  const manifest = { schemaVersion: 2, mediaType: mediaTypes.manifest, config: descriptor, layers: [descriptor] };
  const index = {
    schemaVersion: 2,
    manifests: [{ ...descriptor, platform: { os: 'linux', architecture: 'amd64' } }],
  };
  const config = {
    os: 'linux',
    architecture: 'amd64',
    config: { Env: ['PATH=/bin'], Cmd: ['sh'], WorkingDir: '/', Labels: { a: 'b' } },
    rootfs: { type: 'layers', diff_ids: [digest] },
    history: [{ created_by: 'x' }],
  };
  const texts = [manifest, index, config].map((one) => JSON.stringify(one));
  await fc.assert(
    fc.asyncProperty(mutated(...texts), async (text) => {
      const bytes = Buffer.from(text);
      await valueOrRefusal(() => parseManifest(bytes));
      const read = await valueOrRefusal(() => parseConfig(bytes));
      if (read) await valueOrRefusal(() => [configOf(read), platformOf(read)]);
    }),
    { numRuns },
  );
});

test('documents that are nested without end, on which V8 breaks, are refused', async () => {
  const closed = `{"schemaVersion":2,"manifests":[],"rootfs":{"diff_ids":[]},"x":${'['.repeat(2_000)}${']'.repeat(2_000)}}`;
  for (const text of [closed, `${'["prop",'.repeat(30_000)}"key","value"]`, '{"a":'.repeat(30_000)]) {
    const bytes = Buffer.from(text);
    expect(() => parseManifest(bytes)).toThrow(/is no JSON document/);
    expect(() => parseConfig(bytes)).toThrow(/is no JSON document/);
    expect(() => parseDockerManifest(bytes, undefined)).toThrow(/not as docker writes it/);
  }
});

test('the manifest of a docker-save archive, whatever became of it, names an image or is refused', async () => {
  const sample = JSON.stringify([{ Config: 'a.json', RepoTags: ['a:1'], Layers: ['b/layer.tar', 'c/layer.tar'] }]);
  await fc.assert(
    fc.asyncProperty(mutated(sample), fc.constantFrom('a:1', undefined), async (text, name) => {
      const entry = await valueOrRefusal(() => parseDockerManifest(Buffer.from(text), name));
      for (const path of entry ? [entry.config, ...entry.layers] : [])
        expect(path.startsWith('/') || path.split('/').includes('..'), path).toBe(false);
    }),
    { numRuns },
  );
});

test('compressed bytes, whatever became of them, unpack to what is allowed or are refused', async () => {
  const content = Buffer.alloc(200_000, 'stellwerk ');
  for (const sample of [gzipSync(content), zstdCompressSync(content)]) {
    await fc.assert(
      fc.asyncProperty(damaged(sample), async (bytes) => {
        const limit = { sizeBytes: 300_000, ratio: 500, ratioFromBytes: 100_000_000 };
        const parts = await valueOrRefusal(() => collect(decompressed(inOnePart(bytes), limit)));
        expect(Buffer.concat(parts ?? []).length).toBeLessThanOrEqual(limit.sizeBytes);
      }),
      { numRuns: 150 },
    );
  }
});

async function* inOnePart(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

test.each([
  ['gzip', gzipSync(Buffer.alloc(200 * 1024 * 1024), { level: 9 })],
  ['zstd', zstdCompressSync(Buffer.alloc(200 * 1024 * 1024))],
])('a bomb of %s is refused before it is unpacked', async (_, bomb) => {
  let unpacked = 0;
  const unpack = async () => {
    for await (const part of decompressed(inOnePart(bomb))) unpacked += part.length;
  };
  await expect(unpack()).rejects.toMatchObject({ reason: 'archive.invalid' });
  expect(unpacked).toBeLessThan(100 * 1024 * 1024);
});

test('an archive of an image, whatever became of it, gives files of its own or is refused', async () => {
  const sound = rawTar(
    { name: 'manifest.json', content: '[]' },
    { name: 'blobs/sha256/a', content: 'x' },
    { name: 'link', type: '2', link: '/etc/passwd' },
    { name: 'hard', type: '1', link: '../../etc/passwd' },
  );
  await fc.assert(
    fc.asyncProperty(damaged(sound), async (bytes) => {
      const file = join(folder, 'image.tar');
      writeFileSync(file, bytes);
      await valueOrRefusal(async () => {
        await using files = await openArchive(file, folder);
        for (const name of ['manifest.json', 'link', 'hard', 'blobs/sha256/a']) {
          if ((await files.sizeOf(name)) === undefined) continue;
          expect(Buffer.concat(await collect(files.read(name))).toString()).not.toContain('root:');
        }
      });
    }),
    { numRuns: 200 },
  );
});
