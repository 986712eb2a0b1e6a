// Delete frees bytes: what is deleted lies in the trash, can be restored, and is gone when the trash is emptied; a collection gives its bytes back.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Collection } from '@stellwerk/contract/server.ts';
import type { TrashEntry } from '@stellwerk/contract/trash.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { asked, typed } from './typing.ts';

/** Of its own: what other servers of this machine keep must not be collected. */
const cache = mkdtempSync(join(tmpdir(), 'stellwerk-cache-'));
let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start([], { XDG_CACHE_HOME: cache });
});
afterAll(async () => {
  await installation?.[Symbol.asyncDispose]();
  rmSync(cache, { recursive: true, force: true });
});

const ask = <T>(...args: string[]) => asked<T>(installation, ...args);
const workspace = () => installation.workspace;
const megabyte = 1024 * 1024;
const store = () => join(installation.folder, 'data', 'blobs', 'sha256');

/** What lies in the store, by name. */
function stored(): Map<string, number> {
  const files = readdirSync(store(), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(files.map(({ parentPath, name }) => [name, statSync(join(parentPath, name)).size]));
}
const storedBytes = () => [...stored().values()].reduce((sum, size) => sum + size, 0);

async function upload(content: Buffer): Promise<string> {
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
  const given = { workspace: workspace(), digest, sizeBytes: content.length };
  await installation.client.blobs.append(given, new Uint8Array(content));
  return digest;
}

async function runWith(id: string, files: Record<string, Buffer>): Promise<void> {
  const { client } = installation;
  await client.runs.start({ workspace: workspace(), id, experiment: 'large' });
  for (const [path, content] of Object.entries(files))
    await client.runs.putFile({ workspace: workspace(), run: id, path, digest: await upload(content) });
  await client.runs.report({ workspace: workspace(), run: id, attempt: 1, state: 'completed' });
}

const collect = (...args: string[]) => ask<Collection>('server', 'collect-garbage', '--grace-hours', '0', ...args);

test('a run with 50 MB is deleted and restored, deleted again, the trash is emptied: the disk gets its bytes back, and the report says so', async () => {
  const [large, shared] = [randomBytes(50 * megabyte), randomBytes(megabyte)];
  await runWith('heavy', { 'outputs/model.bin': large, 'outputs/shared.bin': shared });
  await runWith('light', { 'outputs/shared.bin': shared });
  const before = storedBytes();

  const entry = await ask<TrashEntry>('run', 'delete', 'heavy');
  expect(entry).toMatchObject({ kind: 'run', name: 'heavy', runs: 1 });
  expect((await collect()).report?.contents).toEqual({ count: 0, sizeBytes: 0 });
  await typed(installation, 'trash', 'restore', String(entry.id));
  const back = await installation.client.runs.getFile({
    workspace: workspace(),
    run: 'heavy',
    path: 'outputs/model.bin',
  });
  expect(Buffer.from(await back.arrayBuffer()).equals(large)).toBe(true);

  const dry = await ask('run', 'delete-many', '--filter', "id = 'heavy'", '--dry-run');
  expect(dry).toMatchObject({ runs: 1, files: 2, sizeBytes: 51 * megabyte, freedBytes: 50 * megabyte });
  const refused = await installation.cli(['run', 'delete-many', '--filter', "id = 'heavy'"]);
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain(
    'Put into the trash: 1 runs, 2 files of 51 MB, of which 50 MB belong to nothing else?',
  );
  await typed(installation, 'run', 'delete-many', '--filter', "id = 'heavy'", '--yes');
  expect(await ask('trash', 'empty', '--dry-run')).toMatchObject({ runs: 1, freedBytes: 50 * megabyte });
  expect(await ask('trash', 'empty', '--yes')).toMatchObject({ runs: 1 });
  expect(storedBytes()).toBe(before);

  const foreseen = await collect('--dry-run');
  expect(foreseen).toMatchObject({ dryRun: true, state: 'succeeded' });
  expect(foreseen.report?.contents).toEqual({ count: 1, sizeBytes: 50 * megabyte });
  expect(storedBytes()).toBe(before);
  const freed = await collect();
  expect(freed.report?.contents).toEqual({ count: 1, sizeBytes: 50 * megabyte });
  expect(freed.report?.freedBytes).toBeGreaterThanOrEqual(50 * megabyte);
  expect(storedBytes()).toBe(before - 50 * megabyte);
  const kept = await installation.client.runs.getFile({
    workspace: workspace(),
    run: 'light',
    path: 'outputs/shared.bin',
  });
  expect(Buffer.from(await kept.arrayBuffer()).equals(shared)).toBe(true);
});

test('the server is killed while it collects, again and again: what is referred to is whole, and the rest is collected in the end', async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  console.log(`seed ${seed}`);
  const { client } = installation;
  const kept = Array.from({ length: 40 }, (_, i) => Buffer.from(`kept ${seed} ${i}`.repeat(50)));
  await runWith('kept', Object.fromEntries(kept.map((content, i) => [`outputs/${i}`, content])));
  let collections = 0;
  for (let round = 0; round < 6; round++) {
    // Contents that nobody refers to, in part the same as those that are kept.
    const loose = Array.from({ length: 400 }, (_, i) => Buffer.from(`loose ${seed} ${round} ${i}`.repeat(20)));
    for (let at = 0; at < loose.length; at += 50) await Promise.all(loose.slice(at, at + 50).map(upload));
    await Promise.all(kept.slice(0, 10).map(upload));
    const begun = await client.server.collectGarbage({ graceHours: 0 });
    await new Promise((resolve) => setTimeout(resolve, ((seed * (round + 1)) % 200) + 5));
    await installation.restart('SIGKILL');
    for (;;) {
      const { endedAt, state } = await installation.client.server.getCollection({ collection: begun.id });
      if (endedAt) {
        expect(state).toBe('succeeded');
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    collections++;
  }
  expect(collections).toBe(6);
  await collect();
  for (const [i, content] of kept.entries()) {
    const got = await installation.client.runs.getFile({ workspace: workspace(), run: 'kept', path: `outputs/${i}` });
    expect(Buffer.from(await got.arrayBuffer()).equals(content), `outputs/${i}`).toBe(true);
  }
  const digests = new Set(kept.map((content) => createHash('sha256').update(content).digest('hex')));
  for (const name of stored().keys()) {
    const content = readFileSync(join(store(), name.slice(0, 2), name));
    expect(createHash('sha256').update(content).digest('hex')).toBe(name);
    if (!digests.has(name)) expect(content.length, 'nothing loose is left').toBe(megabyte); // of the story before
  }
});

test('what a deleted workspace had, and what lies in the store without belonging to anybody, is freed', async () => {
  const { client } = installation;
  await client.workspaces.create({ name: 'short' });
  const content = randomBytes(3 * megabyte);
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
  await client.blobs.append({ workspace: 'short', digest, sizeBytes: content.length }, new Uint8Array(content));
  const before = storedBytes();
  await client.workspaces.delete({ workspace: 'short' });
  const lost = 'ab'.repeat(32);
  const folder = readdirSync(store())[0]!;
  writeFileSync(join(store(), folder, lost.replace(/^../, folder)), 'lost');
  const { report } = await collect();
  expect(report?.orphans).toEqual({ count: 2, sizeBytes: 3 * megabyte + 4 });
  expect(storedBytes()).toBe(before - 3 * megabyte);
});

test('collections are listed, those that began by themselves too', async () => {
  const { items } = await ask<{ items: Collection[] }>('server', 'list-collections');
  expect(items.length).toBeGreaterThan(8);
  expect(
    items.some(({ createdBy }) => createdBy === 'stellwerk'),
    'it collects by itself',
  ).toBe(true);
});

test('without a trash, what is deleted goes at once', async () => {
  await using other = await Installation.start(['--trash-days', '0']);
  const { client } = other;
  await client.runs.start({ workspace: 'story', id: 'r', experiment: 'e' });
  await client.runs.report({ workspace: 'story', run: 'r', attempt: 1, state: 'completed' });
  await client.runs.delete({ workspace: 'story', run: 'r' });
  const isGone = async () =>
    (await client.runs.get({ workspace: 'story', run: 'r' }).catch((error) => error.reason)) === 'run.not-found';
  while (!(await isGone())) await new Promise((resolve) => setTimeout(resolve, 50));
  expect((await client.trash.list({ workspace: 'story' })).items).toEqual([]);
});
