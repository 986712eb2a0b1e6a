import { createHash, randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Caller } from '../access/access.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { sql } from '../db/transactions.ts';
import { migrations } from '../stores.ts';
import { Blobs } from './blobs.ts';
import type { Digest } from './bytes.ts';
import { FileBytes } from './files.ts';

const ada = { kind: 'user', user: 'ada', administrator: false, tokenId: 't1' } satisfies Caller;
const runOf = (run: string): Caller => ({ kind: 'run', workspace, run, attempt: 1, user: 'ada' });

let scratch: ScratchDatabase;
let bytes: FileBytes;
let blobs: Blobs;
let workspace = 'demo';

beforeAll(async () => {
  scratch = await scratchDatabase(migrations);
  bytes = new FileBytes(join(scratch.folder, 'blobs'));
});
afterAll(() => scratch[Symbol.asyncDispose]());
beforeEach(() => {
  workspace = `w${randomBytes(4).toString('hex')}`;
  blobs = started();
});

function started(): Blobs {
  return new Blobs({ db: scratch.db, bytes, folder: join(scratch.folder, 'blobs', 'uploads'), now: Date.now });
}
const digestOf = (content: Uint8Array): Digest => `sha256:${createHash('sha256').update(content).digest('hex')}`;
const bodyOf = (content: Uint8Array) => Readable.from([content], { objectMode: false });

function append(
  content: Uint8Array,
  from: number,
  to: number,
  into = workspace,
  sizeBytes = content.length,
  caller: Caller = ada,
) {
  const input = { workspace: into, digest: digestOf(content), offset: from, sizeBytes };
  return blobs.append(input, caller, bodyOf(content.subarray(from, to)));
}
const state = (content: Uint8Array, of = workspace, caller: Caller = ada) =>
  blobs.get({ workspace: of, digest: digestOf(content) }, caller);

test('a content sent in one part is complete and can be read', async () => {
  const content = randomBytes(100_000);
  await expect(state(content)).rejects.toMatchObject({ code: 'not-found', reason: 'blob.not-found' });
  expect(await append(content, 0, 100_000)).toEqual({
    digest: digestOf(content),
    complete: true,
    receivedBytes: 100_000,
  });
  expect(await state(content)).toMatchObject({ complete: true });
  expect(content.equals(await buffer(bytes.read(digestOf(content))))).toBe(true);
});

test('an empty content is a content', async () => {
  expect(await append(Buffer.alloc(0), 0, 0)).toMatchObject({ complete: true, receivedBytes: 0 });
  expect(await bytes.sizeOf(digestOf(Buffer.alloc(0)))).toBe(0);
});

test('a content arrives in parts, and goes on where it was after a restart', async () => {
  const content = randomBytes(100_000);
  expect(await append(content, 0, 40_000)).toMatchObject({ complete: false, receivedBytes: 40_000 });
  blobs = started();
  expect(await state(content)).toMatchObject({ complete: false, receivedBytes: 40_000 });
  expect(await append(content, 40_000, 70_000)).toMatchObject({ complete: false, receivedBytes: 70_000 });
  expect(await append(content, 70_000, 100_000)).toMatchObject({ complete: true, receivedBytes: 100_000 });
  expect(content.equals(await buffer(bytes.read(digestOf(content))))).toBe(true);
});

test('sending a part again is harmless, and so is sending all of it again', async () => {
  const content = randomBytes(1_000);
  await append(content, 0, 600);
  expect(await append(content, 0, 600)).toMatchObject({ receivedBytes: 600 });
  expect(await append(content, 500, 800)).toMatchObject({ receivedBytes: 800 });
  expect(await append(content, 0, 1_000)).toMatchObject({ complete: true });
  expect(await append(content, 0, 1_000)).toMatchObject({ complete: true });
  expect(await append(content, 900, 1_000)).toMatchObject({ complete: true });
});

test('a gap is refused and told where to go on', async () => {
  const content = randomBytes(1_000);
  await append(content, 0, 300);
  await expect(append(content, 301, 1_000)).rejects.toMatchObject({
    code: 'conflict',
    reason: 'blob.offset',
    details: { receivedBytes: 300 },
  });
});

test('what arrived before the connection was cut is kept', async () => {
  const content = randomBytes(1_000);
  async function* cut() {
    yield content.subarray(0, 400);
    throw new Error('reset');
  }
  const input = { workspace, digest: digestOf(content), offset: 0, sizeBytes: 1_000 };
  await expect(blobs.append(input, ada, Readable.from(cut()))).rejects.toThrow('reset');
  expect(await state(content)).toMatchObject({ complete: false, receivedBytes: 400 });
  expect(await append(content, 400, 1_000)).toMatchObject({ complete: true });
});

test('a sender that fell silent makes way for its own next try', async () => {
  const content = randomBytes(1_000);
  const folder = join(scratch.folder, 'blobs', 'uploads');
  const { Uploads } = await import('./uploads.ts');
  const uploads = new Uploads(folder, 30);
  const upload = { workspace, digest: digestOf(content) };
  const silent = new Readable({ read() {} });
  silent.push(content.subarray(0, 100));
  const part = (offset: number, body: Readable) =>
    uploads.inTurn(upload, () => uploads.append(upload, { offset, sizeBytes: 1_000, body }));
  const first = part(0, silent);
  const second = part(0, bodyOf(content));
  await expect(first).rejects.toThrow('silent');
  expect(await second).toMatchObject({ receivedBytes: 1_000 });
});

test('bytes that are not the announced ones are dropped, and the upload begins anew', async () => {
  const content = randomBytes(1_000);
  const input = { workspace, digest: digestOf(content), offset: 0, sizeBytes: 1_000 };
  const wrong = blobs.append(input, ada, bodyOf(randomBytes(1_000)));
  await expect(wrong).rejects.toMatchObject({ code: 'conflict', reason: 'blob.digest-mismatch' });
  await expect(state(content)).rejects.toMatchObject({ reason: 'blob.not-found' });
  expect(await bytes.has(digestOf(content))).toBe(false);
  expect(await append(content, 0, 1_000)).toMatchObject({ complete: true });
});

test('more bytes than announced are refused', async () => {
  const content = randomBytes(1_000);
  await expect(append(content, 0, 1_000, workspace, 900)).rejects.toMatchObject({ reason: 'blob.digest-mismatch' });
  expect(await append(content, 0, 1_000)).toMatchObject({ complete: true });
  await expect(append(content, 0, 1_000, workspace, 900)).rejects.toMatchObject({ reason: 'blob.digest-mismatch' });
});

test('many who send the same content at once all end well, with one file', async () => {
  const content = randomBytes(200_000);
  const all = await Promise.all(Array.from({ length: 10 }, () => append(content, 0, 200_000)));
  expect(all.every(({ complete }) => complete)).toBe(true);
  expect(readdirSync(join(scratch.folder, 'blobs', 'uploads', workspace))).toEqual([]);
});

test('parts of one content sent at once never corrupt it', async () => {
  const content = randomBytes(300_000);
  const parts = Array.from({ length: 30 }, (_, i) => append(content, i * 10_000, (i + 1) * 10_000));
  for (const part of await Promise.allSettled(parts)) {
    if (part.status === 'rejected') expect(part.reason).toMatchObject({ reason: 'blob.offset' });
  }
  expect(await append(content, 0, 300_000)).toMatchObject({ complete: true });
  expect(content.equals(await buffer(bytes.read(digestOf(content))))).toBe(true);
});

test('a workspace has only what was brought to it, by whatever case its name is written', async () => {
  const content = randomBytes(10);
  await append(content, 0, 10, 'one');
  expect(await blobs.sizeOf('ONE', digestOf(content), ada)).toBe(10);
  expect(await blobs.sizeOf('two', digestOf(content), ada)).toBeUndefined();
  expect(await blobs.sizesOf('one', [digestOf(content), digestOf(Buffer.alloc(1))])).toEqual([10, null]);
  await expect(state(content, 'two')).rejects.toMatchObject({ reason: 'blob.not-found' });
  await append(content, 0, 10, 'two');
  expect(await blobs.sizeOf('two', digestOf(content), ada)).toBe(10);
});

test("a run's token has the contents that it brought itself, and hears of no other", async () => {
  const content = randomBytes(1_000);
  await append(content, 0, 1_000);
  const bring = (run: string, from: number, to: number) =>
    append(content, from, to, workspace, content.length, runOf(run));
  await expect(state(content, workspace, runOf('r1'))).rejects.toMatchObject({ reason: 'blob.not-found' });
  expect(await blobs.sizeOf(workspace, digestOf(content), runOf('r1'))).toBeUndefined();
  await expect(blobs.contentOf(workspace, digestOf(content), runOf('r1'))).rejects.toMatchObject({
    reason: 'blob.not-found',
  });
  await expect(bring('r1', 1_000, 1_000), 'nothing of it has to be sent').rejects.toMatchObject({
    reason: 'blob.offset',
    details: { receivedBytes: 0 },
  });
  expect(await bring('r1', 0, 600)).toMatchObject({ complete: false, receivedBytes: 600 });
  await expect(bring('r2', 600, 1_000), 'what another has sent is completed').rejects.toMatchObject({
    reason: 'blob.offset',
    details: { receivedBytes: 0 },
  });
  expect(await bring('r1', 600, 1_000)).toMatchObject({ complete: true });
  expect(await state(content, workspace, runOf('r1'))).toMatchObject({ complete: true });
  expect(await blobs.sizeOf(workspace, digestOf(content), runOf('r1'))).toBe(1_000);
  await expect(state(content, workspace, runOf('r2'))).rejects.toMatchObject({ reason: 'blob.not-found' });
  expect(readdirSync(join(scratch.folder, 'blobs', 'uploads', workspace))).toEqual([]);
});

test("what a run brought is the whole workspace's, to users", async () => {
  const content = randomBytes(10);
  await append(content, 0, 10, workspace, 10, runOf('r1'));
  expect(await state(content)).toMatchObject({ complete: true });
});

test('the time of a content that nobody refers to is renewed when it is adopted again', async () => {
  const stored = await bytes.write(bodyOf(Buffer.from('log')));
  const since = async () =>
    (await scratch.db.all(sql.selectFrom('blob_held').select('since').where('workspace', '=', workspace))).map(
      (row) => row.since,
    );
  const at = (ms: number) =>
    new Blobs({ db: scratch.db, bytes, folder: join(scratch.folder, 'uploads'), now: () => ms }).adopt(
      workspace,
      stored,
    );
  await at(0);
  await at(5_000);
  expect(await since()).toEqual(['1970-01-01T00:00:05.000Z']);
});

test('a large content passes through without being held in memory', async () => {
  const chunk = randomBytes(1024 * 1024);
  const hash = createHash('sha256');
  for (let i = 0; i < 200; i++) hash.update(chunk);
  const digest = `sha256:${hash.digest('hex')}`;
  let read = 0;
  let highest = 0;
  const body = new Readable({
    read() {
      highest = Math.max(highest, process.memoryUsage().arrayBuffers);
      this.push(read++ < 200 ? Buffer.from(chunk) : null);
    },
  });
  const before = process.memoryUsage().arrayBuffers;
  const input = { workspace, digest, offset: 0, sizeBytes: 200 * chunk.length };
  expect(await blobs.append(input, ada, body)).toMatchObject({ complete: true });
  expect(highest - before).toBeLessThan(120 * 1024 * 1024);
});
