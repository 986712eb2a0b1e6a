import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ada, type RunRooms, runRooms, workspace } from '../run/run-rooms.fixture.ts';
import { Experiments } from './experiments.ts';

let rooms: RunRooms;
let experiments: Experiments;
beforeAll(async () => {
  rooms = await runRooms();
  experiments = new Experiments({
    db: rooms.scratch.db,
    now: Date.now,
    discard: (...of) => rooms.disposal.discardExperiment(...of),
  });
});
afterAll(() => rooms[Symbol.asyncDispose]());

test('an experiment is created once, under the name it is given', async () => {
  const create = (more: object = {}) => experiments.create({ workspace, name: 'Überprüfung 1', ...more }, ada);
  const made = await create({ description: 'first', tags: { a: '1' } });
  expect(made).toMatchObject({
    name: 'Überprüfung 1',
    description: 'first',
    tags: { a: '1' },
    runCount: 0,
    createdBy: 'ada',
  });
  expect(await create({ description: 'second' })).toEqual(made);
  expect(await experiments.update({ workspace, experiment: made.name, tags: { b: '2' } })).toMatchObject({
    description: 'first',
    tags: { b: '2' },
  });
  await expect(experiments.get({ workspace, experiment: 'none' })).rejects.toMatchObject({
    reason: 'experiment.not-found',
  });
  await expect(experiments.get({ workspace: 'other', experiment: made.name })).rejects.toMatchObject({
    reason: 'experiment.not-found',
  });
});

test('starting a run makes its experiment, counts it, and puts it first in the list', async () => {
  for (const experiment of ['one', 'two', 'three', 'one']) {
    await rooms.start({ experiment });
    await pause(2);
  }
  const names: string[] = [];
  let page: string | undefined;
  do {
    const answer = await experiments.list({ workspace, pageSize: 2, page });
    names.push(...answer.items.map(({ name, runCount }) => `${name} ${runCount}`));
    page = answer.nextPage;
  } while (page !== undefined);
  expect(names).toEqual(['one 2', 'three 1', 'two 1', 'Überprüfung 1 0']);
  expect((await experiments.get({ workspace, experiment: 'one' })).lastRunAt).toBeDefined();
});
