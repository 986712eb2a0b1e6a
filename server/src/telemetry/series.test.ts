import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RunRooms, runRooms, workspace } from '../run/run-rooms.fixture.ts';

let rooms: RunRooms;
beforeAll(async () => {
  rooms = await runRooms();
});
afterAll(() => rooms[Symbol.asyncDispose]());

type Logged = number | 'NaN' | 'Infinity' | '-Infinity';

/** Logs the values in parts of the given sizes, as a shipper would. */
async function logged(values: readonly Logged[], parts: readonly number[]): Promise<string> {
  const run = (await rooms.start({ experiment: 'series' })).id;
  let at = 0;
  let offset = 0;
  for (const size of [...parts, values.length]) {
    const part = values.slice(at, at + size).map((value, i) => ['m', 'x', value, (at + i) * 2, at + i]);
    if (part.length > 0) offset = (await rooms.append(run, part, offset)).offset;
    at += size;
  }
  return run;
}

const asNumber = (value: Logged) => Number(value);
const wire = (value: number): Logged => (Number.isFinite(value) ? value : (String(value) as Logged));

/** What buckets must be, computed from all points. */
function naive(values: readonly Logged[], wanted: number) {
  const parts = Math.min(wanted, values.length);
  return Array.from({ length: parts }, (_, part) => {
    const from = Math.floor((part * values.length) / parts);
    const to = Math.floor(((part + 1) * values.length) / parts);
    const numbers = values
      .slice(from, to)
      .map(asNumber)
      .filter((value) => !Number.isNaN(value));
    return {
      firstStep: from * 2,
      lastStep: (to - 1) * 2,
      min: numbers.length > 0 ? wire(Math.min(...numbers)) : 'NaN',
      max: numbers.length > 0 ? wire(Math.max(...numbers)) : 'NaN',
      last: wire(asNumber(values[to - 1]!)),
      count: to - from,
    };
  });
}

test('buckets are those of a naive computation, however the series was cut into parts', async () => {
  const value = fc.oneof(
    { weight: 20, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }) },
    fc.constantFrom<Logged>('NaN', 'Infinity', '-Infinity'),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(value, { minLength: 1, maxLength: 6_000, size: 'max' }),
      fc.array(fc.integer({ min: 1, max: 2_500 }), { maxLength: 12 }),
      fc.integer({ min: 1, max: 3_000 }),
      async (values, parts, buckets) => {
        const plain = values.map((each) => (Object.is(each, -0) ? 0 : each));
        const run = await logged(plain, parts);
        const read = await rooms.metrics.getSeries({ workspace, run, name: 'x', buckets });
        expect(read.buckets).toEqual(naive(plain, buckets));
        expect(read.summary.count).toBe(values.length);
        const offset = Math.floor(values.length / 3);
        const { points } = await rooms.metrics.getSeries({ workspace, run, name: 'x', offset, limit: 1_500 });
        expect(points?.map(({ value: each }) => each)).toEqual(plain.slice(offset, offset + 1_500));
        expect(points?.map(({ step }) => step)).toEqual(
          plain.slice(offset, offset + 1_500).map((_, i) => (offset + i) * 2),
        );
      },
    ),
    { numRuns: 25 },
  );
});

test('points logged one at a time lie in few chunks', async () => {
  const run = await logged(
    Array.from({ length: 300 }, (_, i) => i),
    new Array(300).fill(1),
  );
  const { db } = rooms.scratch;
  const chunks = await db.all({ compile: () => ({ sql: 'SELECT count FROM point_chunk', parameters: [] }) } as never);
  const { points } = await rooms.metrics.getSeries({ workspace, run, name: 'x' });
  expect(points?.map(({ value }) => value)).toEqual(Array.from({ length: 300 }, (_, i) => i));
  expect(chunks.length).toBeGreaterThan(0);
});

test('a million points come as a thousand buckets', async () => {
  const run = (await rooms.start({ experiment: 'series' })).id;
  let offset = 0;
  for (let at = 0; at < 1_000_000; at += 40_000) {
    const part = Array.from({ length: 40_000 }, (_, i) => [
      'm',
      'loss',
      Math.sin((at + i) / 1_000),
      at + i,
      1_700_000_000 + at + i,
    ]);
    offset = (await rooms.append(run, part, offset)).offset;
  }
  const { buckets } = await rooms.metrics.getSeries({ workspace, run, name: 'loss', buckets: 1_000 });
  expect(buckets).toHaveLength(1_000);
});
