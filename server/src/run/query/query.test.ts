import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ada, type RunRooms, runRooms, workspace } from '../run-rooms.fixture.ts';
import { queryReadings } from './query.ts';

let rooms: RunRooms;
const ask = (more: object) => rooms.runs.query({ workspace, ...more });
const found = async (filter: string, more: object = {}) =>
  (await ask({ filter, orderBy: ['id asc'], ...more })).items.map(({ id }) => id).join('');

/** Seven runs, a to g; e and f are children of a, g a child of e. */
beforeAll(async () => {
  rooms = await runRooms();
  const run = async (id: string, more: object, metrics: Record<string, (number | string)[]>) => {
    await rooms.start({ id, experiment: 'ridge', ...more });
    await rooms.append(
      id,
      Object.entries(metrics).flatMap(([name, values]) => values.map((value, i) => ['m', name, value, i, i])),
    );
    await pause(2); // so that no two are made at the same time
  };
  await run(
    'a',
    { tags: { kind: 'ridge', fold: '1' }, parameters: { alpha: 0.1, opt: 'adam' }, displayName: "it's 100%" },
    { mse: [5, 3], 'val loss': [1] },
  );
  await run('b', { tags: { kind: 'lasso' }, parameters: { alpha: 1, flag: true } }, { mse: [4, 2, 6] });
  await run('c', { tags: { kind: 'ridge' }, parameters: { alpha: 'auto' } }, { mse: ['NaN'] });
  await run('d', { experiment: 'lasso', properties: { source: 'git' } }, { mse: ['Infinity', 1], count: [1] });
  await run('e', { parent: 'a', parameters: { flag: false, nothing: null } }, {});
  await run('f', { parent: 'a' }, { mse: [2] });
  await run('g', { parent: 'e' }, { mse: [3] });
  await rooms.runs.report({ workspace, run: 'b', attempt: 1, state: 'completed', exitCode: 0 }, ada);
  await rooms.runs.report({ workspace, run: 'd', attempt: 1, state: 'failed', reason: 'Broke.', exitCode: 3 }, ada);
});
afterAll(() => rooms[Symbol.asyncDispose]());

test.each([
  ["state = 'completed'", 'b'],
  ["state != 'running'", 'bd'],
  ["state in ('failed', 'completed')", 'bd'],
  ["state not in ('failed', 'completed')", 'acefg'],
  ["experiment = 'lasso'", 'd'],
  ["id >= 'e'", 'efg'],
  ["displayName like 'it''s%'", 'a'],
  ['displayName is null', 'bcdefg'],
  ["not displayName = 'x'", 'abcdefg'],
  ["displayName != 'x'", 'a'],
  ['exitCode > 0', 'd'],
  ['not exitCode > 0', 'abcefg'],
  ["createdAt > '2020-01-01' and createdAt < '2020-01-02'", ''],
  ["createdAt > '2020-01-01'", 'abcdefg'],
  ['endedAt is not null', 'bd'],
  ["parent = 'a'", 'ef'],
  ["tags.kind = 'ridge'", 'ac'],
  ["tags.kind != 'ridge'", 'b'],
  ["not tags.kind = 'ridge'", 'bdefg'],
  ["tags.kind like '%SS%'", 'b'],
  ['tags.kind is null', 'defg'],
  ['tags.fold = 1', 'a'],
  ["properties.source = 'git'", 'd'],
  ['parameters.alpha >= 0.1', 'ab'],
  ["parameters.alpha = 'auto'", 'c'],
  ['parameters.alpha is not null', 'abc'],
  ['parameters.flag = true', 'b'],
  ['parameters.flag = false', 'e'],
  ['parameters.flag = 1', ''],
  ["parameters.opt in ('adam', 'sgd', 3)", 'a'],
  ['parameters.nothing is null', 'abcdefg'],
  ['metrics.mse < 3', 'df'],
  ['metrics.mse <= 3', 'adfg'],
  ['metrics.mse.last = 6', 'b'],
  ['metrics.mse.min < 3', 'bdf'],
  ['metrics.mse.max > 5', 'bd'],
  ["metrics.mse.max = 'Infinity'", 'd'],
  ['metrics.mse.first = 5', 'a'],
  ['metrics.mse.count >= 2', 'abd'],
  ['metrics.mse is null', 'e'],
  ['metrics.mse.count is null', 'e'],
  ["metrics.mse = 'NaN'", ''],
  ['not metrics.mse < 3', 'abceg'],
  ['metrics."val loss" = 1', 'a'],
  ['metrics.count = 1', 'd'],
  ["metrics.mse < 4 and (tags.kind = 'ridge' or parent is not null)", 'afg'],
  ["tags.\"kind' or 1=1 --\" = 'x'", ''],
  ["id = ''' or 1=1 --'", ''],
  ["displayName = 'x'' or ''1''=''1'", ''],
  [`tags."x' or '1'='1" = 'ridge'`, ''],
])('%s', async (filter, expected) => {
  expect(await found(filter)).toBe(expected);
});

test.each([
  ["tags.kind matches '^r'", 'ac'],
  ["displayName matches '^(it|x)+'", 'a'],
  ["not tags.kind matches 'SO$|so$'", 'acdefg'],
  ["arguments matches 'a'", ''],
  ['tags.fold < 10', 'a'],
  ['tags.fold = 1.0', 'a'],
  ["tags.fold = '1.0'", ''],
  ['metrics.mse.at(1) = 2', 'b'],
  ['metrics.mse.step(0) <= 4', 'bfg'],
  ['metrics.mse.at(7) is null', 'abcdefg'],
  ["createdAt > 'now-1h' and name is not null", 'a'],
  ["createdAt < 'now-1h'", ''],
  ["status = 'FINISHED' or params.alpha = 'auto'", 'bc'],
])('%s', async (filter, expected) => {
  expect(await found(filter)).toBe(expected);
});

test('only the columns that are asked for come with the runs', async () => {
  const asked = (columns: string[], more: object = {}) =>
    ask({ filter: "id = 'a'", columns, ...more }).then(({ items }) => items[0]!);
  const identity = {
    id: 'a',
    workspace,
    experiment: 'ridge',
    number: 1,
    root: 'a',
    childCount: 2,
    state: 'running',
    attempt: 1,
    interactive: true,
    user: 'ada',
    createdAt: expect.any(String),
  };
  const nothing = { tags: {}, properties: {}, parameters: {} };
  expect(await asked(['id'])).toEqual({ ...identity, ...nothing });
  expect(await asked(['name', 'tags.kind', 'params.alpha', 'metrics.mse.min'])).toEqual({
    ...identity,
    ...nothing,
    displayName: "it's 100%",
    tags: { kind: 'ridge' },
    parameters: { alpha: 0.1 },
    metrics: [expect.objectContaining({ name: 'mse', min: 3 })],
  });
  expect(await asked(['tags'], { metrics: ['val loss'] })).toMatchObject({
    tags: { kind: 'ridge', fold: '1' },
    parameters: {},
    metrics: [{ name: 'val loss' }],
  });
  for (const [columns, at] of [
    [['speed'], 0],
    [['metrics'], 7],
    [['id, tags'], 2],
  ] as const)
    await expect(asked([...columns])).rejects.toMatchObject({ reason: 'query.invalid', details: { at } });
});

test('a query that has taken too long is ended, and says what to do', async () => {
  const effort = { few: 0, some: 0, steps: 0, ms: -1 };
  const query = { workspace, filter: "displayName matches 'x'", now: Date.now(), effort };
  await expect(rooms.scratch.db.transact(queryReadings.page, query)).rejects.toMatchObject({
    reason: 'query.too-costly',
    hint: expect.stringContaining('Narrow it down'),
  });
});

test('a query may be as long as the contract allows', async () => {
  const long = (part: string, by: string) =>
    new Array(Math.floor(9_990 / (part.length + by.length))).fill(part).join(by);
  expect(await found(long("id='a'", 'or '))).toBe('a');
  expect(await found(long("id='a'", 'and '))).toBe('a');
  expect(await found(`number in (${long('3', ',')})`)).toBe('c');
  expect(await found(`parameters.alpha in (${long("1,'auto',true", ',')})`)).toBe('bc');
  expect(await found(`${'not '.repeat(98)}id = 'a'`)).toBe('a');
});

test('children and descendants are found below a run', async () => {
  const below = async (more: object) => (await ask({ orderBy: ['id'], ...more })).items.map(({ id }) => id).join('');
  expect(await below({ parent: 'a' })).toBe('ef');
  expect(await below({ ancestor: 'a' })).toBe('efg');
  expect(await below({ ancestor: 'a', filter: 'metrics.mse > 2' })).toBe('g');
  expect(await below({ experiment: 'lasso' })).toBe('d');
  await expect(ask({ parent: 'none' })).rejects.toThrow('There is no run "none"');
});

test.each([
  [undefined, 'gfedcba'],
  [['createdAt asc'], 'abcdefg'],
  [['metrics.mse asc', 'id asc'], 'dfagbce'],
  [['metrics.mse desc', 'id asc'], 'bagfdce'],
  [['metrics.mse.count desc', 'id desc'], 'bdagfce'],
  [['parameters.alpha', 'id'], 'abcdefg'],
  [['parameters.alpha desc', 'id'], 'bacdefg'],
  [['tags.kind desc', 'createdAt desc'], 'cabgfed'],
  [['exitCode desc', 'id'], 'dbacefg'],
  [['experiment', 'id desc'], 'dgfecba'],
])('ordered by %j, runs without the field come last, whatever the size of a page', async (orderBy, expected) => {
  for (const pageSize of [1, 2, 3, 100]) {
    let ids = '';
    let page: string | undefined;
    do {
      const answer = await ask({ orderBy, pageSize, page });
      ids += answer.items.map(({ id }) => id).join('');
      page = answer.nextPage;
    } while (page !== undefined);
    expect(ids).toBe(expected);
  }
});

test('only the wanted metrics come with the runs', async () => {
  const { items } = await ask({ filter: "id in ('a', 'e')", metrics: ['mse', 'none'], orderBy: ['id'] });
  expect(items[0]!.metrics).toMatchObject([{ name: 'mse', count: 2, first: 5, last: 3, min: 3, max: 5 }]);
  expect(items[1]!.metrics).toEqual([]);
  expect((await ask({})).items[0]!.metrics).toBeUndefined();
});

test('a page token of another list is refused', async () => {
  const { nextPage } = await ask({ pageSize: 1 });
  for (const page of [nextPage, 'nonsense', Buffer.from('[{"a":1}]').toString('base64url')])
    await expect(ask({ orderBy: ['id', 'state'], page })).rejects.toBeInstanceOf(ServiceError);
});

test('the runs of another workspace are never found', async () => {
  expect((await rooms.runs.query({ workspace: 'other', filter: 'metrics.mse < 100' })).items).toEqual([]);
});
