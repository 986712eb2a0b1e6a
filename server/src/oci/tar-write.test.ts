import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { output } from '../exec/programs.ts';
import { collect } from './hostile-tar.ts';
import type { LayerEntry } from './layer-entry.ts';
import { tarMembers } from './tar-read.ts';
import { writeTar } from './tar-write.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'oci-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const bytes = (path: string, text = '', mode = 0o644): LayerEntry => ({
  path,
  mode,
  source: { bytes: Buffer.from(text) },
});
const folder = (path: string): LayerEntry => ({ path, mode: 0o755, source: { directory: true } });

async function tarOf(entries: LayerEntry[]): Promise<Buffer> {
  return Buffer.concat(await collect(writeTar(entries)));
}

async function listed(tar: Buffer) {
  const file = join(dir, 'listed.tar');
  await writeFile(file, tar);
  return await collect(tarMembers(file));
}

const corners = [
  bytes('empty'),
  bytes('a/b/c.txt', 'content', 0o755),
  bytes(`${'d'.repeat(90)}/${'e'.repeat(90)}`, 'fits into prefix and name'),
  bytes(`long/${'n'.repeat(120)}`, 'needs PAX'),
  bytes(`${'deep/'.repeat(100)}file`, 'deep'),
  bytes('ünï/文件 mit Leerzeichen\nund Zeile', 'unicode'),
  bytes('exactly-512', 'x'.repeat(512)),
  folder('hollow'),
  folder(`${'f'.repeat(150)}`),
  { path: 'short-link', mode: 0o777, source: { symlink: 'a/b/c.txt' } },
  { path: 'long-link', mode: 0o777, source: { symlink: `/${'t'.repeat(200)}` } },
  { path: 'sticky', mode: 0o1777, source: { directory: true } },
] satisfies LayerEntry[];

test('what GNU tar reads from a layer is what was put in, whatever the names', async () => {
  const file = join(dir, 'x.tar');
  await writeFile(file, await tarOf(corners));
  const to = join(dir, 'to');
  await mkdir(to);
  await output({ command: 'tar', args: ['-xf', file, '-C', to, '--warning=no-timestamp'] });
  for (const entry of corners) {
    if ('bytes' in entry.source) expect(await readFile(join(to, entry.path))).toEqual(entry.source.bytes);
  }
  const modes = await output({ command: 'tar', args: ['-tvf', file, '--numeric-owner', '--full-time'] });
  expect(modes).toMatch(/^drwxrwxrwt 0\/0 +0 1970-01-01 00:00:00 sticky\/$/m);
  expect(modes).toMatch(/^-rwxr-xr-x 0\/0 +7 1970-01-01 00:00:00 a\/b\/c\.txt$/m);
});

test('what we read back is what we wrote', async () => {
  const members = await listed(await tarOf(corners));
  expect(new Set(members.map((member) => member.path))).toEqual(new Set(corners.map((entry) => entry.path)));
  expect(members.find(({ path }) => path === 'long-link')?.linkTarget).toBe(`/${'t'.repeat(200)}`);
  expect(members.filter(({ type }) => type === 'directory').map(({ path }) => path)).toEqual([
    'f'.repeat(150),
    'hollow',
    'sticky',
  ]);
});

test('the same entries make the same bytes in any order, from any place, with any file times', async () => {
  const [one, two] = [join(dir, 'one'), join(dir, 'Zwei ü')];
  const tars = [];
  for (const [place, time] of [
    [one, 1],
    [two, 2_000_000_000],
  ] as const) {
    await mkdir(place);
    await writeFile(join(place, 'file'), 'same', { mode: place === one ? 0o600 : 0o666 });
    await utimes(join(place, 'file'), time, time);
    const entries: LayerEntry[] = [
      ...corners,
      { path: 'from-disk', mode: 0o644, source: { file: join(place, 'file') } },
    ];
    tars.push(await tarOf(place === one ? entries : entries.reverse()));
  }
  expect(tars[0]!.equals(tars[1]!)).toBe(true);
  // A change of these bytes changes every image's digest: it must be deliberate.
  const hash = createHash('sha256')
    .update(await tarOf([bytes('a', 'b'), folder('c')]))
    .digest('hex');
  expect(hash).toBe('8f6e1d54a6784c7652a9adcf4abffaaa6ed57ddeb37797c9bf53cad42020b811');
});

test('large files come through unharmed, wherever they fall in the chunks', async () => {
  const large = Buffer.alloc(3 * 1024 * 1024 + 17, 'ab');
  await writeFile(join(dir, 'large'), large);
  const tar = await tarOf([
    bytes('a', 'x'),
    { path: 'large', mode: 0o644, source: { file: join(dir, 'large') } },
    bytes('z', 'y'),
  ]);
  const members = await listed(tar);
  const member = members[1]!;
  expect(member.sizeBytes).toBe(large.length);
  expect(tar.subarray(member.offset, member.offset + member.sizeBytes).equals(large)).toBe(true);
  expect(members[2]?.path).toBe('z');
});

test('a file that changes its size while it is read is refused', async () => {
  const file = join(dir, 'shrinking');
  await writeFile(file, Buffer.alloc(4 * 1024 * 1024));
  const tar = writeTar([{ path: 'shrinking', mode: 0o644, source: { file } }]);
  await tar.next();
  await truncate(file, 10);
  await expect(collect(tar)).rejects.toThrow(/changed while it was read/);
});

test('a symbolic link in the place of a file is not followed', async () => {
  await symlink('/etc/hostname', join(dir, 'link'));
  await expect(tarOf([{ path: 'x', mode: 0o644, source: { file: join(dir, 'link') } }])).rejects.toThrow(/ELOOP/);
});

test('set-user-id and set-group-id do not get into a layer', async () => {
  const [member] = await listed(await tarOf([bytes('su', '', 0o6755)]));
  expect(member?.mode).toBe(0o755);
});

test.each(['', '/absolute', '../up', 'a/../b', 'a//b', './a', 'a/', 'nul\0', 'x'.repeat(256), 'broken\ud800'])(
  'the path %j is refused',
  async (path) => {
    await expect(tarOf([bytes(path)])).rejects.toMatchObject({ reason: 'archive.invalid' });
  },
);

test('a path that comes twice is refused', async () => {
  await expect(tarOf([bytes('a', '1'), bytes('a', '2')])).rejects.toThrow(/twice/);
});

test('a canceled layer stops', async () => {
  await expect(collect(writeTar(corners, AbortSignal.abort()))).rejects.toThrow();
});
