import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { hashBytes } from './file-hash.ts';
import { listSnapshot } from './snapshot-listing.ts';

let folder: string;
let cacheFolder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'snapshot mit Ümlaut '));
  cacheFolder = mkdtempSync(join(tmpdir(), 'cache-'));
});
afterEach(() => {
  for (const made of [folder, cacheFolder]) rmSync(made, { recursive: true });
});

function put(path: string, content = path): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), content);
}
const paths = async () => (await listSnapshot(folder, { cacheFolder })).files.map(({ path }) => path);

it('lists files in the byte order of their names, with contents and the executable bit as they are', async () => {
  put('b.py', 'print(1)\r\n');
  put('a b/ü€.txt', '');
  put('a b/𝄞', '1');
  put('a b/z', '2');
  chmodSync(join(folder, 'b.py'), 0o755);
  const { files, digest, sizeBytes } = await listSnapshot(folder, { cacheFolder });
  expect(files.map(({ path }) => path)).toEqual(['a b/z', 'a b/ü€.txt', 'a b/𝄞', 'b.py']);
  expect(files[3]).toEqual({ path: 'b.py', digest: hashBytes('print(1)\r\n'), sizeBytes: 10, executable: true });
  expect(sizeBytes).toBe(12);
  const lines = files.map((f) => `${f.digest} ${f.sizeBytes} ${f.executable ? 'x' : '-'} ${f.path}\n`);
  expect(digest).toBe(hashBytes(lines.join('')));
});

it('leaves out what the ignore files say, as git reads them', async () => {
  for (const path of [
    'train.py',
    'data/big.csv',
    'data/keep.csv',
    'logs/a.log',
    'sub/a.log',
    'sub/deep/b.log',
    'sub/b.tmp',
  ])
    put(path);
  for (const path of ['.git/config', '__pycache__/x.pyc', 'sub/.stellwerk/config.json']) put(path);
  put('.gitignore', '# no logs\r\n*.log\r\n/data/*\r\n!data/keep.csv\r\n');
  put('sub/.gitignore', '!a.log\n*.tmp\n');
  expect(await paths()).toEqual(['.gitignore', 'data/keep.csv', 'sub/.gitignore', 'sub/a.log', 'train.py']);
});

it('obeys .amlignore in place of .gitignore', async () => {
  for (const path of ['a.log', 'b.tmp']) put(path);
  put('.gitignore', '*.log\n');
  put('.amlignore', '*.tmp\n');
  expect(await paths()).toEqual(['.amlignore', '.gitignore', 'a.log']);
});

it('follows links inside the folder and refuses those that lead outside', async () => {
  put('real/a.txt', 'content');
  symlinkSync('real/a.txt', join(folder, 'link.txt'));
  symlinkSync('real', join(folder, 'again'));
  expect(await paths()).toEqual(['again/a.txt', 'link.txt', 'real/a.txt']);
  symlinkSync('/etc/hostname', join(folder, 'out'));
  await expect(paths()).rejects.toThrow(/"out" cannot be submitted: it is a link to outside of the folder/);
  put('.gitignore', 'out\n');
  expect(await paths()).toContain('link.txt');
  symlinkSync('..', join(folder, 'real', 'round'));
  await expect(paths()).rejects.toThrow(/link to a folder that it lies in/);
});

it('refuses more than the limit and names the largest files', async () => {
  put('small', 'x');
  put('weights.bin', 'y'.repeat(5_000));
  await expect(listSnapshot(folder, { cacheFolder, limitBytes: 4_000 })).rejects.toThrow(
    /largest files: weights\.bin \(0\.0 MB\), small/,
  );
});

it('does not read an unchanged file again, and notices one that changed in place', async () => {
  const names = Array.from({ length: 1_000 }, (_, at) => `d${at % 100}/f${at}`);
  for (const name of names) put(name);
  const old = new Date(Date.now() - 60_000);
  for (const name of names) utimesSync(join(folder, name), old, old);
  await new Promise((resolve) => setTimeout(resolve, 2_100)); // until the times of change are settled
  const first = await listSnapshot(folder, { cacheFolder });
  const second = await listSnapshot(folder, { cacheFolder });
  expect(second).toEqual(first);
  put('d0/f0', 'other');
  utimesSync(join(folder, 'd0/f0'), old, old);
  expect((await listSnapshot(folder, { cacheFolder })).digest).not.toBe(first.digest);
});
