import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { output } from '../../../exec/programs.ts';
import { driverSuite } from '../../driver.suite.ts';
import { LocalDatastore } from './local.ts';

let folder: string;
let root: string;
let outside: string;
let driver: LocalDatastore;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-datastore-'));
  [root, outside] = [join(folder, 'root'), join(folder, 'outside')];
  mkdirSync(root);
  mkdirSync(outside);
  writeFileSync(join(outside, 'secret'), 'secret');
  driver = new LocalDatastore(root);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

driverSuite('local', async () => {
  const place = mkdtempSync(join(tmpdir(), 'stellwerk-datastore-'));
  return {
    driver: new LocalDatastore(join(place, 'made', 'when needed')),
    end: async () => rmSync(place, { recursive: true, force: true }),
  };
});

const content = {
  sizeBytes: 3,
  open: async function* () {
    yield Buffer.from('new');
  },
};
async function paths(prefix = ''): Promise<string[]> {
  const found: string[] = [];
  for await (const { path } of driver.list(prefix, '')) found.push(path);
  return found;
}
const openFiles = () => readdirSync('/proc/self/fd').length;

test('links in the folder are not followed, neither files nor folders', async () => {
  symlinkSync(outside, join(root, 'folder'));
  symlinkSync(join(outside, 'secret'), join(root, 'file'));
  symlinkSync('/', join(root, 'all'));
  expect(await paths()).toEqual([]);
  expect(await paths('folder')).toEqual([]);
  for (const path of ['file', 'folder/secret', 'all/etc/passwd']) {
    expect(await driver.open(path)).toBeUndefined();
    expect(await driver.delete(path)).toBe(0);
  }
  expect(await driver.write('folder/new', content, true)).toBe('taken');
  expect(await driver.write('all/tmp/new', content, true)).toBe('taken');
  expect(readdirSync(outside)).toEqual(['secret']);
});

test('a file takes the place of a link, and what the link pointed to stays as it is', async () => {
  symlinkSync(join(outside, 'secret'), join(root, 'file'));
  expect(await driver.write('file', content, false)).toBe('taken');
  expect(await driver.write('file', content, true)).toMatchObject({ sizeBytes: 3 });
  expect(readFileSync(join(outside, 'secret'), 'utf8')).toBe('secret');
  expect(lstatSync(join(root, 'file')).isSymbolicLink()).toBe(false);
});

test('a folder with links in it is deleted without what they point to', async () => {
  await driver.write('a/b', content, false);
  symlinkSync(outside, join(root, 'a', 'link'));
  symlinkSync('..', join(root, 'a', 'up'));
  expect(await driver.delete('a')).toBe(1);
  expect(readdirSync(outside)).toEqual(['secret']);
});

test('nothing outside is reached while a folder is exchanged for a link again and again', async () => {
  mkdirSync(join(root, 'a'));
  writeFileSync(join(root, 'a', 'secret'), 'inside');
  symlinkSync(outside, join(root, 'link'));
  let over = false;
  const move = (from: string, to: string) => {
    for (;;) {
      rmSync(join(root, to), { recursive: true, force: true }); // made anew by a write
      try {
        return renameSync(join(root, from), join(root, to));
      } catch (error) {
        expect(error).toMatchObject({ code: 'EISDIR' });
      }
    }
  };
  const exchange = async () => {
    while (!over) {
      move('a', 'kept');
      move('link', 'a');
      await new Promise((resolve) => setImmediate(resolve));
      move('a', 'link');
      move('kept', 'a');
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const attack = exchange();
  const read = new Set<string>();
  for (let i = 0; i < 100; i++) {
    const file = await driver.open('a/secret');
    if (file) read.add(await text(file.read({ start: 0, end: 6 })));
    await driver.write('a/new', content, true).catch(() => {}); // its folder may be the one renamed away
  }
  over = true;
  await attack;
  expect([...read]).toEqual(['inside']);
  expect(readdirSync(outside)).toEqual(['secret']);
});

test('pipes and devices are not there, and nobody waits for them', async () => {
  await output({ command: 'mkfifo', args: [join(root, 'pipe')] });
  symlinkSync('/dev/zero', join(root, 'zero'));
  expect(await driver.open('pipe')).toBeUndefined();
  expect(await driver.open('zero')).toBeUndefined();
  expect(await paths()).toEqual([]);
});

test('what a killed process left unfinished is gone at the next start, and is never listed', async () => {
  mkdirSync(join(root, '.stellwerk-partial'));
  writeFileSync(join(root, '.stellwerk-partial', '1'), 'half');
  expect(await paths()).toEqual([]);
  expect(existsSync(join(root, '.stellwerk-partial'))).toBe(false);
  await driver.write('a', content, false);
  expect(await paths()).toEqual(['a']);
  expect(readdirSync(join(root, '.stellwerk-partial'))).toEqual([]);
  expect(await driver.open('.stellwerk-partial/1')).toBeUndefined();
  expect(await driver.write('.stellwerk-partial/1', content, true)).toBe('taken');
  expect(await driver.write('.stellwerk-partial', content, true)).toBe('taken');
});

test('content that is a file on this machine is copied, not linked', async () => {
  const file = join(folder, 'content');
  writeFileSync(file, 'new', { mode: 0o444 });
  await driver.write('a', { ...content, file }, false);
  expect(lstatSync(join(root, 'a')).nlink).toBe(1);
  expect(lstatSync(join(root, 'a')).ino).not.toBe(lstatSync(file).ino);
  expect(lstatSync(join(root, 'a')).mode & 0o777).toBe(0o600);
});

test('files that others put into the folder are files of the datastore', async () => {
  mkdirSync(join(root, 'x'));
  writeFileSync(join(root, 'x', 'y'), 'there');
  linkSync(join(root, 'x', 'y'), join(root, 'z'));
  expect(await paths()).toEqual(['x/y', 'z']);
});

test('no folder stays open, whatever was asked', async () => {
  await driver.write('a/b/c', content, false);
  const before = openFiles();
  await driver.write('a/b/c', content, false);
  await driver.write('a/b/c/d', content, false);
  await driver.write('a/b', content, true);
  await (await driver.open('a/b/c'))?.close();
  await driver.open('a/none/c');
  for await (const _ of driver.list('', '')) break;
  await driver.delete('none/x');
  await driver.delete('a');
  expect(openFiles()).toBe(before);
});

test('a folder that cannot be used is told in a sentence', async () => {
  rmSync(root, { recursive: true });
  writeFileSync(root, 'a file');
  await expect(driver.write('a', content, false)).rejects.toThrow();
});
