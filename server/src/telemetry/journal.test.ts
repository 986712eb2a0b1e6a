import { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ada, type RunRooms, runRooms, workspace } from '../run/run-rooms.fixture.ts';
import { namesPerRun } from './append.ts';

let rooms: RunRooms;
let run: string;
beforeAll(async () => {
  rooms = await runRooms();
});
afterAll(() => rooms[Symbol.asyncDispose]());
beforeEach(async () => {
  run = (await rooms.start({ experiment: 'journals' })).id;
});

const send = (text: string | Uint8Array, offset = 0) =>
  rooms.journals.append(
    { workspace, run, journal: 'main', offset },
    ada,
    Readable.from([Buffer.from(text)], { objectMode: false }),
  );
const values = async (name = 'x') => {
  const { points } = await rooms.metrics.getSeries({ workspace, run, name });
  return points?.map(({ value }) => value);
};
const line = (value: number, name = 'x') => `${JSON.stringify(['m', name, value, null, 1_700_000_000.5])}\n`;
async function refusal(act: Promise<unknown>): Promise<ServiceError> {
  const error = await act.then(
    () => undefined,
    (failed) => failed,
  );
  if (!(error instanceof ServiceError)) throw error ?? new Error('was not refused');
  return error;
}

test('what is sent twice counts once, and an overlap counts from where it is new', async () => {
  const [one, two, three] = [line(1), line(2), line(3)];
  expect(await send(one + two)).toEqual({ offset: one.length + two.length });
  expect(await send(one + two)).toEqual({ offset: one.length + two.length });
  expect(await send(two + three, one.length)).toEqual({ offset: one.length + two.length + three.length });
  expect(await send(one)).toEqual({ offset: one.length + two.length + three.length });
  expect(await values()).toEqual([1, 2, 3]);
  expect(await rooms.journals.get({ workspace, run, journal: 'main' })).toEqual({ offset: one.length * 3 });
  expect(await rooms.journals.get({ workspace, run, journal: 'other' })).toEqual({ offset: 0 });
});

test('a gap is refused with the offset to go on from', async () => {
  await send(line(1));
  const error = await refusal(send(line(3), line(1).length * 2));
  expect(error).toMatchObject({ reason: 'run.journal-gap', details: { offset: line(1).length } });
});

test('a line that is not at its end waits for its rest', async () => {
  const text = line(1) + line(2);
  expect(await send(text.slice(0, -5))).toEqual({ offset: line(1).length });
  expect(await send(text.slice(line(1).length), line(1).length)).toEqual({ offset: text.length });
  expect(await values()).toEqual([1, 2]);
});

test('an overlap that cuts a line is refused', async () => {
  await send(line(1));
  expect((await refusal(send(line(22222), 0))).reason).toBe('run.journal-invalid');
});

test.each<[string, string, string]>([
  ['no JSON', 'nonsense', 'not JSON'],
  ['no array', '{"m":1}', 'not a JSON array'],
  ['an unknown kind', '["z",1]', 'begins with "z"'],
  ['a number that is text', '["m","x","1",null,1]', 'element 2 of the m entry'],
  ['an empty name', '["m","",1,null,1]', 'm entry'],
  ['a name that is too long', `["m","${'n'.repeat(256)}",1,null,1]`, 'm entry'],
  ['a step that is a fraction', '["m","x",1,1.5,1]', 'm entry'],
  ['a time beyond dates', '["m","x",1,null,1e15]', 'element 4 of the m entry'],
  ['a missing element', '["m","x",1]', 'm entry'],
  [
    'a row with too many columns',
    JSON.stringify(['r', 'x', Object.fromEntries(Array.from({ length: 16 }, (_, i) => [i, i])), null, 1]),
    '15 columns',
  ],
  [
    'an object nested without end',
    `["o","x","image",{"path":${'['.repeat(100_000)}${']'.repeat(100_000)}},0,1]`,
    'nested more than 100 levels deep',
  ],
  [
    'arrays that are opened without end',
    `${'["prop",'.repeat(30_000)}"key","value"]`,
    'nested more than 100 levels deep',
  ],
  ['a state that is none', '["state","exploded"]', 'state entry'],
  ['a path that leads outside', '["file","../x","sha256:00",1]', 'not allowed'],
])('%s is refused with its line, and nothing of its part counts', async (_, bad, why) => {
  const error = await refusal(send(`${line(1)}${bad}\n${line(2)}`));
  expect(error.details?.line).toBe(2);
  expect(error.message).toContain('Line 2');
  expect(error.message).toContain(why);
  expect(await rooms.journals.get({ workspace, run, journal: 'main' })).toEqual({ offset: 0 });
  expect((await rooms.metrics.list({ workspace, run })).items).toEqual([]);
});

test('a flood of new names is counted once, not for each of them, and refused at the limit', async () => {
  const flood = Array.from({ length: namesPerRun + 1 }, (_, i) => `["m","n${i}",1,0,1]\n`).join('');
  expect((await refusal(send(flood))).message).toContain('has 100000 metrics already');
  expect((await rooms.metrics.list({ workspace, run })).items).toEqual([]);
});

test('bytes that are not UTF-8 are refused', async () => {
  expect((await refusal(send(new Uint8Array([91, 0xff, 93, 10])))).reason).toBe('run.journal-invalid');
});

test('a part larger than the limit is refused before it is kept', async () => {
  expect((await refusal(send('x'.repeat(4 * 1024 * 1024 + 1)))).reason).toBe('request.too-large');
});

test('entries about the run itself change the run', async () => {
  const digest = await rooms.upload('weights');
  await rooms.append(run, [
    ['tag', 'kind', 'ridge'],
    ['tag', 'gone', 'x'],
    ['tag', 'gone', null],
    ['prop', 'source', 'a'],
    ['param', 'alpha', 0.5],
    ['param', 'on', true],
    ['param', 'name', 'x'],
    ['param', 'nothing', null],
    ['name', 'A better name'],
    ['file', 'outputs/w.bin', digest, 7],
    ['state', 'failed', 'It did not work.'],
  ]);
  expect(await rooms.runs.get({ workspace, run })).toMatchObject({
    tags: { kind: 'ridge' },
    properties: { source: 'a' },
    parameters: { alpha: 0.5, on: true, name: 'x', nothing: null },
    displayName: 'A better name',
    state: 'failed',
    reason: 'It did not work.',
  });
  const { items } = await rooms.runs.listFiles({ workspace, run });
  expect(items).toMatchObject([{ path: 'outputs/w.bin', sizeBytes: 7, digest }]);
});

test('a property that has another value already refuses its line', async () => {
  await rooms.append(run, [['prop', 'a', '1']]);
  const error = await refusal(
    rooms.append(
      run,
      [
        ['prop', 'b', '1'],
        ['prop', 'a', '2'],
      ],
      `["prop","a","1"]\n`.length,
    ),
  );
  expect(error).toMatchObject({ reason: 'run.property-set', details: { line: 2 } });
  expect((await rooms.runs.get({ workspace, run })).properties).toEqual({ a: '1' });
});

test('numbers that are not finite, odd values and odd names come back as they were', async () => {
  await rooms.append(run, [
    ['m', 'x', 'NaN', 1, 10.25],
    ['m', 'x', 'Infinity', 2, 11],
    ['m', 'x', -1.5, 3, 12],
    ['l', 'mixed', [1, 'two', true, null, 'NaN'], 7, 13],
    ['m', '__proto__', 1, null, 14],
  ]);
  expect(await rooms.metrics.getSeries({ workspace, run, name: 'x' })).toMatchObject({
    summary: {
      kind: 'number',
      count: 3,
      first: 'NaN',
      last: -1.5,
      min: -1.5,
      max: 'Infinity',
      lastStep: 3,
      lastAt: '1970-01-01T00:00:12.000Z',
    },
    points: [
      { step: 1, at: '1970-01-01T00:00:10.250Z', value: 'NaN' },
      { step: 2, value: 'Infinity' },
      { step: 3, value: -1.5 },
    ],
  });
  const mixed = await rooms.metrics.getSeries({ workspace, run, name: 'mixed' });
  expect(mixed.summary).toMatchObject({ kind: 'list', count: 5, min: 1, max: 1 });
  expect(mixed.points?.map(({ value }) => value)).toEqual([1, 'two', true, null, 'NaN']);
  expect(await values('__proto__')).toEqual([1]);
});

test('a negative zero keeps its sign, in series, lists, rows and summaries', async () => {
  await rooms.append(run, [
    ['m', 'x', -0, 1, 10],
    ['m', 'x', 0, 2, 10],
    ['l', 'list', [0, -0], null, 11],
    ['r', 'row', { a: -0, b: 0 }, null, 12],
  ]);
  expect(await values()).toEqual([-0, 0]);
  expect(await values('list')).toEqual([0, -0]);
  const { items } = await rooms.metrics.list({ workspace, run, recursive: false });
  expect(items.find(({ name }) => name === 'x')).toMatchObject({ first: -0, last: 0 });
  expect(items.find(({ name }) => name === 'list')).toMatchObject({ first: 0, last: -0 });
  const { rows } = await rooms.metrics.getSeries({ workspace, run, name: 'row' });
  expect(rows?.map(({ row }) => row)).toEqual([{ a: -0, b: 0 }]);
  await rooms.append(
    run,
    [['m', 'x', 2, 3, 13]],
    (await rooms.journals.get({ workspace, run, journal: 'main' })).offset,
  );
  expect(await values()).toEqual([-0, 0, 2]);
});

test('rows, tables and structured metrics come back in their order', async () => {
  const rows = Array.from({ length: 700 }, (_, i) => ['r', 'table', { i, name: `row ${i}` }, i, i]);
  let offset = 0;
  for (let at = 0; at < rows.length; at += 7) offset = (await rooms.append(run, rows.slice(at, at + 7), offset)).offset;
  await rooms.append(
    run,
    [
      ['t', 'whole', { a: [1, 2], b: ['x', 'y'] }, null, 5],
      ['o', 'matrix', 'confusion_matrix', { data: [[1, 2]] }, null, 6],
    ],
    offset,
  );
  const {
    rows: read,
    nextOffset,
    summary,
  } = await rooms.metrics.getSeries({ workspace, run, name: 'table', offset: 95, limit: 500 });
  expect(summary).toMatchObject({ kind: 'row', count: 700 });
  expect(read?.map(({ row }) => row.i)).toEqual(Array.from({ length: 500 }, (_, i) => i + 95));
  expect(nextOffset).toBe(595);
  expect(await rooms.metrics.getSeries({ workspace, run, name: 'whole' })).toMatchObject({
    summary: { kind: 'table', count: 1 },
    rows: [{ row: { a: [1, 2], b: ['x', 'y'] }, at: '1970-01-01T00:00:05.000Z', step: null }],
  });
  expect(await rooms.metrics.getSeries({ workspace, run, name: 'matrix' })).toMatchObject({
    summary: { kind: 'confusion_matrix' },
    rows: [{ row: { data: [[1, 2]] } }],
  });
});

test('a metric that was not logged is not found', async () => {
  expect((await refusal(rooms.metrics.getSeries({ workspace, run, name: 'none' }))).reason).toBe(
    'run.metric-not-found',
  );
});

test('metrics of descendants are listed by run', async () => {
  const child = await rooms.start({ experiment: 'journals', parent: run });
  const grandchild = await rooms.start({ experiment: 'journals', parent: child.id });
  await rooms.append(run, [['m', 'x', 1, null, 1]]);
  await rooms.append(grandchild.id, [['m', 'y', 2, null, 1]]);
  const { byRun } = await rooms.metrics.list({ workspace, run, recursive: true });
  expect(Object.entries(byRun!).map(([id, items]) => [id, items.map(({ name }) => name)])).toEqual([
    [run, ['x']],
    [child.id, []],
    [grandchild.id, ['y']],
  ]);
});
