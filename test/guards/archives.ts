import type { Guard } from './guard.ts';

const unzip = 'server/src/snapshot/unzip.ts';
const zips = 'server/src/snapshot/snapshots.test.ts';
const reading = 'server/src/oci/tar-read.ts';
const parsing = 'server/src/oci/tar-parse.ts';
const entries = 'server/src/oci/layer-entry.ts';
const tars = 'server/src/oci/tar-read.test.ts';
const tree = 'server/src/oci/file-tree.ts';
const unpacking = 'server/src/oci/unpack.ts';
const unpacked = 'server/src/oci/unpack.test.ts';

export const archiveGuards: readonly Guard[] = [
  {
    attack: 'zip: a file that was not announced, wherever it would lie',
    guard: 'only what the listing names is taken out',
    changes: [
      {
        file: unzip,
        code: 'if (!file) throw refused(`',
        without: 'if (!file) return undefined; if (!file) throw refused(`',
      },
    ],
    test: zips,
    named: 'an archive with a file that is not listed',
  },
  {
    attack: 'zip: the same name twice',
    guard: 'each file is taken out once',
    changes: [{ file: unzip, code: 'wanted.delete(path);', without: '' }],
    test: zips,
    named: 'an archive with a file twice',
  },
  ...(['a symbolic link', 'a device', 'a pipe'] as const).map((what) => ({
    attack: `zip: ${what}`,
    guard: 'only plain files are taken out',
    changes: [{ file: unzip, code: 'if (type !== 0 && type !== regularFile)', without: 'if (false)' }],
    test: zips,
    named: `an archive with ${what}`,
  })),
  {
    attack: 'zip: a bomb that claims to be small',
    guard: 'unpacking stops at the size that was announced',
    changes: [{ file: unzip, code: '{ maxOutputLength: entry.uncompressedSize + 1 }', without: '{}' }],
    test: 'server/src/snapshot/unzip.test.ts',
    named: 'unpacked at once, that unpacks to more',
  },
  {
    attack: 'zip: a bomb that tells its size',
    guard: 'the size must be the announced one',
    changes: [{ file: unzip, code: 'if (entry.uncompressedSize !== file.sizeBytes)', without: 'if (false)' }],
    test: 'server/src/snapshot/unzip.test.ts',
    named: 'that brings a file twice, or one of another size',
  },
  {
    attack: 'zip: millions of entries',
    guard: 'not many more than were announced',
    changes: [{ file: unzip, code: 'if (zip.entryCount > 2 * files.length + 10_000)', without: 'if (false)' }],
    test: 'server/src/snapshot/unzip.test.ts',
    named: 'that has many more entries than were announced is refused',
  },
  {
    attack: 'tar: `../`',
    guard: 'no path of a member climbs, whether it is cleaned or not',
    changes: [
      { file: reading, code: "parts.includes('..') || path.startsWith('/')", without: "path.startsWith('/')" },
      { file: entries, code: "part === '' || part === '.' || part === '..'", without: "part === '' || part === '.'" },
    ],
    test: tars,
    named: 'refuses a path that climbs',
  },
  {
    attack: 'tar: an absolute path',
    guard: 'no path of a member is absolute',
    changes: [{ file: reading, code: "parts.includes('..') || path.startsWith('/')", without: "parts.includes('..')" }],
    test: tars,
    named: 'refuses an absolute path',
  },
  {
    attack: 'tar: a hard link to outside',
    guard: 'its target is a path of the archive',
    changes: [
      {
        file: reading,
        code: "if (type === 'hardlink') return cleanPath(target);",
        without: "if (type === 'hardlink') return target;",
      },
    ],
    test: tars,
    named: 'refuses a hard link',
  },
  {
    attack: 'image layers: a symbolic link, then a file through it',
    guard: 'links are followed as if the tree were the root of a machine',
    changes: [{ file: tree, code: "if (next.target.startsWith('/')) trail.length = 1;", without: '' }],
    test: unpacked,
    named: 'a file behind an absolute link lands inside the root',
  },
  {
    attack: 'image layers: a device or a pipe',
    guard: 'they are left out',
    changes: [
      { file: reading, code: "'3': 'device'", without: "'3': 'file'" },
      { file: reading, code: "'4': 'device'", without: "'4': 'file'" },
    ],
    test: unpacked,
    named: 'devices and pipes are left out',
  },
  {
    attack: 'image layers: set-user-id',
    guard: 'the bit is not written',
    changes: [
      {
        file: unpacking,
        code: 'fchmodSync(fd, (member.mode & 0o777) | 0o600);',
        without: 'fchmodSync(fd, member.mode | 0o600);',
      },
    ],
    test: unpacked,
    named: 'nothing is set-user-id',
  },
  {
    attack: 'image layers: more bytes than a disk holds',
    guard: 'they are counted before anything is written',
    changes: [{ file: unpacking, code: 'if (left < 0)', without: 'if (false)' }],
    test: unpacked,
    named: 'more bytes than allowed are refused',
  },
  ...(['gzip', 'zstd'] as const).map((kind) => ({
    attack: `image layers: a bomb of ${kind}`,
    guard: 'unpacking stops where little becomes too much',
    changes: [
      {
        file: 'server/src/oci/decompress.ts',
        code: 'if (written > limit.ratioFromBytes && written > counted.read * limit.ratio)',
        without: 'if (false)',
      },
    ],
    test: 'server/src/oci/hostile-documents.test.ts',
    named: `a bomb of ${kind}`,
  })),
  {
    attack: 'tar: millions of members',
    guard: 'they are counted',
    changes: [{ file: reading, code: 'if (++count > limit)', without: 'if (false)' }],
    test: tars,
    named: 'more members than the limit are refused',
  },
  {
    attack: 'tar: a negative or an impossible size',
    guard: 'sizes are checked, and contents lie inside the archive',
    changes: [
      {
        file: parsing,
        code: 'if (value > BigInt(Number.MAX_SAFE_INTEGER) || bytes[0] === 0xff)',
        without: 'if (false)',
      },
      { file: reading, code: 'if (member.offset + member.sizeBytes > window.sizeBytes)', without: 'if (false)' },
    ],
    test: tars,
    named: 'refuses a negative size',
  },
  {
    attack: 'tar: a negative size in attributes',
    guard: 'a size is digits',
    changes: [{ file: reading, code: '/^\\d{1,15}$/.test(text) ? Number(text) : Number.NaN', without: 'Number(text)' }],
    test: tars,
    named: 'refuses a PAX size that is negative',
  },
  {
    attack: 'tar: a sparse member',
    guard: 'refused',
    changes: [
      {
        file: reading,
        code: "if (Object.keys(records).some((key) => key.startsWith('GNU.sparse')))",
        without: 'if (false)',
      },
    ],
    test: tars,
    named: 'refuses a sparse member of PAX',
  },
];
