import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { mutated } from '@stellwerk/contract/mutated.fixture.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { downloadOf, partOf } from './download.ts';

test.each([
  ['bytes=0-', { start: 0, end: 10 }],
  ['bytes=3-5', { start: 3, end: 6 }],
  ['bytes=3-100', { start: 3, end: 10 }],
  ['bytes=-4', { start: 6, end: 10 }],
  ['bytes=-400', { start: 0, end: 10 }],
  ['BYTES=9-9', { start: 9, end: 10 }],
])('%s of ten bytes is a part', (range, part) => {
  expect(partOf(range, 10)).toEqual(part);
});

test.each([
  undefined,
  '',
  'bytes=',
  'bytes=-',
  'bytes=-0',
  'bytes=10-',
  'bytes=5-4',
  'bytes=0-1,3-4',
  'bytes=a-b',
  'bytes=1e3-',
  'items=0-5',
  `bytes=${'9'.repeat(400)}-`,
])('the range %s means the whole content', (range) => {
  expect(partOf(range, 10)).toBeUndefined();
});

test('a range, whatever became of it, is a part of the content with at least one byte, or means the whole', () => {
  const total = fc.oneof(fc.nat(20), fc.constantFrom(1, 2 ** 31, 2 ** 40, Number.MAX_SAFE_INTEGER));
  const numbers = fc.constantFrom('', '0', '1', '9', '19', '4294967296', '999999999999999', '9007199254740993', '-1');
  const written = fc.tuple(numbers, numbers).map(([first, last]) => `bytes=${first}-${last}`);
  fc.assert(
    fc.property(
      fc.oneof(mutated('bytes=0-', 'bytes=3-5', 'bytes=-4', 'bytes=0-1,3-4'), written),
      total,
      (range, size) => {
        const part = partOf(range, size);
        if (!part) return;
        for (const at of [part.start, part.end]) expect(Number.isSafeInteger(at)).toBe(true);
        expect(part.start).toBeGreaterThanOrEqual(0);
        expect(part.end).toBeGreaterThan(part.start);
        expect(part.end).toBeLessThanOrEqual(size);
        expect(range, 'what is of several parts means the whole').not.toContain(',');
      },
    ),
    { numRuns: 5_000 },
  );
});

test('a range that is written without end means the whole content', () => {
  for (const part of [' ', '\t', '0', '-', '0-', ',', '0-1,', 'bytes=', '=', '\n'])
    for (const range of [`bytes=${part.repeat(200_000)}`, `bytes=0-1${part.repeat(200_000)}x`, part.repeat(200_000)])
      expect(partOf(range, 10)).toBeUndefined();
});

test('an empty content is never opened', async () => {
  const download = downloadOf({ sizeBytes: 0 }, { range: 'bytes=0-' }, () => {
    throw new Error('opened');
  });
  expect(download.sizeBytes).toBe(0);
  expect(await buffer(download.stream)).toHaveLength(0);
});

test('a part tells where it lies in the whole', () => {
  const download = downloadOf({ sizeBytes: 10, filename: 'a' }, { range: 'bytes=2-4' }, () => Readable.from(['abc']));
  expect(download).toMatchObject({ sizeBytes: 3, range: { start: 2, end: 5, total: 10 }, filename: 'a' });
});
