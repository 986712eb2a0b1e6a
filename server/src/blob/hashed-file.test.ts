import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { HashedFile } from './hashed-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'stellwerk-hashed-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
const newFile = () => join(folder, `${++files}`);

async function written(handle: FileHandle, chunks: Iterable<Uint8Array>, start = 0) {
  const hash = createHash('sha256');
  const file = new HashedFile(handle, hash, start);
  for (const chunk of chunks) await file.add(chunk);
  await file.end();
  return { hash: hash.digest('hex'), bytes: file.written };
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test.each([
  ['none', 0, 1],
  ['many tiny ones', 3_000, 7],
  ['those of a connection', 600, 65_536],
  ['huge ones', 3, 9_000_000],
])('chunks of any size become one content: %s', async (_, count, size) => {
  const content = randomBytes(count * size);
  const path = newFile();
  await using handle = await open(path, 'wx');
  const chunks = Array.from({ length: count }, (_, at) => content.subarray(at * size, (at + 1) * size));
  expect(await written(handle, chunks)).toEqual({ hash: sha256(content), bytes: content.length });
  expect(readFileSync(path).equals(content)).toBe(true);
});

test('it goes on behind what is there', async () => {
  const path = newFile();
  await using handle = await open(path, 'wx');
  await written(handle, [Buffer.from('before ')]);
  expect(await written(handle, [Buffer.from('after')], 7)).toEqual({ hash: sha256(Buffer.from('after')), bytes: 12 });
  expect(readFileSync(path, 'utf8')).toBe('before after');
});

test('a disk that takes no more is told to whoever writes', async () => {
  await using full = await open('/dev/full', 'w');
  await expect(
    written(
      full,
      Array.from({ length: 5 }, () => randomBytes(1_000_000)),
    ),
  ).rejects.toThrow('ENOSPC');
});
