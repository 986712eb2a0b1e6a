// A run that is begun again goes on from its checkpoint: one series, whatever the attempts had logged.
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ada, type RunRooms, runRooms, workspace } from '../run/run-rooms.fixture.ts';

let rooms: RunRooms;
beforeAll(async () => {
  rooms = await runRooms();
});
afterAll(() => rooms[Symbol.asyncDispose]());

/** Logs lines as an attempt of the run. */
async function attempt(run: string, number: number, lines: unknown[][]): Promise<void> {
  rooms.scratch.write(`UPDATE run SET attempt = ${number} WHERE id = '${run}'`);
  let offset = 0;
  for (let at = 0; at < lines.length; at += 700) {
    const text = lines.slice(at, at + 700).map((line) => `${JSON.stringify(line)}\n`);
    const body = Readable.from([Buffer.from(text.join(''))], { objectMode: false });
    const part = { workspace, run, journal: `${number}.main`, offset, attempt: number };
    offset = (await rooms.journals.append(part, ada, body)).offset;
  }
}

const series = (run: string, name = 'x') => rooms.metrics.getSeries({ workspace, run, name, limit: 100_000 });

test('a series is what the last attempt at each step logged, however long it is, and so is its summary', async () => {
  const steps = fc.array(fc.record({ from: fc.nat(4_000), count: fc.integer({ min: 1, max: 3_000 }) }), {
    minLength: 1,
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(steps, async (attempts) => {
      const run = (await rooms.start({ experiment: 'rewind' })).id;
      let expected: { step: number; value: number }[] = [];
      for (const [at, { from, count }] of attempts.entries()) {
        const logged = Array.from({ length: count }, (_, i) => ({ step: from + i, value: Math.sin(at * 7 + i) }));
        expected = [...expected.filter(({ step }) => step < from), ...logged];
        await attempt(
          run,
          at + 1,
          logged.map(({ step, value }) => ['m', 'x', value, step, step]),
        );
      }
      const { points, summary } = await series(run);
      expect(points!.map(({ step, value }) => ({ step, value }))).toEqual(expected);
      const values = expected.map(({ value }) => value);
      expect(summary).toMatchObject({
        count: expected.length,
        first: values[0],
        last: values.at(-1),
        min: values.reduce((a, b) => Math.min(a, b)),
        max: values.reduce((a, b) => Math.max(a, b)),
        lastStep: expected.at(-1)!.step,
      });
      const buckets = (await rooms.metrics.getSeries({ workspace, run, name: 'x', buckets: 7 })).buckets!;
      expect(buckets.reduce((sum, { count }) => sum + count, 0)).toBe(expected.length);
    }),
    { numRuns: 12 },
  );
}, 120_000);

test('what has no step stays, as do other series and those of earlier steps; rows go by their steps too', async () => {
  const run = (await rooms.start({ experiment: 'rewind' })).id;
  await attempt(run, 1, [
    ...[0, 1, 2, 3].map((step) => ['m', 'x', step, step, step]),
    ['m', 'loose', 1, null, 1],
    ['m', 'other', 5, 9, 1],
    ['l', 'odd', ['a', 'b'], 1, 1],
    ['l', 'odd', ['c'], 3, 1],
    ...[0, 1, 2, 3].map((step) => ['r', 'rows', { step }, step, step]),
  ]);
  await attempt(run, 2, [
    ['m', 'x', 20, 2, 10],
    ['m', 'loose', 2, null, 10],
    ['l', 'odd', ['z'], 2, 10],
    ['r', 'rows', { step: 'again' }, 1, 10],
  ]);
  const values = async (name: string) => (await series(run, name)).points!.map(({ value }) => value);
  expect(await values('x')).toEqual([0, 1, 20]);
  expect(await values('loose')).toEqual([1, 2]);
  expect(await values('other')).toEqual([5]);
  expect(await values('odd')).toEqual(['a', 'b', 'z']);
  expect((await series(run, 'rows')).rows!.map(({ row }) => row.step)).toEqual([0, 'again']);
  expect((await series(run, 'x')).summary).toMatchObject({ count: 3, min: 0, max: 20, last: 20, lastStep: 2 });
});

test('an attempt that begins at the very first step leaves nothing of the one before', async () => {
  const run = (await rooms.start({ experiment: 'rewind' })).id;
  await attempt(
    run,
    1,
    [5, 6, 7].map((step) => ['m', 'x', -step, step, step]),
  );
  await attempt(run, 2, [['m', 'x', 1, 0, 9]]);
  const { points, summary } = await series(run);
  expect(points!.map(({ value }) => value)).toEqual([1]);
  expect(summary).toMatchObject({ count: 1, first: 1, last: 1, min: 1, max: 1 });
});

test('what a run took of its machine is kept apart from what its script logged, and its peaks are found', async () => {
  const [one, two] = [await rooms.start({ experiment: 'took' }), await rooms.start({ experiment: 'took' })];
  await rooms.append(one.id, [
    ['m', 'memoryBytes', 1, 0, 1],
    ['u', 'memoryBytes', 5e9, 1],
    ['u', 'memoryBytes', 2e9, 2],
    ['u', 'gpu0.use', 0.5, 2],
  ]);
  await rooms.append(two.id, [['u', 'memoryBytes', 3e9, 1]]);
  const names = async (of?: 'resources') =>
    (await rooms.metrics.list({ workspace, run: one.id, of })).items.map(({ name, max }) => [name, max]);
  expect(await names()).toEqual([['memoryBytes', 1]]);
  expect(await names('resources')).toEqual([
    ['memoryBytes', 5e9],
    ['gpu0.use', 0.5],
  ]);
  const { points } = await rooms.metrics.getSeries({ workspace, run: one.id, name: 'memoryBytes', of: 'resources' });
  expect(points!.map(({ value }) => value)).toEqual([5e9, 2e9]);
  const found = async (filter: string) =>
    (await rooms.runs.query({ workspace, filter } as never)).items.map(({ id }) => id);
  expect(await found('resources.memoryBytes > 4e9')).toEqual([one.id]);
  expect(await found('resources.memoryBytes.last > 2e9')).toEqual([two.id]);
  expect(await found('resources.gpu0.use > 0.4')).toEqual([one.id]);
  expect(await found('metrics.memoryBytes > 2')).toEqual([]);
});

test('no metric of a script can pass for a resource', async () => {
  const run = (await rooms.start({ experiment: 'took' })).id;
  await expect(rooms.append(run, [['m', '\u001fmemoryBytes', 1, 0, 1]])).rejects.toMatchObject({
    reason: 'run.journal-invalid',
  });
});
