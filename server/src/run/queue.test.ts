// Places and shares of a machine: who gets them, and who waits for what.
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { UserCaller } from '../access/access.ts';
import { runTransactions } from './lifecycle.ts';
import { ada, bob, type RunRooms, runRooms, workspace } from './run-rooms.fixture.ts';

const capacity = {
  cpus: 8,
  memoryBytes: 64e9,
  gpus: [
    { uuid: 'GPU-a', type: 'A100' },
    { uuid: 'GPU-b', type: 'A100' },
    { uuid: 'GPU-c', type: 'T4' },
  ],
};
let rooms: RunRooms;
beforeEach(async () => {
  rooms = await runRooms({ capacity });
});
afterEach(() => rooms[Symbol.asyncDispose]());

const moment = { now: 1, at: new Date(1).toISOString() };
const get = (run: string) => rooms.runs.get({ workspace, run });
const placeAt = async (id: string) => (await get(id)).queuePosition;
const keyOf = async (run: string) => (await rooms.runs.placeOf(workspace, run)).key;
const take = async (id: string, places = 10) =>
  rooms.scratch.db.transact(runTransactions.takePlace, { key: await keyOf(id), room: { places, capacity }, moment });
const free = async (id: string) =>
  rooms.scratch.db.transact(runTransactions.freePlace, { key: await keyOf(id), moment });
const gpusOf = (id: string) =>
  rooms.scratch.db
    .all<{ gpus: string }>({
      compile: () => ({ sql: 'SELECT gpus FROM run WHERE id = ?', parameters: [id] }),
    } as never)
    .then(([row]) => JSON.parse(row!.gpus) as string[]);

async function submit(more: object = {}, caller: UserCaller = ada): Promise<string> {
  return (await rooms.submit({ script: 'train.py', target: 'host', ...more }, {}, caller)).id;
}

test('a queue shows who is there and who waits in which order; of other workspaces only that they are there', async () => {
  const [one, two, three] = [
    await submit(),
    await submit({ resources: { cpus: 2 } }, bob),
    await submit({ priority: 'high' }),
  ];
  await take(three);
  const shown = (of: string) => rooms.use.inQueue('host', of);
  const [first, second, third] = await shown(workspace);
  expect(first).toMatchObject({ run: three, user: 'ada', priority: 'high', state: 'preparing' });
  expect(first).not.toHaveProperty('position');
  expect([second, third]).toMatchObject([
    { run: two, user: 'bob', position: 1, resources: { cpus: 2 } },
    { run: one, user: 'ada', position: 2 },
  ]);
  for (const row of await shown('elsewhere'))
    expect(Object.keys(row).filter((field) => field !== 'position')).toEqual(['state', 'priority', 'createdAt']);
});

test('a higher priority comes first, whenever it was submitted', async () => {
  const [low, normal, high] = [await submit({ priority: 'low' }), await submit(), await submit({ priority: 'high' })];
  expect(await Promise.all([low, normal, high].map(placeAt))).toEqual([3, 2, 1]);
  expect([await take(low, 1), await take(normal, 1), await take(high, 1)]).toEqual([false, false, true]);
});

test('users take turns, and who has runs there already stands behind', async () => {
  const ofAda = [await submit(), await submit(), await submit()];
  const ofBob = [await submit({}, bob), await submit({}, bob)];
  const inLine = [ofAda[0], ofBob[0], ofAda[1], ofBob[1], ofAda[2]] as string[];
  expect(await Promise.all(inLine.map(placeAt))).toEqual([1, 2, 3, 4, 5]);
  expect(await take(ofAda[0]!, 1)).toBe(true);
  expect(await Promise.all([ofBob[0]!, ofAda[1]!, ofBob[1]!, ofAda[2]!].map(placeAt))).toEqual([1, 2, 3, 4]);
});

test('whoever does not fit waits for what is missing, says so, and is not overtaken', async () => {
  const big = await submit({ resources: { cpus: 6, memory: '60GB' } });
  const bigger = await submit({ resources: { cpus: 4 } });
  const small = await submit();
  expect(await take(big)).toBe(true);
  expect(await take(small), 'although there would be room').toBe(false);
  expect(await take(bigger)).toBe(false);
  expect(await get(bigger)).toMatchObject({ state: 'queued', reason: 'Waits for 4 free CPUs.' });
  const hungry = await submit({ resources: { memory: '5GB' }, priority: 'high' });
  expect(await take(hungry)).toBe(false);
  expect((await get(hungry)).reason).toBe('Waits for 5,000,000,000 bytes of free memory.');
  await free(big);
  expect([await take(hungry), await take(bigger), await take(small)]).toEqual([true, true, true]);
  expect((await get(bigger)).reason).toBeUndefined();
});

test('each run is given GPUs of its own, of the type that it asks for', async () => {
  const [any, typed, pair] = [
    await submit({ resources: { gpus: 1 } }),
    await submit({ resources: { gpus: 1, gpuType: 'T4' } }),
    await submit({ resources: { gpus: 2, gpuType: 'A100' } }),
  ];
  expect([await take(any), await take(typed), await take(pair)]).toEqual([true, true, false]);
  expect([await gpusOf(any), await gpusOf(typed)]).toEqual([['GPU-a'], ['GPU-c']]);
  expect((await get(pair)).reason).toBe('Waits for 2 free GPUs of the type A100.');
  await free(any);
  expect(await take(pair)).toBe(true);
  expect(await gpusOf(pair)).toEqual(['GPU-a', 'GPU-b']);
  const none = await submit();
  await take(none);
  expect(await gpusOf(none)).toEqual([]);
});

test('whatever is asked for, no GPU is given twice, no more is given than there is, and in the end everybody had a turn', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          cpus: fc.integer({ min: 1, max: 8 }),
          gpus: fc.integer({ min: 0, max: 3 }),
          priority: fc.constantFrom('low', 'normal', 'high'),
          caller: fc.constantFrom(ada, bob),
        }),
        { minLength: 1, maxLength: 8 },
      ),
      async (asked) => {
        const waiting = new Map<string, { cpus: number; gpus: number }>();
        for (const { caller, cpus, gpus, priority } of asked)
          waiting.set(await submit({ resources: { cpus, gpus }, priority }, caller), { cpus, gpus });
        while (waiting.size > 0) {
          const running: string[] = [];
          for (const id of waiting.keys()) if (await take(id, 3)) running.push(id);
          for (const id of waiting.keys()) if (!running.includes(id) && (await take(id, 3))) running.push(id);
          expect(running.length).toBeGreaterThan(0);
          expect(running.length).toBeLessThanOrEqual(3);
          const given = (await Promise.all(running.map(gpusOf))).flat();
          expect(new Set(given).size).toBe(given.length);
          expect(running.reduce((sum, id) => sum + waiting.get(id)!.cpus, 0)).toBeLessThanOrEqual(8);
          for (const id of running) {
            expect(await gpusOf(id)).toHaveLength(waiting.get(id)!.gpus);
            await free(id);
            waiting.delete(id);
          }
        }
      },
    ),
    { numRuns: 25 },
  );
});
