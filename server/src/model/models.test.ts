import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { fromBufferPromise } from 'yauzl';
import type { Caller } from '../access/access.ts';
import { Blobs } from '../blob/blobs.ts';
import { FileBytes } from '../blob/files.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { sql } from '../db/transactions.ts';
import { migrations } from '../stores.ts';
import { type TrashRig, trashRig } from '../trash/trash.fixture.ts';
import { Models } from './models.ts';
import { type FileOfModel, modelTransactions } from './store.ts';

const user: Caller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't' };
let scratch: ScratchDatabase;
let bytes: FileBytes;
let blobs: Blobs;
let models: Models;
let bin: TrashRig;
let workspace = '';
/** What the run r1 left; r1.1 is its child. */
let outputs: FileOfModel[] = [];

beforeAll(async () => {
  scratch = await scratchDatabase(migrations);
  const { db, folder } = scratch;
  bytes = new FileBytes(join(folder, 'blobs'));
  blobs = new Blobs({ db, bytes, folder: join(folder, 'uploads'), now: Date.now });
  bin = trashRig(db, { model: () => models.discarded });
  models = new Models({
    stores: { db, bytes, trash: bin.trash },
    now: Date.now,
    sizeOf: (of, digest, caller) => blobs.sizeOf(of, digest, caller),
    async filesOf(_, run, path) {
      if (!run.startsWith('r1')) return undefined;
      const files = outputs.filter((file) => path && (file.path === path || file.path.startsWith(`${path}/`)));
      return { files, experiment: 'diabetes' };
    },
    within: async (_, ancestor, run) => run === ancestor || run.startsWith(`${ancestor}.`),
  });
});
afterAll(() => scratch[Symbol.asyncDispose]());
beforeEach(async () => {
  workspace = `w${randomBytes(4).toString('hex')}`;
  outputs = [];
  for (const path of ['outputs/model.pkl', 'outputs/net/config.json', 'outputs/net/weights/w.bin', 'outputs/netto'])
    outputs.push({ path, ...(await upload(path)) });
});

async function upload(content: string): Promise<{ digest: string; sizeBytes: number }> {
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
  const sizeBytes = Buffer.byteLength(content);
  await blobs.append({ workspace, digest, offset: 0, sizeBytes }, user, Readable.from([Buffer.from(content)]));
  return { digest, sizeBytes };
}

type Input = Omit<Parameters<Models['register']>[0], 'workspace'>;
const register = (input: Partial<Input> = {}, caller: Caller = user) =>
  models.register({ workspace, name: 'ridge', run: 'r1', path: 'outputs/model.pkl', ...input }, caller);
const get = (version: string, name = 'ridge') => models.get({ workspace, name, version });
const found = async (search: Partial<Parameters<Models['list']>[0]>, caller: Caller = user) =>
  (await models.list({ workspace, ...search }, caller)).items.map(({ id }) => id);

test('a file of a run becomes a model that knows where it came from', async () => {
  const model = await register({
    description: 'first',
    framework: 'scikit-learn',
    frameworkVersion: '1.5',
    tags: { area: 'health', __proto__x: 'y' },
    properties: { mse: '3.1' },
  });
  expect(model).toMatchObject({
    id: 'ridge:1',
    version: 1,
    run: 'r1',
    experiment: 'diabetes',
    path: 'outputs/model.pkl',
    isFolder: false,
    fileCount: 1,
    sizeBytes: 17,
    createdBy: 'ada',
    tags: { area: 'health', __proto__x: 'y' },
    properties: { mse: '3.1' },
    aliases: [],
    images: [],
  });
  expect(model.files).toEqual([{ ...outputs[0], path: 'model.pkl' }]);
  expect(await get('1')).toEqual(model);
  expect(await get('v1')).toEqual(model);
});

test('a folder of a run becomes a model with paths from the folder on', async () => {
  const model = await register({ path: 'outputs/net' });
  expect(model).toMatchObject({ isFolder: true, fileCount: 2 });
  expect(model.files?.map(({ path }) => path)).toEqual(['config.json', 'weights/w.bin']);
});

test('uploaded files become a model, with or without a run to name', async () => {
  const [a, b] = [await upload('weights'), await upload('config')];
  const files = [
    { path: 'm/w', digest: a.digest },
    { path: 'm/c', digest: b.digest },
  ];
  const outside = await models.register({ workspace, name: 'outside', files }, user);
  expect(outside).toMatchObject({ isFolder: true, fileCount: 2, sizeBytes: 13 });
  expect(outside).not.toHaveProperty('run');
  expect(await models.register({ workspace, name: 'outside', files, run: 'r1' }, user)).toMatchObject({
    run: 'r1',
    experiment: 'diabetes',
  });
  const single = await models.register({ workspace, name: 'one', files: [{ path: 'w.bin', digest: a.digest }] }, user);
  expect(single).toMatchObject({ isFolder: false });
});

const none = `sha256:${'0'.repeat(64)}`;
test.each<[string, Partial<Input>, string]>([
  ['a run that is not there', { run: 'other' }, 'run.not-found'],
  ['a path that the run does not have', { path: 'outputs/none' }, 'model.source-missing'],
  ['only a part of a name', { path: 'outputs/ne' }, 'model.source-missing'],
  ['a run without a path', { path: undefined as never }, 'request.invalid'],
  ['a path without a run', { run: undefined as never }, 'request.invalid'],
  ['both files and a path', { files: [{ path: 'a', digest: none }] }, 'request.invalid'],
  ['what was not uploaded', { path: undefined as never, files: [{ path: 'a', digest: none }] }, 'blob.not-found'],
  [
    'a path twice',
    {
      path: undefined as never,
      files: [
        { path: 'a', digest: none },
        { path: 'a', digest: none },
      ],
    },
    'request.invalid',
  ],
  [
    'a file below a file',
    {
      path: undefined as never,
      files: [
        { path: 'a/b', digest: none },
        { path: 'a', digest: none },
      ],
    },
    'request.invalid',
  ],
])('%s is refused', async (_, input, reason) => {
  await expect(register(input)).rejects.toMatchObject({ reason });
  expect(await found({})).toEqual([]);
});

test.each([
  '../x',
  'a/../../x',
  '..',
  '/etc/passwd',
  'C:\\x',
  'c:x',
  '..\\x',
  '\\\\host\\share',
  'a\0b',
  'a//b',
  './a',
  'a/',
  'x'.repeat(256),
  'x/'.repeat(3_000),
  '\ud800',
])('the path %.40j is refused by every verb', async (path) => {
  const refusal = { code: 'invalid-argument', reason: 'path.invalid' };
  await expect(register({ path })).rejects.toMatchObject(refusal);
  const files = [{ path, digest: outputs[0]!.digest }];
  await expect(models.register({ workspace, name: 'm', files }, user)).rejects.toMatchObject(refusal);
  await register();
  const input = { workspace, name: 'ridge', version: '1', path };
  await expect(models.getFile(input)).rejects.toMatchObject(refusal);
});

test('contents of another workspace cannot be registered', async () => {
  const { digest } = await upload('private weights');
  workspace = `${workspace}x`;
  const stolen = models.register({ workspace, name: 'stolen', files: [{ path: 'w', digest }] }, user);
  await expect(stolen).rejects.toMatchObject({ reason: 'blob.not-found' });
});

const discard = (version: string) => models.delete({ workspace, name: 'ridge', version }, user);
/** Deletes it, and empties the trash. */
const erase = async (version: string) => bin.remove(await discard(version));

test('versions count up under each name, also when many register at once', async () => {
  const all = await Promise.all(Array.from({ length: 30 }, () => register()));
  expect(all.map(({ version }) => version).toSorted((a, b) => a - b)).toEqual(
    Array.from({ length: 30 }, (_, i) => i + 1),
  );
  expect(await register({ name: 'Ridge' })).toMatchObject({ id: 'Ridge:1' });
});

test('the number of a deleted version is not given again', async () => {
  for (let i = 0; i < 3; i++) await register();
  for (const version of ['3', '2', '1']) await erase(version);
  await expect(get('latest')).rejects.toMatchObject({ code: 'not-found', reason: 'model.not-found' });
  expect(await register()).toMatchObject({ version: 4 });
  expect(await get('latest')).toMatchObject({ version: 4 });
});

test('a version that is refused takes no number', async () => {
  const files = [{ path: 'a', digest: none }];
  await expect(models.register({ workspace, name: 'ridge', files }, user)).rejects.toThrow();
  expect(await register()).toMatchObject({ version: 1 });
});

test('a model refers to its contents until it is deleted', async () => {
  await register({ path: 'outputs/net' });
  await register({ path: 'outputs/net' });
  const references = async () =>
    (await scratch.db.all(sql.selectFrom('blob_ref').selectAll().where('workspace', '=', workspace))).length;
  expect(await references()).toBe(4);
  await erase('1');
  expect(await references()).toBe(2);
});

test('an alias points at a version, moves, and goes with its version', async () => {
  await register();
  await register();
  const set = (version: number) => models.setAlias({ workspace, name: 'ridge', alias: 'champion', version });
  expect(await set(1)).toMatchObject({ version: 1, aliases: ['champion'] });
  expect(await set(2)).toMatchObject({ version: 2, aliases: ['champion'] });
  expect(await get('champion')).toMatchObject({ version: 2 });
  expect((await get('1')).aliases).toEqual([]);
  await expect(set(9)).rejects.toMatchObject({ reason: 'model.not-found' });
  await erase('champion');
  await expect(get('champion')).rejects.toMatchObject({ reason: 'model.not-found' });
  await set(1);
  await models.deleteAlias({ workspace, name: 'ridge', alias: 'champion' });
  await expect(models.deleteAlias({ workspace, name: 'ridge', alias: 'champion' })).rejects.toMatchObject({
    reason: 'model.alias-not-found',
  });
  const latest = models.setAlias({ workspace, name: 'ridge', alias: 'Latest', version: 1 });
  await expect(latest).rejects.toMatchObject({ reason: 'request.invalid' });
});

test('a reference is a name with a version, an alias or nothing', async () => {
  for (let i = 0; i < 2; i++) await register();
  await register({ name: 'team:ridge' });
  await models.setAlias({ workspace, name: 'ridge', alias: 'champion', version: 1 });
  for (const [reference, id] of [
    ['ridge:1', 'ridge:1'],
    ['ridge', 'ridge:2'],
    ['ridge:latest', 'ridge:2'],
    ['ridge:champion', 'ridge:1'],
    ['team:ridge', 'team:ridge:1'],
    ['team:ridge:1', 'team:ridge:1'],
  ] as const)
    expect(await models.require(workspace, reference)).toMatchObject({ id, fileCount: 1, files: [{}] });
  for (const reference of ['ridge:7', 'ridge:none', 'other', 'ridge:', ':1', ''])
    await expect(models.require(workspace, reference)).rejects.toMatchObject({ reason: 'model.not-found' });
});

test('models are found by name, tag, framework and run, newest first', async () => {
  await register({ tags: { area: 'health', 'a=b': 'c=d' }, framework: 'Scikit-Learn' });
  await register({ tags: { area: 'sales' } });
  await register({ name: 'net', path: 'outputs/net', run: 'r1.1', framework: 'torch', tags: { area: 'health' } });
  expect(await found({})).toEqual(['net:1', 'ridge:2', 'ridge:1']);
  expect(await found({ name: 'ridge' })).toEqual(['ridge:2', 'ridge:1']);
  expect(await found({ tag: ['area'] })).toHaveLength(3);
  expect(await found({ tag: ['area=health'] })).toEqual(['net:1', 'ridge:1']);
  expect(await found({ tag: ['area=health', 'a=b=c=d'] })).toEqual(['ridge:1']);
  expect(await found({ tag: ['a=b'] })).toEqual(['ridge:1']);
  expect(await found({ tag: ['area='] })).toEqual([]);
  expect(await found({ framework: 'scikit-learn' })).toEqual(['ridge:1']);
  expect(await found({ run: 'r1.1' })).toEqual(['net:1']);
  expect(await found({ latest: true })).toEqual(['net:1', 'ridge:2']);
  expect(await found({ latest: true, tag: ['area=health'] })).toEqual(['net:1']);
  expect(await found({ name: "ridge' OR 1=1 --" })).toEqual([]);
});

test('a list comes in pages', async () => {
  for (let i = 0; i < 5; i++) await register();
  const first = await models.list({ workspace, pageSize: 2 }, user);
  await register();
  const second = await models.list({ workspace, pageSize: 2, page: first.nextPage! }, user);
  const third = await models.list({ workspace, pageSize: 2, page: second.nextPage! }, user);
  const versions = [first, second, third].map(({ items }) => items.map(({ version }) => version));
  expect(versions).toEqual([[5, 4], [3, 2], [1]]);
  expect(third).not.toHaveProperty('nextPage');
  await expect(models.list({ workspace, page: 'x' }, user)).rejects.toMatchObject({ reason: 'page.token-invalid' });
});

test('a listed model has no files, one that is shown has', async () => {
  await register();
  const [listed] = (await models.list({ workspace }, user)).items;
  expect(listed).not.toHaveProperty('files');
  expect(await get('1')).toHaveProperty('files');
});

test('description and tags change, properties are set once', async () => {
  await register({ tags: { a: '1', b: '2' }, properties: { p: '1' } });
  const update = (change: object) => models.update({ workspace, name: 'ridge', version: '1', ...change });
  expect(
    await update({ description: 'new', tags: { a: null, b: '3', c: '4' }, properties: { q: '2', p: '1' } }),
  ).toMatchObject({
    description: 'new',
    tags: { b: '3', c: '4' },
    properties: { p: '1', q: '2' },
  });
  await expect(update({ tags: { b: '9' }, properties: { p: '2' } })).rejects.toMatchObject({
    code: 'conflict',
    reason: 'model.property-set',
  });
  expect((await get('1')).tags).toEqual({ b: '3', c: '4' });
  const many = Object.fromEntries(Array.from({ length: 49 }, (_, i) => [`t${i}`, '']));
  await expect(update({ tags: many })).rejects.toThrow('51 tags');
  expect(await update({ tags: { ...many, c: null } })).toMatchObject({ tags: { b: '3', t48: '' } });
});

test('a file and the whole model are downloaded', async () => {
  await register({ path: 'outputs/net' });
  const input = { workspace, name: 'ridge', version: 'latest' };
  const file = await models.getFile({ ...input, path: 'config.json' }, user, { range: 'bytes=0-6' });
  expect(await text(file.stream)).toBe('outputs');
  await expect(models.getFile({ ...input, path: 'none' })).rejects.toMatchObject({ reason: 'model.file-not-found' });
  const download = await models.download(input);
  expect(download.filename).toBe('ridge-1.zip');
  const archive = await buffer(download.stream);
  expect(download.sizeBytes).toBe(archive.length);
  const zip = await fromBufferPromise(archive, { lazyEntries: true });
  const contents: Record<string, string> = {};
  for await (const entry of zip.eachEntry())
    contents[entry.fileName] = await text(await zip.openReadStreamPromise(entry));
  expect(contents).toEqual({
    'config.json': 'outputs/net/config.json',
    'weights/w.bin': 'outputs/net/weights/w.bin',
  });
});

test('a model that an image uses cannot be deleted, and the error names the image', async () => {
  await register();
  await register();
  const use = (image: string) =>
    scratch.db.transact(modelTransactions.use, { workspace, image, models: [{ name: 'ridge', version: 1 }] });
  await use('scorer:1');
  await use('scorer:2');
  await use('scorer:2');
  expect((await get('1')).images).toEqual(['scorer:1', 'scorer:2']);
  const refused = discard('1');
  await expect(refused).rejects.toMatchObject({ code: 'failed-precondition', reason: 'model.in-use' });
  await expect(refused).rejects.toThrow('ridge:1 cannot be deleted: the images scorer:1, scorer:2 use it');
  await erase('2');
  for (const image of ['scorer:1', 'scorer:2'])
    await scratch.db.transact(modelTransactions.release, { workspace, image });
  await erase('1');
  await expect(use('scorer:3')).rejects.toMatchObject({ reason: 'model.not-found' });
});

test("a run's token registers from its run and its descendants, and finds those", async () => {
  const run: Caller = { kind: 'run', workspace, run: 'r1.1', attempt: 1, user: 'grace' };
  await register();
  expect(await register({ run: 'r1.1' }, run)).toMatchObject({ id: 'ridge:2', createdBy: 'grace' });
  expect(await register({ run: 'r1.1.7' }, run)).toMatchObject({ id: 'ridge:3' });
  const refusal = { code: 'permission-denied', reason: 'access.run-token-scope' };
  await expect(register({ run: 'r1' }, run)).rejects.toMatchObject(refusal);
  const files = [{ path: 'a', digest: outputs[0]!.digest }];
  await expect(models.register({ workspace, name: 'ridge', files }, run)).rejects.toMatchObject(refusal);
  const theirs = { workspace, name: 'ridge', run: 'r1.1', files };
  await expect(models.register(theirs, run), 'of others').rejects.toMatchObject({ reason: 'blob.not-found' });
  expect(await found({}, run)).toEqual(['ridge:2']);
  expect(await found({ run: 'r1.1.7' }, run)).toEqual(['ridge:3']);
  await expect(found({ run: 'r1' }, run)).rejects.toMatchObject(refusal);
});
