import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FileBytes } from './files.ts';

const hello = 'sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824';
let folder: string;
let bytes: FileBytes;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-bytes-'));
  bytes = new FileBytes(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function* parts(...texts: string[]) {
  for (const part of texts) yield Buffer.from(part);
}
const left = () => readdirSync(join(folder, 'partial'));

test('what is written is read by its digest, whole or in part', async () => {
  expect(await bytes.write(parts('hel', 'lo'))).toEqual({ digest: hello, sizeBytes: 5 });
  expect(await text(bytes.read(hello))).toBe('hello');
  expect(await text(bytes.read(hello, { start: 1, end: 3 }))).toBe('el');
  expect(await buffer(bytes.read(hello, { start: 2, end: 2 }))).toHaveLength(0);
  expect(await bytes.sizeOf(hello)).toBe(5);
  expect(statSync(bytes.path(hello)).mode & 0o777).toBe(0o444);
  expect(left()).toEqual([]);
});

test('another content than expected is refused and nothing is kept', async () => {
  await expect(bytes.write(parts('other'), hello)).rejects.toMatchObject({ reason: 'blob.digest-mismatch' });
  expect(await bytes.has(hello)).toBe(false);
  expect(left()).toEqual([]);
});

test('a source that fails leaves nothing behind', async () => {
  async function* broken() {
    yield Buffer.from('he');
    throw new Error('cut');
  }
  await expect(bytes.write(broken(), hello)).rejects.toThrow('cut');
  expect(left()).toEqual([]);
});

test('the same content written many times at once is one file', async () => {
  const stored = await Promise.all(Array.from({ length: 20 }, () => bytes.write(parts('hello'), hello)));
  expect(new Set(stored.map(({ digest }) => digest))).toEqual(new Set([hello]));
  expect(readdirSync(join(folder, 'sha256', '2c'))).toHaveLength(1);
  expect(left()).toEqual([]);
});

test('what a killed process left unfinished is removed at the next start', () => {
  mkdirSync(join(folder, 'partial'), { recursive: true });
  writeFileSync(join(folder, 'partial', '7'), 'half');
  new FileBytes(folder);
  expect(left()).toEqual([]);
});

test.each(['', 'sha256:', '../../etc/passwd', `sha256:../${'a'.repeat(61)}`, `sha256:${'A'.repeat(64)}`, 'sha512:00'])(
  'the digest %j names no file',
  (digest) => {
    expect(() => bytes.path(digest as typeof hello)).toThrow(TypeError);
  },
);
