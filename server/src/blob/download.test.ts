import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
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
