import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { output } from '../exec/programs.ts';
import { type RawMember, rawTar } from './hostile-tar.ts';
import { unpackLayers } from './unpack.ts';

let dir: string;
let root: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'oci-'));
  root = join(dir, 'root');
  await mkdir(root);
  await writeFile(join(dir, 'secret'), 'secret');
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const folder = (name: string, mode = 0o755): RawMember => ({ name: `${name}/`, type: '5', mode });
const file = (name: string, content = name, mode = 0o644): RawMember => ({ name, content, mode });
const link = (name: string, to: string): RawMember => ({ name, type: '2', link: to });
const hardLink = (name: string, to: string): RawMember => ({ name, type: '1', link: to });

async function unpack(layers: RawMember[][], sizeLimitBytes = 1_000_000) {
  const files = [];
  for (const [at, members] of layers.entries()) {
    const tar = join(dir, `${at}.tar`);
    await writeFile(tar, rawTar(...members));
    files.push({ name: `layer-${at}`, tar });
  }
  return await unpackLayers(files, root, { layersDir: join(dir, 'layers'), sizeLimitBytes });
}

const content = (path: string) => readFile(join(root, path), 'utf8');

/** Everything that exists outside of the root and the layers' files. */
async function outside(): Promise<string[]> {
  return (await readdir(dir)).filter((name) => !['root', 'layers', 'secret'].includes(name) && !name.endsWith('.tar'));
}

test('layers are laid over each other, and what is whited out is gone', async () => {
  await unpack([
    [folder('a'), file('a/one', '1'), file('a/two', '2'), folder('b'), file('b/deep/old', 'old'), file('c', 'old')],
    [
      file('a/.wh.one', ''),
      file('b/.wh..wh..opq', ''),
      file('b/new', 'new'),
      file('c', 'new'),
      file('.wh..wh.plnk', ''),
    ],
  ]);
  expect((await readdir(root)).sort()).toEqual(['a', 'b', 'c']);
  expect(await readdir(join(root, 'a'))).toEqual(['two']);
  expect(await readdir(join(root, 'b'))).toEqual(['new']);
  expect(await content('c')).toBe('new');
});

test('an opaque folder hides what lies below it only, wherever in its layer the mark stands', async () => {
  await unpack([[file('d/lower')], [file('d/early'), file('d/.wh..wh..opq'), file('d/late')]]);
  expect((await readdir(join(root, 'd'))).sort()).toEqual(['early', 'late']);
});

test('a whiteout and a file of the same name in one layer leave the file', async () => {
  await unpack([[file('x', 'lower')], [file('x', 'upper'), file('.wh.x')]]);
  expect(await content('x')).toBe('upper');
});

test('a file takes the place of a folder, and a folder that of a link', async () => {
  await unpack([
    [file('d/inside'), link('l', 'd')],
    [file('d', 'now a file'), folder('l'), file('l/x')],
  ]);
  expect(await content('d')).toBe('now a file');
  expect((await lstat(join(root, 'l'))).isDirectory()).toBe(true);
});

test('a folder that comes again keeps what is in it', async () => {
  await unpack([[folder('d', 0o755), file('d/x')], [folder('d', 0o1777)]]);
  expect(await content('d/x')).toBe('d/x');
  expect((await stat(join(root, 'd'))).mode & 0o7777).toBe(0o1777);
});

test('permission bits are kept, but the owner can always read and write, and nothing is set-user-id', async () => {
  await unpack([
    [file('run', '', 0o755), file('none', '', 0o000), file('su', '', 0o6755), folder('shut', 0o000), file('shut/in')],
  ]);
  const modes = await Promise.all(
    ['run', 'none', 'su', 'shut'].map(async (name) => (await stat(join(root, name))).mode & 0o7777),
  );
  expect(modes).toEqual([0o755, 0o600, 0o755, 0o700]);
});

test('hard links share their file, within a layer and across layers', async () => {
  await unpack([[file('a', 'same'), hardLink('b', 'a')], [hardLink('c', 'a')]]);
  const inodes = await Promise.all(['a', 'b', 'c'].map(async (name) => (await stat(join(root, name))).ino));
  expect(new Set(inodes).size).toBe(1);
});

test('devices and pipes are left out', async () => {
  await unpack([
    [{ name: 'dev/null', type: '3' }, { name: 'dev/sda', type: '4' }, { name: 'pipe', type: '6' }, file('x')],
  ]);
  expect(await readdir(root)).toEqual(expect.arrayContaining(['x']));
  expect(await readdir(join(root, 'dev')).catch(() => [])).toEqual([]);
});

test('a file behind an absolute link lands inside the root', async () => {
  await unpack([[link('a/b/out', dir), file('a/b/out/planted', 'x')]]);
  expect(await outside()).toEqual([]);
  expect(await content(join(dir, 'planted')).catch(() => 'it lies elsewhere')).toBe('x');
});

test('a file behind a climbing link lands inside the root', async () => {
  await unpack([[link('a/b/out', '../../../../../..'), file('a/b/out/planted', 'x')]]);
  expect(await outside()).toEqual([]);
  expect(await content('planted')).toBe('x');
});

test('a link in a lower layer does not lead a file of a higher one out', async () => {
  await unpack([[link('out', `${dir}/`)], [file('out/planted')], [file('out/.wh.secret')]]);
  expect(await outside()).toEqual([]);
  expect(await readFile(join(dir, 'secret'), 'utf8')).toBe('secret');
});

test('a file that takes the place of a link does not write through it', async () => {
  await unpack([[link('x', join(dir, 'secret')), file('x', 'overwritten')]]);
  expect(await readFile(join(dir, 'secret'), 'utf8')).toBe('secret');
  expect(await content('x')).toBe('overwritten');
});

test('a hard link to a symbolic link becomes that link, and nothing is read through it', async () => {
  await unpack([[link('l', join(dir, 'secret')), hardLink('h', 'l')]]);
  expect(await readlink(join(root, 'h'))).toBe(join(dir, 'secret'));
});

test('a hard link through a link to the outside finds nothing', async () => {
  await expect(unpack([[link('out', dir), hardLink('stolen', 'out/secret')]])).rejects.toThrow(/no file of the image/);
});

test.each([
  ['a hard link to nothing', [hardLink('x', 'nothing')], /no file of the image/],
  ['a hard link to a folder', [folder('d'), hardLink('x', 'd')], /no file of the image/],
  ['a path through a file', [file('a'), file('a/b')], /goes through a file/],
  ['links in a circle', [link('a', 'b'), link('b', 'a'), file('a/x')], /more than 40 links/],
  ['a whiteout that climbs', [file('.wh...')], /leads out/],
])('%s is refused', async (_, members, why) => {
  await expect(unpack([members])).rejects.toMatchObject({
    reason: 'archive.invalid',
    message: expect.stringMatching(why),
  });
});

test('folders nested too deeply for any path are refused', async () => {
  const deep = Array.from({ length: 40 }, () => 'x'.repeat(95)).join('/');
  const nested = [{ name: 'pax', type: 'x', content: `${deep.length + 11} path=${deep}\n` }, file('x')];
  await expect(unpack([nested])).rejects.toThrow(/nested more deeply/);
});

test('a name that comes twice is what it was last', async () => {
  await unpack([[file('x', 'first'), file('x', 'second')]]);
  expect(await content('x')).toBe('second');
});

test('more bytes than allowed are refused before anything is written', async () => {
  await expect(unpack([[file('x', 'x'.repeat(2_000))]], 1_000)).rejects.toThrow(/more than 1,000 bytes/);
  expect(await readdir(root)).toEqual([]);
});

test('names that object literals know are names like others', async () => {
  await unpack([[file('__proto__/polluted', 'x'), file('constructor', 'y')]]);
  expect(await content('__proto__/polluted')).toBe('x');
  expect(await content('constructor')).toBe('y');
});

test('what GNU tar packs, we unpack as GNU tar does', async () => {
  const source = join(dir, 'source');
  await mkdir(join(source, 'sub folder/ü'), { recursive: true });
  await writeFile(join(source, 'sub folder/ü/file'), 'x'.repeat(300_000), { mode: 0o640 });
  await writeFile(join(source, 'empty'), '');
  await output({ command: 'ln', args: ['-s', 'sub folder', join(source, 'link')] });
  await output({ command: 'ln', args: [join(source, 'empty'), join(source, 'hard')] });
  await output({ command: 'tar', args: ['-cf', join(dir, 'gnu.tar'), '-C', source, '.'] });
  await unpackLayers([{ name: 'gnu', tar: join(dir, 'gnu.tar') }], root, {
    layersDir: join(dir, 'layers'),
    sizeLimitBytes: 1e9,
  });
  expect(await output({ command: 'diff', args: ['-r', source, root] })).toBe('');
  expect(await readlink(join(root, 'link'))).toBe('sub folder');
  await rm(join(dir, 'gnu.tar'));
});
