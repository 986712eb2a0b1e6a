import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { deflateRawSync } from 'node:zlib';
import type { SnapshotFile } from '@stellwerk/contract/snapshot.ts';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { fromBufferPromise } from 'yauzl';
import { ZipFile } from 'yazl';
import type { Caller } from '../access/access.ts';
import { Blobs } from '../blob/blobs.ts';
import { FileBytes } from '../blob/files.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { sql } from '../db/transactions.ts';
import { migrations } from '../stores.ts';
import { Snapshots } from './snapshots.ts';

const user: Caller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't' };
let scratch: ScratchDatabase;
let blobs: Blobs;
let snapshots: Snapshots;
let workspace = '';
let snapshotOfRun: string | undefined;

beforeAll(async () => {
  scratch = await scratchDatabase(migrations);
  const { db, folder } = scratch;
  const bytes = new FileBytes(join(folder, 'blobs'));
  blobs = new Blobs({ db, bytes, folder: join(folder, 'uploads'), now: Date.now });
  const snapshotOf = async () => snapshotOfRun;
  snapshots = new Snapshots({ db, bytes, blobs, folder, now: Date.now, snapshotOf });
});
afterAll(() => scratch[Symbol.asyncDispose]());
beforeEach(() => {
  workspace = `w${randomBytes(4).toString('hex')}`;
});

type Contents = Record<string, string | Buffer>;
const digestOf = (content: string | Buffer) => `sha256:${createHash('sha256').update(content).digest('hex')}`;
const listed = (contents: Contents): SnapshotFile[] =>
  Object.entries(contents).map(([path, content]) => ({
    path,
    digest: digestOf(content),
    sizeBytes: Buffer.byteLength(content),
  }));

async function zipOf(contents: Contents, mode = 0o100644): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [path, content] of Object.entries(contents)) zip.addBuffer(Buffer.from(content), path, { mode });
  zip.end();
  return buffer(zip.outputStream as Readable);
}
const create = (contents: Contents) => snapshots.create({ workspace, files: listed(contents) });
const add = (snapshot: string, archive: Buffer) =>
  snapshots.addFiles({ workspace, snapshot }, user, Readable.from([archive], { objectMode: false }));

async function created(contents: Contents): Promise<string> {
  const { digest } = await create(contents);
  await add(digest, await zipOf(contents));
  return digest;
}

const project = { 'train.py': 'print(1)\n', 'src/a b/ü.py': 'x = 1\n', 'copy.py': 'print(1)\n', empty: '' };

test('a snapshot is announced, brought and complete; announced again it needs nothing', async () => {
  const announced = await create(project);
  expect(announced).toMatchObject({ fileCount: 4, sizeBytes: 24, complete: false });
  expect(announced.missing).toHaveLength(3);
  await expect(snapshots.require(workspace, announced.digest)).rejects.toMatchObject({ reason: 'snapshot.incomplete' });
  const brought = await add(announced.digest, await zipOf(project));
  expect(brought).toMatchObject({ complete: true });
  expect(brought).not.toHaveProperty('missing');
  expect(await create(project)).toEqual(brought);
  expect(await snapshots.get({ workspace, snapshot: brought.digest }, user)).toEqual(brought);
});

test('contents may come in several archives, and as uploads', async () => {
  const { digest } = await create(project);
  expect((await add(digest, await zipOf({ 'train.py': project['train.py'] }))).missing).toHaveLength(2);
  expect((await add(digest, await zipOf({ empty: '' }))).missing).toEqual([digestOf(project['src/a b/ü.py'])]);
  const content = project['src/a b/ü.py'];
  await blobs.append(
    { workspace, digest: digestOf(content), offset: 0, sizeBytes: content.length },
    user,
    Readable.from([Buffer.from(content)]),
  );
  expect(await snapshots.get({ workspace, snapshot: digest }, user)).toMatchObject({ complete: true });
});

test('an archive made by another tool, with folders in it, is welcome', async () => {
  const { digest } = await create(project);
  const zip = new ZipFile();
  zip.addEmptyDirectory('src/');
  for (const [path, content] of Object.entries(project)) zip.addBuffer(Buffer.from(content), path, { compress: false });
  zip.end();
  expect(await add(digest, await buffer(zip.outputStream as Readable))).toMatchObject({ complete: true });
});

test('files are listed, read and downloaded, also in part', async () => {
  const snapshot = await created(project);
  const { items } = await snapshots.listFiles({ workspace, snapshot }, user);
  expect(items.map(({ path }) => path)).toEqual(['copy.py', 'empty', 'src/a b/ü.py', 'train.py']);
  expect(await snapshots.readFile(workspace, snapshot, 'train.py')).toBe('print(1)\n');
  expect(await snapshots.readFile(workspace, snapshot, 'none.py')).toBeUndefined();
  const part = await snapshots.getFile({ workspace, snapshot, path: 'train.py' }, user, { range: 'bytes=6-6' });
  expect((await buffer(part.stream)).toString()).toBe('1');
  expect(part).toMatchObject({ filename: 'train.py', range: { start: 6, end: 7, total: 9 } });
  await expect(snapshots.getFile({ workspace, snapshot, path: 'none' }, user)).rejects.toMatchObject({
    reason: 'snapshot.file-not-found',
  });
});

test('the archive has all files, and is the same each time', async () => {
  const { digest } = await snapshots.create({
    workspace,
    files: listed(project).map((file) => ({ ...file, executable: file.path === 'train.py' })),
  });
  await add(digest, await zipOf(project));
  const archive = async () => buffer((await snapshots.download({ workspace, snapshot: digest }, user)).stream);
  const first = await archive();
  expect(first.equals(await archive())).toBe(true);
  const zip = await fromBufferPromise(first, { lazyEntries: true });
  const found: Contents = {};
  for await (const entry of zip.eachEntry()) {
    found[entry.fileName] = (await buffer(await zip.openReadStreamPromise(entry))).toString();
    expect(entry.externalFileAttributes >>> 16).toBe(entry.fileName === 'train.py' ? 0o100755 : 0o100644);
  }
  expect(found).toEqual(project);
});

test('a download that is broken off closes its files', async () => {
  const snapshot = await created({ big: randomBytes(4 * 1024 * 1024), other: 'x' });
  const { stream } = await snapshots.download({ workspace, snapshot }, user);
  await new Promise((resolve) => stream.once('data', resolve));
  stream.destroy();
  const openContents = () =>
    readdirSync('/proc/self/fd', { withFileTypes: true }).filter((fd) => linkOf(fd.name).includes('/blobs/sha256/'));
  await expect.poll(openContents).toEqual([]);
});

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}

const hostilePaths = [
  '../evil',
  'a/../../evil',
  '..',
  '/etc/passwd',
  'C:\\evil',
  'C:evil',
  '..\\evil',
  '\\\\host\\share',
  'a\0b',
  'a//b',
  './a',
  'a/',
  `${'x'.repeat(256)}`,
  'x/'.repeat(2_500).concat('xx'),
  '\ud800',
];
test.each(hostilePaths.map((path) => [JSON.stringify(path).slice(0, 50), path] as const))(
  'the path %s is refused in a listing and when a file is asked for',
  async (_, path) => {
    await expect(create({ [path]: 'x' })).rejects.toMatchObject({ code: 'invalid-argument', reason: 'path.invalid' });
    const snapshot = await created({ a: 'x' });
    await expect(snapshots.getFile({ workspace, snapshot, path }, user)).rejects.toMatchObject({
      reason: 'path.invalid',
    });
  },
);

test.each([
  '%2e%2e%2fevil',
  '%252e%252e/evil',
  'file:',
  'a#b?c',
  '%c0%ae%c0%ae/evil',
  '\u2024\u2024/evil',
  '~root',
  'a\r\nb/\u001b[2J\t\u0085\n',
])('the path %j is only a name', async (path) => {
  const snapshot = await created({ [path]: 'x' });
  expect(await snapshots.readFile(workspace, snapshot, path)).toBe('x');
});

interface Raw {
  name: string;
  content?: string;
  flags?: number;
  attributes?: number;
  method?: number;
  data?: Buffer;
  size?: number;
}

/** An archive as no honest tool writes it. */
function rawZip(entries: Raw[]): Buffer {
  const locals: Buffer[] = [];
  const centrals: Buffer[] = [];
  let offset = 0;
  for (const { name, content = 'x', flags = 0x800, attributes = 0, method = 0, data, size } of entries) {
    const body = data ?? Buffer.from(content);
    const fixed = Buffer.alloc(26);
    fixed.writeUInt16LE(20, 0);
    fixed.writeUInt16LE(flags, 2);
    fixed.writeUInt16LE(method, 4);
    fixed.writeUInt32LE(body.length, 14);
    fixed.writeUInt32LE(size ?? body.length, 18);
    fixed.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), fixed, Buffer.from(name), body]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(attributes, 6);
    rest.writeUInt32LE(offset, 10);
    centrals.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x03'), fixed, rest, Buffer.from(name)]));
    locals.push(local);
    offset += local.length;
  }
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(Buffer.concat(centrals).length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...locals, ...centrals, Buffer.from('PK\x05\x06'), end]);
}

test('the archives below are well-formed where nothing is wrong', async () => {
  const { digest } = await create({ a: 'x', b: 'x' });
  expect(await add(digest, rawZip([{ name: 'a' }, { name: 'b' }]))).toMatchObject({ complete: true });
});

const bomb = deflateRawSync(Buffer.alloc(50 * 1024 * 1024));

test.each<[string, Raw[] | Buffer]>([
  ['a path out of the folder', [{ name: '../evil' }]],
  ['an absolute path', [{ name: '/etc/evil' }]],
  ['a backslash', [{ name: '..\\evil' }]],
  ['a drive letter', [{ name: 'C:/evil' }]],
  ['a file that is not listed', [{ name: 'a' }, { name: 'other' }]],
  ['a file twice', [{ name: 'a' }, { name: 'a' }]],
  ['a symbolic link', [{ name: 'a', attributes: (0o120777 << 16) >>> 0 }]],
  ['a device', [{ name: 'a', attributes: (0o060644 << 16) >>> 0 }]],
  ['a pipe', [{ name: 'a', attributes: (0o010644 << 16) >>> 0 }]],
  ['an encrypted file', [{ name: 'a', flags: 0x801 }]],
  ['strong encryption', [{ name: 'a', flags: 0x841 }]],
  ['an unknown compression', [{ name: 'a', method: 99 }]],
  ['a size that is not the listed one', [{ name: 'a', content: 'xx' }]],
  ['a bomb that claims to be small', [{ name: 'a', method: 8, data: bomb, size: 1 }]],
  ['a bomb that tells its size', [{ name: 'a', method: 8, data: bomb, size: 50 * 1024 * 1024 }]],
  ['compressed data that is broken', [{ name: 'a', method: 8, data: Buffer.from('garbage'), size: 1 }]],
  ['no archive at all', Buffer.from('hello')],
  ['nothing', Buffer.alloc(0)],
  ['an archive that was cut off', rawZip([{ name: 'a' }]).subarray(0, 60)],
])('an archive with %s is refused and brings nothing', async (_, entries) => {
  const { digest } = await create({ a: 'x' });
  const archive = Buffer.isBuffer(entries) ? entries : rawZip(entries);
  await expect(add(digest, archive)).rejects.toMatchObject({ code: 'invalid-argument', reason: 'archive.invalid' });
  expect(await snapshots.get({ workspace, snapshot: digest }, user)).toMatchObject({ complete: false });
  expect(readdirSync(join(scratch.folder, '.archives'))).toEqual([]);
});

test('content that is not the announced one is refused', async () => {
  const { digest } = await create({ a: 'x', b: 'y' });
  await expect(add(digest, await zipOf({ a: 'z' }))).rejects.toMatchObject({ reason: 'blob.digest-mismatch' });
  expect((await snapshots.get({ workspace, snapshot: digest }, user)).missing).toHaveLength(2);
});

test('an archive larger than all files together is not read to its end', async () => {
  const { digest } = await create({ a: 'x' });
  async function* endless() {
    for (;;) yield Buffer.alloc(1024 * 1024);
  }
  const flood = snapshots.addFiles({ workspace, snapshot: digest }, user, Readable.from(endless()));
  await expect(flood).rejects.toMatchObject({ code: 'too-large', reason: 'request.too-large' });
});

test('more than the limit is refused, and the largest files are named', async () => {
  const files = [{ path: 'data.bin', digest: digestOf('a'), sizeBytes: 301 * 1024 * 1024 }];
  const refusal = snapshots.create({ workspace, files });
  await expect(refusal).rejects.toMatchObject({ code: 'too-large', reason: 'snapshot.too-large' });
  await expect(refusal).rejects.toThrow('data.bin (301.0 MB)');
});

test('a size that is not the size of the content is refused', async () => {
  await created({ a: 'x' });
  const files = [{ path: 'a', digest: digestOf('x'), sizeBytes: 5 }];
  await expect(snapshots.create({ workspace, files })).rejects.toMatchObject({ reason: 'blob.digest-mismatch' });
});

test('contents of another workspace are not there until they are brought', async () => {
  const snapshot = await created(project);
  workspace = `${workspace}x`;
  await expect(snapshots.get({ workspace, snapshot }, user)).rejects.toMatchObject({ reason: 'snapshot.not-found' });
  expect((await create(project)).missing).toHaveLength(3);
  const asked = snapshots.getFile({ workspace, snapshot, path: 'train.py' }, user);
  await expect(asked).rejects.toMatchObject({ reason: 'snapshot.incomplete' });
  const all = snapshots.download({ workspace, snapshot }, user);
  await expect(all).rejects.toMatchObject({ reason: 'snapshot.incomplete' });
});

test("a run's token reads the snapshot of its run only", async () => {
  const [own, other] = [await created(project), await created({ a: 'x' })];
  const run: Caller = { kind: 'run', workspace, run: 'r1', attempt: 1, user: 'ada' };
  snapshotOfRun = own;
  expect(await snapshots.get({ workspace, snapshot: own }, run)).toMatchObject({ complete: true });
  const refusal = { code: 'permission-denied', reason: 'access.run-token-scope' };
  await expect(snapshots.get({ workspace, snapshot: other }, run)).rejects.toMatchObject(refusal);
  await expect(snapshots.listFiles({ workspace, snapshot: other }, run)).rejects.toMatchObject(refusal);
  await expect(snapshots.download({ workspace, snapshot: other }, run)).rejects.toMatchObject(refusal);
  await expect(snapshots.getFile({ workspace, snapshot: other, path: 'a' }, run)).rejects.toMatchObject(refusal);
});

test('a name with control characters that the archive does not mark as UTF-8 is not read in the code page of DOS', async () => {
  const contents = { 'a\r\nb\u001b.txt': 'x' };
  const { digest } = await create(contents);
  const archive = await zipOf(contents);
  const marks = [
    archive.indexOf('PK\u0003\u0004', 0, 'latin1') + 6,
    archive.indexOf('PK\u0001\u0002', 0, 'latin1') + 8,
  ];
  for (const at of marks) archive.writeUInt16LE(archive.readUInt16LE(at) & ~0x800, at); // as Python writes it
  expect(await add(digest, archive)).toMatchObject({ complete: true });
  expect(await snapshots.readFile(workspace, digest, 'a\r\nb\u001b.txt')).toBe('x');
});

test('a snapshot of many files is one row, and unchanged it is known again', async () => {
  const contents = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`package${i % 50}/f${i}.py`, `${i}`]));
  const files = listed(contents);
  const { digest } = await snapshots.create({ workspace, files });
  await add(digest, await zipOf(contents));
  expect(await snapshots.create({ workspace, files })).toMatchObject({ digest, complete: true });
  const refs = await scratch.db.all(sql.selectFrom('blob_ref').selectAll().where('workspace', '=', workspace));
  expect(refs).toEqual([{ workspace, digest, owner_kind: 'snapshot', owner_id: digest }]);
});
