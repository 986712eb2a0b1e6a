import { createHash } from 'node:crypto';
import type { SnapshotFile } from '@stellwerk/contract/snapshot.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { findInListing, listingOf, parseListing } from './listing.ts';

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
const file = (path: string, letter = 'a', sizeBytes = 1): SnapshotFile => ({ path, digest: digest(letter), sizeBytes });
const sha256 = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;

test('the digest is that of the canonical listing, in whatever order the files are given', () => {
  const files = [
    file('b.py', 'b', 2),
    { ...file('a/train.py'), executable: true },
    { ...file('a.py'), executable: false },
  ];
  const text = `${digest('a')} 1 - a.py\n${digest('a')} 1 x a/train.py\n${digest('b')} 2 - b.py\n`;
  expect(listingOf(files)).toMatchObject({ digest: sha256(text), sizeBytes: 4 });
  expect(listingOf(files.toReversed()).digest).toBe(sha256(text));
});

test('an empty folder is a snapshot', () => {
  expect(listingOf([])).toMatchObject({ digest: sha256(''), sizeBytes: 0 });
  expect(parseListing('')).toEqual([]);
});

test('paths are in the order of their bytes in UTF-8', () => {
  const paths = ['\u{1f600}', '\uffff', 'é', 'z', 'a b'];
  expect(listingOf(paths.map((path) => file(path))).files.map(({ path }) => path)).toEqual([
    'a b',
    'z',
    'é',
    '\uffff',
    '\u{1f600}',
  ]);
});

test('what is written is read back, all of it or one file', () => {
  const part = fc
    .string({
      unit: fc.oneof(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 }),
        fc.constantFrom('\n', '\r', '\t', '\u001b', '\u0085'),
      ),
      minLength: 1,
      maxLength: 8,
    })
    .map((text) => text.replace(/[/\\\0:]/gu, '_'));
  const path = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => `x${parts.join('/x')}`);
  const names = fc.uniqueArray(path, { selector: (name) => name.normalize('NFC').toLowerCase().split('/')[0] });
  fc.assert(
    fc.property(names, (paths) => {
      const files = paths.map((name, i) => ({ ...file(name, 'c', 3), ...(i % 2 && { executable: true }) }));
      const listing = listingOf(files);
      const text = listing.text.toString();
      expect(parseListing(text)).toEqual(listing.files);
      expect(paths.map((path) => findInListing(text, path)?.path)).toEqual(paths);
    }),
  );
});

test('a file is found by its whole path only', () => {
  const text = listingOf(['a b', 'x b', 'b c'].map((path) => file(path))).text.toString();
  expect(findInListing(text, 'b')).toBeUndefined();
  expect(findInListing(text, '1 - a b')).toBeUndefined();
  expect(findInListing(text, 'x b')).toEqual(file('x b'));
});

test.each([
  [['a', 'a'], 'listed twice'],
  [['Train.py', 'train.py'], 'case'],
  [['e\u0301.py', '\u00e9.py'], 'case'],
  [['src/a', 'src'], 'below it'],
  [['SRC/a/b', 'src'], 'below it'],
  [['a', 'a!', 'a/b'], 'below it'],
])('%j cannot be together', (paths, why) => {
  expect(() => listingOf(paths.map((path) => file(path)))).toThrow(expect.objectContaining({ reason: 'path.invalid' }));
  expect(() => listingOf(paths.map((path) => file(path)))).toThrow(why);
});

test('files that only look alike can be together', () => {
  expect(listingOf(['a', 'a.b', 'a-b/c', 'a.d/c', 'ab', 'b/a'].map((path) => file(path))).files).toHaveLength(6);
});

test('one digest cannot have two sizes', () => {
  expect(() => listingOf([file('a', 'a', 1), file('b', 'a', 2)])).toThrow('another size');
});
