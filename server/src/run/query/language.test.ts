import { ServiceError } from '@stellwerk/contract/errors.ts';
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { parseColumn, parseFilter as parseFilterAt, parseOrder } from './language.ts';
import { loadPatterns } from './patterns.ts';

beforeAll(loadPatterns);

const now = Date.parse('2026-11-25T12:00:00.000Z');
const parseFilter = (text: string) => parseFilterAt(text, now);
const mse = { of: 'metrics', name: 'mse', aggregate: 'last' };
const kind = { of: 'tags', name: 'kind' };

test.each<[string, unknown]>([
  ["state = 'completed'", { is: 'compare', field: { of: 'run', name: 'state' }, by: '=', value: 'completed' }],
  ['metrics.mse < 3e3', { is: 'compare', field: mse, by: '<', value: 3000 }],
  ['METRICS.mse <> -1', { is: 'compare', field: mse, by: '!=', value: -1 }],
  [
    'metrics."val loss".min <= .5',
    { is: 'compare', field: { ...mse, name: 'val loss', aggregate: 'min' }, by: '<=', value: 0.5 },
  ],
  ['metrics.`a``b` > 1', { is: 'compare', field: { ...mse, name: 'a`b' }, by: '>', value: 1 }],
  ['metrics.train/loss > 1', { is: 'compare', field: { ...mse, name: 'train/loss' }, by: '>', value: 1 }],
  ['metrics.top.5.max > 1', { is: 'compare', field: { ...mse, name: 'top.5', aggregate: 'max' }, by: '>', value: 1 }],
  ['metrics.max > 1', { is: 'compare', field: { ...mse, name: 'max' }, by: '>', value: 1 }],
  ['metrics."min" > 1', { is: 'compare', field: { ...mse, name: 'min' }, by: '>', value: 1 }],
  ['metrics.a."min" > 1', { is: 'compare', field: { ...mse, name: 'a.min' }, by: '>', value: 1 }],
  ["metrics.mse < 'Infinity'", { is: 'compare', field: mse, by: '<', value: Number.POSITIVE_INFINITY }],
  ['tags.fold = 3', { is: 'compare', field: { of: 'tags', name: 'fold' }, by: '=', value: 3 }],
  ['parameters.flag = true', { is: 'compare', field: { of: 'parameters', name: 'flag' }, by: '=', value: true }],
  ["displayname = 'it''s'", { is: 'compare', field: { of: 'run', name: 'displayName' }, by: '=', value: "it's" }],
  [
    "createdAt > '2026-11-01'",
    { is: 'compare', field: { of: 'run', name: 'createdAt' }, by: '>', value: '2026-11-01T00:00:00.000Z' },
  ],
  [
    "createdAt > '2026-11-01 12:30'",
    { is: 'compare', field: { of: 'run', name: 'createdAt' }, by: '>', value: '2026-11-01T12:30:00.000Z' },
  ],
  [
    "createdAt > '2026-11-01T12:00:00+02:00'",
    { is: 'compare', field: { of: 'run', name: 'createdAt' }, by: '>', value: '2026-11-01T10:00:00.000Z' },
  ],
  ["tags.kind in ('a', 'b')", { is: 'in', field: kind, values: ['a', 'b'] }],
  [
    "tags.kind not in ('a')",
    {
      is: 'and',
      parts: [
        { is: 'not', part: { is: 'null', field: kind } },
        { is: 'not', part: { is: 'in', field: kind, values: ['a'] } },
      ],
    },
  ],
  ["tags.kind like 'r%'", { is: 'like', field: kind, pattern: 'r%' }],
  ['tags.kind is null', { is: 'null', field: kind }],
  ["tags.kind matches '^r[0-9]+$'", { is: 'matches', field: kind, pattern: '^r[0-9]+$' }],
  ["tag.kind = 'a'", { is: 'compare', field: kind, by: '=', value: 'a' }],
  ["tags.fold = '3'", { is: 'compare', field: { of: 'tags', name: 'fold' }, by: '=', value: '3' }],
  ["status = 'FINISHED'", { is: 'compare', field: { of: 'run', name: 'state' }, by: '=', value: 'completed' }],
  ["attributes.status = 'Running'", { is: 'compare', field: { of: 'run', name: 'state' }, by: '=', value: 'running' }],
  ["name like 'a%'", { is: 'like', field: { of: 'run', name: 'displayName' }, pattern: 'a%' }],
  ['params.alpha > 1', { is: 'compare', field: { of: 'parameters', name: 'alpha' }, by: '>', value: 1 }],
  ['arguments.alpha > 1', { is: 'compare', field: { of: 'parameters', name: 'alpha' }, by: '>', value: 1 }],
  ["arguments like '%--alpha%'", { is: 'like', field: { of: 'run', name: 'arguments' }, pattern: '%--alpha%' }],
  ['interactive = true', { is: 'compare', field: { of: 'run', name: 'interactive' }, by: '=', value: true }],
  [
    'metrics.train/loss.at(100) < 1',
    { is: 'compare', field: { of: 'metrics', name: 'train/loss', step: 100 }, by: '<', value: 1 },
  ],
  ['metrics."a b".step( -3 ) is null', { is: 'null', field: { of: 'metrics', name: 'a b', step: -3 } }],
  ['metrics.at < 1', { is: 'compare', field: { ...mse, name: 'at' }, by: '<', value: 1 }],
  ['metrics.a.at < 1', { is: 'compare', field: { ...mse, name: 'a.at' }, by: '<', value: 1 }],
  ['tags.kind is not null', { is: 'not', part: { is: 'null', field: kind } }],
])('%s', (text, expected) => {
  expect(parseFilter(text)).toEqual(expected);
});

test.each([
  ['2026-11', '2026-11-01T00:00:00.000Z'],
  ['2026-11-01T12:00:00.25Z', '2026-11-01T12:00:00.250Z'],
  ['2026-11-01 12:00-0330', '2026-11-01T15:30:00.000Z'],
  ['now', '2026-11-25T12:00:00.000Z'],
  ['now-90s', '2026-11-25T11:58:30.000Z'],
  ['now-5m', '2026-11-25T11:55:00.000Z'],
  ['NOW - 36h', '2026-11-24T00:00:00.000Z'],
  ['now-7d', '2026-11-18T12:00:00.000Z'],
  ['now+2w', '2026-12-09T12:00:00.000Z'],
  ['2026-11-01 Europe/Berlin', '2026-10-31T23:00:00.000Z'],
  ['2026-07-01T12:00 Europe/Berlin', '2026-07-01T10:00:00.000Z'],
  ['2026-07-01 09:00 America/Argentina/Buenos_Aires', '2026-07-01T12:00:00.000Z'],
  ['2026-07-01 12:00 Asia/Kolkata', '2026-07-01T06:30:00.000Z'],
  ['2026-07-01 12:00 UTC', '2026-07-01T12:00:00.000Z'],
  // The clocks of Berlin: 02:00 to 03:00 is left out in March, and comes twice in October.
  ['2026-03-29 01:59 Europe/Berlin', '2026-03-29T00:59:00.000Z'],
  ['2026-03-29 02:30 Europe/Berlin', '2026-03-29T01:30:00.000Z'],
  ['2026-03-29 03:00 Europe/Berlin', '2026-03-29T01:00:00.000Z'],
  ['2026-10-25 02:30 Europe/Berlin', '2026-10-25T00:30:00.000Z'],
  ['2026-10-25 03:00 Europe/Berlin', '2026-10-25T02:00:00.000Z'],
])('the time %s is %s', (text, value) => {
  expect(parseFilter(`createdAt > '${text}'`)).toMatchObject({ value });
});

test('`and` binds closer than `or`, `not` closer than both, parentheses closest', () => {
  const one = (value: number) => ({ is: 'compare', field: mse, by: '=', value });
  const m = (value: number) => `metrics.mse = ${value}`;
  expect(parseFilter(`${m(1)} or not ${m(2)} and ${m(3)}`)).toEqual({
    is: 'or',
    parts: [one(1), { is: 'and', parts: [{ is: 'not', part: one(2) }, one(3)] }],
  });
  expect(parseFilter(`(${m(1)} OR ${m(2)}) And ${m(3)}`)).toEqual({
    is: 'and',
    parts: [{ is: 'or', parts: [one(1), one(2)] }, one(3)],
  });
});

test.each<[string, number, string]>([
  ['', 0, 'a field'],
  ['metrics < 3', 8, 'a dot and a name'],
  ['metrics. < 3', 9, 'a name'],
  ['speed = 3', 0, 'one of id, experiment'],
  ['state completed', 6, '=, !='],
  ['state = completed', 8, 'a text in quotes'],
  ["state = 'completed", 18, 'is not closed'],
  ["state = 'a' tags.x = 'b'", 12, '`and`, `or` or the end'],
  ["(state = 'a'", 12, '`)`'],
  ['metrics.mse = null', 14, 'is null'],
  ['metrics.mse is 3', 15, '`null` or `not null`'],
  ["metrics.mse < 'low'", 14, 'a number'],
  ["createdAt > 'yesterday'", 12, 'a time'],
  ['tags.a in 3', 10, '`(` and values'],
  ["tags.a in ('a' 'b')", 15, '`,` or `)`'],
  ['tags.a not 3', 11, '`like`'],
  ["metrics.mse like 'a'", 12, 'holds a number'],
  ["createdAt matches 'a'", 10, 'holds a time'],
  ["tags.a matches '('", 15, 'missing closing )'],
  ["tags.a matches '(?=x)'", 15, 'regular expression'],
  [`tags.a matches '${'a'.repeat(1_001)}'`, 15, '1000 characters'],
  ['metrics.mse.at(1.5) < 3', 15, 'a whole number'],
  ['metrics.mse.at(x) < 3', 15, 'a whole number'],
  ['metrics.mse.at(5 < 3', 17, '`)`'],
  ["createdAt > '2026-02-30'", 12, 'a time'],
  ["createdAt > '2026-11-01 Europe/Nowhere'", 12, 'a time'],
  ["createdAt > 'now-7y'", 12, 'a time'],
  ['createdAt > now-7y', 12, 'a time'],
  ['createdAt > yesterday', 12, 'a time'],
  ['createdAt > true', 12, 'a time'],
  ["createdAt > 'now-999999999w'", 12, 'a time'],
  ["createdAt > '2026-11-01T25:00'", 12, 'a time'],
  ['interactive = 3', 14, 'true or false'],
  ["attributes.speed = 'x'", 11, 'one of id'],
  ['tags.a like 3 or state ~ 1', 23, 'a name, a value'],
  [`${'('.repeat(101)}`, 100, 'at most 100'],
])('%s is refused where it is wrong', (text, at, expected) => {
  const error = caught(() => parseFilter(text));
  expect(error.reason).toBe('query.invalid');
  expect(error.details?.at).toBe(at);
  expect(error.message).toContain(expected);
  expect(error.message).toContain(`character ${at + 1}`);
});

test('an order has a field and a direction', () => {
  expect(parseOrder('metrics.mse')).toEqual({ field: mse, descending: false });
  expect(parseOrder('metrics.mse.min DESC')).toEqual({ field: { ...mse, aggregate: 'min' }, descending: true });
  expect(parseOrder('createdAt asc')).toEqual({ field: { of: 'run', name: 'createdAt' }, descending: false });
  expect(caught(() => parseOrder('createdAt down')).message).toContain('`asc`, `desc` or the end');
});

test('a column is a field, a part of a group or all of it', () => {
  expect(parseColumn('tags')).toEqual({ of: 'tags' });
  expect(parseColumn('params')).toEqual({ of: 'parameters' });
  expect(parseColumn('arguments')).toEqual({ of: 'run', name: 'arguments' });
  expect(parseColumn('tags.kind')).toEqual(kind);
  expect(parseColumn('metrics."a b"')).toEqual({ ...mse, name: 'a b' });
  expect(parseColumn('status')).toEqual({ of: 'run', name: 'state' });
  expect(caught(() => parseColumn('state, id')).details?.at).toBe(5);
});

test('whatever is written, the answer is a tree or a refusal that points at a character', () => {
  const words = fc.constantFrom(
    'metrics',
    'tags',
    '.',
    'x',
    '"',
    "'",
    '`',
    '(',
    ')',
    'and',
    'or',
    'not',
    'in',
    'is',
    'null',
    'like',
    'matches',
    'at',
    'now-1d',
    'createdAt',
    "'(a'",
    '=',
    '<',
    '1',
    '-',
    ',',
    ' ',
    'ü',
    '\n',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(words).map((parts) => parts.join(' ')),
      ),
      (text) => {
        try {
          parseFilter(text);
        } catch (error) {
          if (!(error instanceof ServiceError) || error.reason !== 'query.invalid') throw error;
          const at = Number(error.details?.at);
          if (at < 0 || at > text.length) throw new Error(`points at ${at} of ${text.length}`);
        }
      },
    ),
  );
});

function caught(act: () => unknown): ServiceError {
  try {
    act();
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error('was not refused');
}
