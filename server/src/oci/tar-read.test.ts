import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { output } from '../exec/programs.ts';
import { collect, type RawMember, rawTar } from './hostile-tar.ts';
import { tarMembers } from './tar-read.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'oci-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

async function read(tar: Buffer) {
  const file = join(dir, 'x.tar');
  await writeFile(file, tar);
  return await collect(tarMembers(file));
}

const pax = (text: string): RawMember => ({ name: 'pax', type: 'x', content: text });

test.each(['gnu', 'pax', 'ustar', 'v7'])('reads what GNU tar writes in the format %s', async (format) => {
  const name = format === 'v7' ? 'short' : `${'folder/'.repeat(20)}${'file'.repeat(10)}`;
  await mkdir(join(dir, 'in', name, '..'), { recursive: true });
  await writeFile(join(dir, 'in', name), 'content');
  await output({ command: 'tar', args: ['-cf', join(dir, 'x.tar'), `--format=${format}`, '-C', join(dir, 'in'), '.'] });
  const members = await collect(tarMembers(join(dir, 'x.tar')));
  expect(members[0]).toMatchObject({ path: '', type: 'directory' });
  expect(members.at(-1)).toMatchObject({ path: name, type: 'file', sizeBytes: 7 });
});

test('reads names and targets of a kilobyte, in the ways of GNU and of PAX', async () => {
  const long = Array.from({ length: 100 }, () => 'part-of-a-name').join('/');
  const record = (key: string, value: string) => {
    const rest = ` ${key}=${value}\n`;
    const length = rest.length + 4;
    return `${length}${rest}`;
  };
  const members = await read(
    rawTar(
      { name: '././@LongLink', type: 'L', content: `${long}\0` },
      { name: '././@LongLink', type: 'K', content: `/${long}\0` },
      { name: 'cut', type: '2', link: 'cut' },
      pax(record('path', long)),
      { name: 'cut', content: 'x' },
    ),
  );
  expect(members.map(({ path, linkTarget }) => [path, linkTarget])).toEqual([
    [long, `/${long}`],
    [long, ''],
  ]);
});

const attacks: [string, Buffer, RegExp][] = [
  ['a path that climbs', rawTar({ name: '../../etc/passwd' }), /leads out/],
  ['a path that climbs in the middle', rawTar({ name: 'a/../../b' }), /leads out/],
  ['an absolute path', rawTar({ name: '/etc/passwd' }), /leads out/],
  ['an absolute path by PAX', rawTar(pax('20 path=/etc/passwd\n'), { name: 'x' }), /leads out/],
  ['a hard link that climbs', rawTar({ name: 'x', type: '1', link: '../../etc/shadow' }), /leads out/],
  ['a hard link to an absolute path', rawTar({ name: 'x', type: '1', link: '/etc/shadow' }), /leads out/],
  ['a symbolic link to nothing', rawTar({ name: 'x', type: '2', link: '' }), /impossible target/],
  ['a file without a name', rawTar({ name: './', type: '0' }, { name: '' }), /without a name/],
  ['a negative size', rawTar({ name: 'x', size: `${'\xff'.repeat(12)}` }), /impossible size/],
  ['a size beyond all numbers', rawTar({ name: 'x', size: `\x80${'\x7f'.repeat(11)}` }), /impossible size/],
  ['a size that is none', rawTar({ name: 'x', size: '12345678x\0' }), /number that is none/],
  ['a size beyond the file', rawTar({ name: 'x', content: 'abc', size: '00077777777\0' }), /in the middle/],
  ['a PAX size that is negative', rawTar(pax('11 size=-5\n'), { name: 'x' }), /of the size/],
  ['a sparse member of GNU', rawTar({ name: 'x', type: 'S' }), /sparse type/],
  ['a sparse member of PAX', rawTar(pax('22 GNU.sparse.major=1\n'), { name: 'x' }), /sparse member/],
  ['an unknown type', rawTar({ name: 'x', type: 'Z' }), /unknown/],
  ['a PAX record whose length lies', rawTar(pax('99 path=x\n'), { name: 'x' }), /damaged attributes/],
  [
    'a PAX header for all members',
    rawTar({ name: 'g', type: 'g', content: '10 path=x\n' }, { name: 'y' }),
    /all its members/,
  ],
  [
    'a name of two mebibytes',
    rawTar({ name: 'L', type: 'L', content: 'x'.repeat(2 * 1024 * 1024) }, { name: 'y' }),
    /1 MiB/,
  ],
  ['a wrong checksum', rawTar({ name: 'x' }).fill(0x41, 0, 1), /checksum/],
  ['no tar at all', Buffer.alloc(2048, 'no tar '), /no tar archive/],
  ['a cut archive', rawTar({ name: 'x', content: 'abc' }).subarray(0, 700).subarray(0, 513), /in the middle/],
  ['a name that is no UTF-8', rawTar({ name: Buffer.from([0xff]) }), /not UTF-8/],
];

test.each(attacks)('refuses %s', async (_, tar, why) => {
  await expect(read(tar)).rejects.toMatchObject({ reason: 'archive.invalid', message: expect.stringMatching(why) });
});

test('more members than the limit are refused', async () => {
  const file = join(dir, 'x.tar');
  await writeFile(file, rawTar(...['a', 'b', 'c'].map((name) => ({ name }))));
  expect(await collect(tarMembers(file, undefined, 3))).toHaveLength(3);
  await expect(collect(tarMembers(file, undefined, 2))).rejects.toThrow(/more than 2 members/);
});

test('whatever the bytes are, reading ends with members inside the archive or with a refusal', async () => {
  const sound = rawTar({ name: 'a/b', content: 'hello' }, { name: 'l', type: '2', link: 'a' }, pax('12 path=zz\n'), {
    name: 'y',
  });
  const damage = fc.array(fc.tuple(fc.nat(sound.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(damage, async (changes) => {
      const tar = Buffer.from(sound);
      for (const [at, value] of changes) tar[at] = value;
      const members = await read(tar).catch((error) => {
        expect(error).toMatchObject({ reason: 'archive.invalid' });
        return [];
      });
      for (const member of members) {
        expect(member.offset + member.sizeBytes).toBeLessThanOrEqual(tar.length);
        expect(member.path.split('/')).not.toContain('..');
      }
    }),
    { numRuns: 150 },
  );
});
