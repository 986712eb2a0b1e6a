import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Caller } from '../access/access.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { migrations } from '../stores.ts';
import { Datastores } from './datastores.ts';

const user: Caller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't' };
const datastore = 'workspacestore';
const contents = new Map<string, string>();
let scratch: ScratchDatabase;
let datastores: Datastores;
let workspace = '';

beforeAll(async () => {
  scratch = await scratchDatabase(migrations);
  datastores = new Datastores({
    db: scratch.db,
    now: Date.now,
    folderOf,
    async contentOf(_, digest) {
      const content = contents.get(digest);
      if (content === undefined) throw new ServiceError('not-found', 'blob.not-found', 'It has not been uploaded.');
      return {
        sizeBytes: content.length,
        open: async function* () {
          yield Buffer.from(content);
        },
      };
    },
    mayUse: async (caller, store, path, way) =>
      `${caller.run} ${store} ${path} ${way}` === 'r1 workspacestore in/a read',
  });
});
afterAll(() => scratch[Symbol.asyncDispose]());
beforeEach(async () => {
  workspace = `w${randomBytes(4).toString('hex')}`;
  await datastores.createDefault(workspace, datastore);
});

function folderOf(name: string): string {
  return join(scratch.folder, 'datastores', name);
}

function put(path: string, content = path, overwrite = false, caller: Caller = user) {
  const digest = `sha256:${Buffer.from(content).toString('hex')}`;
  contents.set(digest, content);
  return datastores.putFile({ workspace, datastore, path, digest, overwrite }, caller);
}

test('a workspace has one default datastore, however often it is created', async () => {
  await datastores.createDefault(workspace, datastore);
  const { items } = await datastores.list({ workspace });
  expect(items).toEqual([{ name: datastore, kind: 'local', isDefault: true, createdAt: expect.any(String) }]);
  expect(await datastores.get({ workspace: workspace.toUpperCase(), datastore: 'WorkspaceStore' })).toEqual(items[0]);
  await expect(datastores.get({ workspace, datastore: 'other' })).rejects.toMatchObject({
    code: 'not-found',
    reason: 'datastore.not-found',
  });
});

test('files are put, downloaded, listed and deleted', async () => {
  expect(await put('data/a.csv', 'hello')).toMatchObject({ path: 'data/a.csv', sizeBytes: 5 });
  const download = await datastores.getFile({ workspace, datastore, path: 'data/a.csv' }, user, { range: 'bytes=1-' });
  expect(download).toMatchObject({ filename: 'a.csv', range: { start: 1, end: 5, total: 5 }, sizeBytes: 4 });
  expect(await text(download.stream)).toBe('ello');
  const listed = await datastores.listFiles({ workspace, datastore, prefix: 'data/' }, user);
  expect(listed.items.map(({ path }) => path)).toEqual(['data/a.csv']);
  expect(await datastores.deleteFiles({ workspace, datastore, path: 'data' })).toEqual({ deleted: 1 });
  for (const action of [
    () => datastores.deleteFiles({ workspace, datastore, path: 'data' }),
    () => datastores.getFile({ workspace, datastore, path: 'data/a.csv' }, user),
  ])
    await expect(action()).rejects.toMatchObject({ code: 'not-found', reason: 'datastore.file-not-found' });
});

test('an empty file is downloaded', async () => {
  await put('empty', '');
  const { stream, sizeBytes } = await datastores.getFile({ workspace, datastore, path: 'empty' }, user);
  expect(sizeBytes).toBe(0);
  expect(await text(stream)).toBe('');
});

test('a path that is taken is refused unless it is to be overwritten', async () => {
  await put('a', 'one');
  await expect(put('a', 'two')).rejects.toMatchObject({ code: 'conflict', reason: 'datastore.path-taken' });
  expect(await put('a', 'three', true)).toMatchObject({ sizeBytes: 5 });
  await expect(put('a/b', 'x', true)).rejects.toMatchObject({ reason: 'datastore.path-taken' });
});

test('what was not uploaded cannot be put', async () => {
  const input = { workspace, datastore, path: 'a', digest: 'sha256:none', overwrite: false };
  await expect(datastores.putFile(input, user)).rejects.toMatchObject({ reason: 'blob.not-found' });
});

test('pages of a list join without a gap, also while files come and go', async () => {
  for (let i = 0; i < 25; i++) await put(`f/${String(i).padStart(2, '0')}`);
  const found: string[] = [];
  let page: string | undefined;
  do {
    const answer = await datastores.listFiles({ workspace, datastore, pageSize: 4, ...(page && { page }) }, user);
    found.push(...answer.items.map(({ path }) => path));
    page = answer.nextPage;
    if (found.length === 8) await datastores.deleteFiles({ workspace, datastore, path: 'f/07' });
  } while (page !== undefined);
  expect(found).toEqual(Array.from({ length: 25 }, (_, i) => `f/${String(i).padStart(2, '0')}`));
});

test.each([
  '../x',
  'a/../../x',
  '..',
  '.',
  '/etc/passwd',
  'C:\\x',
  'c:x',
  '..\\x',
  '\\\\host\\share',
  'a\0b',
  'a//b',
  './a',
  'x'.repeat(256),
  'x/'.repeat(3_000),
  '\ud800',
])('the path %.40j is refused by every verb', async (path) => {
  const refusal = { code: 'invalid-argument', reason: 'path.invalid' };
  await expect(put(path, 'x')).rejects.toMatchObject(refusal);
  await expect(datastores.getFile({ workspace, datastore, path }, user)).rejects.toMatchObject(refusal);
  await expect(datastores.deleteFiles({ workspace, datastore, path })).rejects.toMatchObject(refusal);
  await expect(datastores.listFiles({ workspace, datastore, prefix: path }, user)).rejects.toMatchObject(refusal);
});

test("a run's token does what its data references say, and nothing else", async () => {
  const run: Caller = { kind: 'run', workspace, run: 'r1', attempt: 1, user: 'ada' };
  await put('in/a');
  const { stream } = await datastores.getFile({ workspace, datastore, path: 'in/a' }, run);
  expect(await text(stream)).toBe('in/a');
  expect((await datastores.listFiles({ workspace, datastore, prefix: 'in/a' }, run)).items).toHaveLength(1);
  const refusal = { code: 'permission-denied', reason: 'access.run-token-scope' };
  await expect(put('in/a', 'x', true, run)).rejects.toMatchObject(refusal);
  await expect(datastores.getFile({ workspace, datastore, path: 'b' }, run)).rejects.toMatchObject(refusal);
  await expect(datastores.listFiles({ workspace, datastore }, run)).rejects.toMatchObject(refusal);
});

test('with its workspace, the files of the default datastore go', async () => {
  await put('a');
  expect(existsSync(join(folderOf(workspace), 'a'))).toBe(true);
  await datastores.destroyDefault(workspace);
  await datastores.destroyDefault(workspace);
  expect(existsSync(folderOf(workspace))).toBe(false);
});
