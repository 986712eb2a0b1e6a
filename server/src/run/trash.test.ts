import type { Activity } from '@stellwerk/contract/activity.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sql } from '../db/transactions.ts';
import { Experiments } from '../experiment/experiments.ts';
import { ada, type RunRooms, runRooms, workspace } from './run-rooms.fixture.ts';

let rooms: RunRooms;
let experiments: Experiments;
beforeAll(async () => {
  rooms = await runRooms();
  experiments = new Experiments({
    db: rooms.scratch.db,
    now: Date.now,
    discard: (...of) => rooms.disposal.discardExperiment(...of),
  });
  await rooms.worker.start();
});
afterAll(() => rooms[Symbol.asyncDispose]());

const end = (id: string) => rooms.append(id, [['state', 'completed', null, Date.now() / 1_000]]);
/** Ended runs, each the child of the one before. */
async function chain(experiment: string, ...ids: string[]): Promise<void> {
  for (const [i, id] of ids.entries()) await rooms.start({ id, experiment, ...(i > 0 && { parent: ids[i - 1]! }) });
  for (const id of ids.toReversed()) await end(id);
}
const get = (run: string) => rooms.runs.get({ workspace, run });
const remove = (run: string) => rooms.runs.delete({ workspace, run }, ada);
const restore = (entry: { id: number }) => rooms.bin.trash.restore({ workspace, entry: entry.id });
const idsOf = async (query: object) =>
  (await rooms.runs.query({ workspace, ...query })).items.map(({ id }) => id).toSorted();

describe('a deleted run', () => {
  test('is gone for everybody with all that descends from it, and comes back whole', async () => {
    await chain('deep', 'top', 'middle', 'low', 'lowest');
    const entry = await remove('middle');
    expect(entry).toMatchObject({ kind: 'run', name: 'middle', runs: 3, deletedBy: 'ada' });
    for (const id of ['middle', 'low', 'lowest'])
      await expect(get(id)).rejects.toMatchObject({
        code: 'not-found',
        reason: 'run.in-trash',
        details: { entry: entry.id },
      });
    expect(await idsOf({ experiment: 'deep' })).toEqual(['top']);
    expect(await idsOf({ ancestor: 'top' })).toEqual([]);
    expect((await get('top')).childCount).toBe(0);
    expect((await experiments.get({ workspace, experiment: 'deep' })).runCount).toBe(1);
    expect((await rooms.bin.trash.list({ workspace })).items).toContainEqual(entry);
    expect(await remove('middle'), 'deleted again').toEqual(entry);

    await restore(entry);
    expect(await idsOf({ ancestor: 'top' })).toEqual(['low', 'lowest', 'middle']);
    expect([(await get('top')).childCount, (await get('middle')).childCount]).toEqual([1, 1]);
    expect((await experiments.get({ workspace, experiment: 'deep' })).runCount).toBe(4);
    await expect(restore(entry)).rejects.toMatchObject({ reason: 'trash.not-found' });
  });

  test('is refused while it, or one below it, has not ended', async () => {
    await rooms.start({ id: 'above', experiment: 'open' });
    await rooms.start({ id: 'below', experiment: 'other', parent: 'above' });
    await expect(remove('above')).rejects.toMatchObject({ reason: 'run.not-ended' });
    await expect(rooms.disposal.discardExperiment(workspace, 'open', 'ada')).rejects.toThrow('has not ended');
    await end('below');
    await end('above');
    expect(await remove('above')).toMatchObject({ runs: 2 });
  });

  test('keeps its id and its number until it is gone', async () => {
    await chain('numbers', 'n1');
    const entry = await remove('n1');
    await expect(rooms.start({ id: 'n1', experiment: 'numbers' })).rejects.toMatchObject({
      code: 'conflict',
      reason: 'run.in-trash',
    });
    expect((await rooms.start({ id: 'n2', experiment: 'numbers' })).number).toBe(2);
    await rooms.bin.remove(entry);
    expect((await rooms.start({ id: 'n1', experiment: 'numbers' })).number).toBe(3);
  });

  test('takes those below it along that were deleted before, and a parent is none while it lies there', async () => {
    await chain('merged', 'p', 'c1', 'c2');
    const first = await remove('c2');
    const second = await remove('p');
    expect(second.runs).toBe(3);
    await expect(restore(first)).rejects.toMatchObject({ reason: 'trash.not-found' });
    await expect(rooms.start({ id: 'late', experiment: 'merged', parent: 'p' })).rejects.toMatchObject({
      reason: 'run.parent-invalid',
    });
    await restore(second);
    expect(await idsOf({ ancestor: 'p' })).toEqual(['c1', 'c2']);
  });

  test('has no token any more, though the audit log keeps what was done', async () => {
    await chain('tokens', 'with-token');
    rooms.scratch.write(
      `INSERT INTO run_token (hash, workspace, run, attempt, user, expires_at) VALUES ('h', '${workspace}', 'with-token', 1, 'ada', '9')`,
    );
    await remove('with-token');
    expect(await rooms.scratch.db.all(sql.selectFrom('run_token').selectAll().where('run', '=', 'with-token'))).toEqual(
      [],
    );
  });

  test('leaves nothing behind when its time is over, whatever it had', async () => {
    await chain('full', 'full-1', 'full-2');
    const digest = await rooms.upload('only here');
    await rooms.runs.putFile({ workspace, run: 'full-2', path: 'outputs/a', digest }, ada);
    const points = Array.from({ length: 3_000 }, (_, i) => ['m', `metric ${i % 7}`, i / 7, i, Date.now() / 1_000]);
    await rooms.append('full-2', points, 0, ada, 'more');
    expect((await rooms.metrics.list({ workspace, run: 'full-2' })).items).toHaveLength(7);
    await rooms.logs.append(
      { workspace, run: 'full-2', name: 'output.txt', offset: 0 },
      ada,
      (async function* () {
        yield Buffer.from('printed');
      })() as never,
    );
    const row = (await rooms.scratch.db.all(sql.selectFrom('run').selectAll().where('id', '=', 'full-2')))[0]!;
    const entry = await remove('full-1');

    const due = async () => (await rooms.bin.trash.entries({ due: true })).map(({ id }) => id);
    rooms.bin.days(6.9);
    expect(await due()).not.toContain(entry.id);
    rooms.bin.days(7.1);
    expect(await due()).toContain(entry.id);
    rooms.bin.days(0);
    expect(await rooms.bin.remove(entry)).toBe(true);
    await expect(get('full-2')).rejects.toMatchObject({ reason: 'run.not-found' });
    const { db } = rooms.scratch;
    for (const table of ['run_file', 'run_private', 'run_log', 'metric', 'journal', 'run_parameter'] as const)
      expect(await db.all(sql.selectFrom(table).selectAll().where('run_key', '=', row.key)), table).toEqual([]);
    expect(await db.all(sql.selectFrom('blob_ref').selectAll().where('owner_id', '=', 'full-2'))).toEqual([]);
    expect(await rooms.logs.sizeOf([{ workspace, run: 'full-2', name: 'output.txt' }])).toBe(0);
    expect(await rooms.bin.remove(entry)).toBe(false);
  });
});

describe('a deleted experiment', () => {
  test('goes with its runs and what descends from them, keeps its name, and comes back', async () => {
    await chain('whole', 'w1');
    await rooms.start({ id: 'w2', experiment: 'elsewhere' });
    await rooms.start({ id: 'w3', experiment: 'whole' });
    await rooms.start({ id: 'w4', experiment: 'elsewhere', parent: 'w3' });
    for (const id of ['w4', 'w3', 'w2']) await end(id);
    const earlier = await remove('w1');
    const entry = await experiments.delete({ workspace, experiment: 'whole' }, ada);
    expect(entry).toMatchObject({ kind: 'experiment', name: 'whole', runs: 3 });
    expect(await experiments.delete({ workspace, experiment: 'whole' }, ada), 'deleted again').toEqual(entry);
    await expect(restore(earlier)).rejects.toMatchObject({ reason: 'trash.not-found' });
    expect(await idsOf({ filter: "id like 'w_'" })).toEqual(['w2']);
    await expect(experiments.get({ workspace, experiment: 'whole' })).rejects.toMatchObject({
      reason: 'experiment.in-trash',
    });
    await expect(rooms.start({ experiment: 'whole' })).rejects.toMatchObject({ reason: 'experiment.in-trash' });
    expect((await experiments.list({ workspace })).items.map(({ name }) => name)).not.toContain('whole');
    await restore(entry);
    expect(await idsOf({ filter: "id like 'w_'" })).toEqual(['w1', 'w2', 'w3', 'w4']);
    expect((await experiments.get({ workspace, experiment: 'whole' })).runCount).toBe(2);
    expect((await experiments.get({ workspace, experiment: 'elsewhere' })).runCount).toBe(2);
  });

  test('is gone with its name when it is removed', async () => {
    await chain('short', 's1');
    await rooms.bin.remove(await experiments.delete({ workspace, experiment: 'short' }, ada));
    expect((await rooms.start({ id: 's1', experiment: 'short' })).number).toBe(1);
  });

  test('that a restart interrupted takes the rest of its runs along when it goes', async () => {
    await chain('torn', 't1');
    const entry = await experiments.delete({ workspace, experiment: 'torn' }, ada);
    rooms.scratch.write("UPDATE run SET trash = NULL WHERE id = 't1'");
    await rooms.bin.remove(entry);
    await expect(get('t1')).rejects.toMatchObject({ reason: 'run.not-found' });
  });
});

describe('what is archived', () => {
  test('is left out of queries with what descends from it, unless it is asked for; nothing else changes', async () => {
    await chain('kept', 'k1', 'k2');
    await chain('kept', 'k3');
    expect(await rooms.runs.archive({ workspace, run: 'k1' })).toMatchObject({
      id: 'k1',
      archivedAt: expect.any(String),
    });
    expect(await idsOf({ experiment: 'kept' })).toEqual(['k3']);
    expect(await idsOf({ experiment: 'kept', archived: 'with' })).toEqual(['k1', 'k2', 'k3']);
    expect(await idsOf({ experiment: 'kept', archived: 'only' })).toEqual(['k1', 'k2']);
    expect(await idsOf({ parent: 'k1' })).toEqual(['k2']);
    expect(await get('k2')).toMatchObject({ state: 'completed' });
    await rooms.runs.reactivate({ workspace, run: 'k1' });
    expect(await idsOf({ experiment: 'kept' })).toEqual(['k1', 'k2', 'k3']);
  });

  test('an archived experiment is left out, its runs too unless it is named; it takes only what its runs bring forth', async () => {
    await rooms.start({ id: 'a1', experiment: 'old' });
    await experiments.archive({ workspace, experiment: 'old' });
    const names = async (archived?: 'with' | 'only') =>
      (await experiments.list({ workspace, archived })).items.map(({ name }) => name);
    expect(await names()).not.toContain('old');
    expect(await names('with')).toContain('old');
    expect(await names('only')).toEqual(['old']);
    expect(await idsOf({ filter: "id = 'a1'" })).toEqual([]);
    expect(await idsOf({ filter: "id = 'a1'", archived: 'only' })).toEqual(['a1']);
    expect(await idsOf({ experiment: 'old' })).toEqual(['a1']);
    await expect(rooms.start({ experiment: 'old' })).rejects.toMatchObject({ reason: 'experiment.archived' });
    await rooms.start({ id: 'a2', experiment: 'old', parent: 'a1' });
    await experiments.reactivate({ workspace, experiment: 'old' });
    expect(await idsOf({ filter: "id like 'a_'" })).toEqual(['a1', 'a2']);
  });
});

describe('many runs at once', () => {
  async function ended({ id }: Activity): Promise<Activity> {
    for (;;) {
      const activity = await rooms.activities.get({ workspace, activity: id });
      if (activity.endedAt) return activity;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  const deleteMany = async (input: { filter?: string; experiment?: string; dryRun?: boolean }) =>
    ended(await rooms.runs.deleteMany({ workspace, dryRun: false, ...input }, ada));

  test('a dry run tells how many runs, files and bytes it is about, and only what nothing else refers to counts as freed', async () => {
    const [shared, own, twice] = [
      await rooms.upload('x'.repeat(1_000)),
      await rooms.upload('y'.repeat(200)),
      await rooms.upload('z'.repeat(30)),
    ];
    for (const id of ['b1', 'b2', 'b3']) {
      await rooms.start({ id, experiment: 'bulk', tags: { keep: String(id === 'b3') } });
      await rooms.runs.putFile({ workspace, run: id, path: 'shared', digest: shared }, ada);
      if (id !== 'b3') await rooms.runs.putFile({ workspace, run: id, path: 'twice', digest: twice }, ada);
    }
    await rooms.runs.putFile({ workspace, run: 'b1', path: 'own', digest: own }, ada);
    await rooms.start({ id: 'b1-child', experiment: 'bulk', parent: 'b1', tags: { keep: 'true' } });
    for (const id of ['b1-child', 'b1', 'b2']) await end(id);
    const filter = "tags.keep = 'false'";
    const dry = await deleteMany({ experiment: 'bulk', filter, dryRun: true });
    expect(dry).toMatchObject({ state: 'succeeded', kind: 'runs.delete', subject: 'bulk' });
    expect(dry.report).toEqual({
      runs: 3,
      skipped: 0,
      files: 5,
      sizeBytes: 2 * 1_000 + 200 + 2 * 30,
      freedBytes: 230,
      points: 0,
    });
    expect(await idsOf({ experiment: 'bulk' })).toEqual(['b1', 'b1-child', 'b2', 'b3']);

    const done = await deleteMany({ experiment: 'bulk', filter });
    expect(done.report).toEqual({ runs: 3, skipped: 0 });
    expect(await idsOf({ experiment: 'bulk' })).toEqual(['b3']);
    expect((await deleteMany({ experiment: 'bulk' })).report).toEqual({ runs: 0, skipped: 1 });
    expect(await idsOf({ experiment: 'bulk' })).toEqual(['b3']);
  });

  test('a mistake in the query is told at once', async () => {
    await expect(deleteMany({ filter: 'nonsense' })).rejects.toMatchObject({ reason: 'query.invalid' });
  });

  test('many are archived by a query; each run counts once, whatever it descends from', async () => {
    await chain('pile', 'q1');
    await chain('pile', 'q2', 'q3');
    const begun = await rooms.runs.archiveMany(
      { workspace, experiment: 'pile', filter: "id = 'q2'", dryRun: false },
      ada,
    );
    expect((await ended(begun)).report).toEqual({ runs: 2, skipped: 0 });
    expect(await idsOf({ experiment: 'pile' })).toEqual(['q1']);
  });

  test('more than one piece is deleted, what a restart interrupts too', async () => {
    const ids = Array.from({ length: 450 }, (_, i) => `piece-${i}`);
    for (const id of ids) await rooms.start({ id, experiment: 'pieces' });
    await Promise.all(ids.map(end));
    const begun = await rooms.runs.deleteMany({ workspace, experiment: 'pieces', dryRun: false }, ada);
    await rooms.worker.stop();
    const worker = rooms.newWorker();
    await worker.start();
    expect((await ended(begun)).report).toEqual({ runs: 450, skipped: 0 });
    expect(await idsOf({ experiment: 'pieces' })).toEqual([]);
    await worker.stop();
  });
});
