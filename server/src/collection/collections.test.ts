import { createHash } from 'node:crypto';
import { existsSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ada, workspace } from '../run/run-rooms.fixture.ts';
import { type CollectionRig, collectionRig, digestOf, upload } from './collection.fixture.ts';

let rig: CollectionRig;
beforeAll(async () => {
  rig = await collectionRig();
});
afterAll(() => rig[Symbol.asyncDispose]());

const isThere = (digest: string) => existsSync(rig.rooms.bytes.path(digest as never));
/** Makes what was done so far old. */
const daysAgo = (table: string, column: string, days: number) =>
  rig.rooms.scratch.write(
    `UPDATE ${table} SET ${column} = '${new Date(Date.now() - days * 86_400_000).toISOString()}'`,
  );
const endedRun = async (id: string, ...contents: string[]) => {
  await rig.rooms.start({ id, experiment: 'e' });
  for (const content of contents)
    await rig.rooms.runs.putFile({ workspace, run: id, path: content, digest: await upload(rig, content) }, ada);
  await rig.rooms.append(id, [['state', 'completed', null, Date.now() / 1_000]]);
};

test('what came in within the grace stays, also if it was there and was only looked for', async () => {
  const [fresh, old, asked] = [await upload(rig, 'fresh'), await upload(rig, 'old'), await upload(rig, 'asked for')];
  daysAgo('blob_held', 'since', 2);
  await upload(rig, 'fresh');
  expect(await rig.rooms.blobs.get({ workspace, digest: asked }, ada)).toMatchObject({ complete: true });
  expect((await rig.collect({ graceHours: 24 })).contents).toEqual({ count: 1, sizeBytes: 3 });
  expect([fresh, old, asked].map(isThere)).toEqual([true, false, true]);
});

test('what a run in the trash has stays, until the trash is emptied', async () => {
  await endedRun('to be trashed', 'its only file');
  const entry = await rig.rooms.disposal.discardRun(workspace, 'to be trashed', 'ada');
  await rig.collect();
  expect(isThere(digestOf('its only file'))).toBe(true);
  await rig.bin.remove(entry);
  await rig.collect();
  expect(isThere(digestOf('its only file'))).toBe(false);
});

test('what is due in the trash goes with a collection, and a dry run only counts it', async () => {
  await endedRun('due', 'due file');
  await rig.rooms.disposal.discardRun(workspace, 'due', 'ada');
  expect((await rig.collect({ dryRun: true })).trash.count).toBe(0);
  rig.bin.days(8);
  expect((await rig.collect({ dryRun: true })).trash.count).toBe(1);
  expect(isThere(digestOf('due file'))).toBe(true);
  const report = await rig.collect();
  rig.bin.days(0);
  expect(report).toMatchObject({ trash: { count: 1 }, contents: { count: 1, sizeBytes: 8 } });
  expect(isThere(digestOf('due file'))).toBe(false);
});

test('two workspaces share a content: it is freed when the second lets go of it, and counted once', async () => {
  const digest = await upload(rig, 'shared by two');
  await upload(rig, 'shared by two', 'w2');
  await endedRun('has it', 'shared by two');
  expect((await rig.collect({ dryRun: true })).contents.count).toBe(0);
  expect((await rig.collect()).contents.count).toBe(0);
  expect(isThere(digest)).toBe(true);
  await upload(rig, 'of both', 'w2');
  await upload(rig, 'of both');
  expect((await rig.collect({ dryRun: true })).contents).toEqual({ count: 1, sizeBytes: 7 });
  expect((await rig.collect()).contents).toEqual({ count: 1, sizeBytes: 7 });
});

test('a snapshot stays while a run has it, deleted ones too; what only it lists goes with it', async () => {
  const file = (path: string) => ({ path, digest: digestOf(path), sizeBytes: path.length });
  const [mine, common] = [file('train.py'), file('common.py')];
  for (const { path } of [mine, common]) await upload(rig, path);
  const one = await rig.snapshots.create({ workspace, files: [mine, common] });
  const other = await rig.snapshots.create({ workspace, files: [common] });
  expect([one.complete, other.complete]).toEqual([true, true]);
  const configuration = { target: 'local', script: 'train.py', environment: { userManaged: true } } as never;
  await rig.rooms.submit(configuration, { id: 'with snapshot', snapshot: one.digest });
  await rig.rooms.runs.cancel({ workspace, run: 'with snapshot' }, ada);
  expect((await rig.collect()).snapshots.count).toBe(1);
  expect([mine, common, one].map(({ digest }) => isThere(digest))).toEqual([true, true, true]);

  const entry = await rig.rooms.disposal.discardRun(workspace, 'with snapshot', 'ada');
  expect((await rig.collect()).snapshots.count).toBe(0);
  await rig.bin.remove(entry);
  expect((await rig.collect({ graceHours: 24 })).snapshots.count, 'it was announced just now').toBe(0);
  expect((await rig.collect()).snapshots.count).toBe(1);
  expect([mine, common, one].map(({ digest }) => isThere(digest))).toEqual([false, false, false]);
  await expect(rig.rooms.submit(configuration, { snapshot: one.digest })).rejects.toMatchObject({
    reason: 'snapshot.incomplete',
  });
});

test('a snapshot of an older version, which did not count its contents, keeps them all the same', async () => {
  const content = 'of an older version';
  await upload(rig, content);
  const files = [{ path: 'train.py', digest: digestOf(content), sizeBytes: content.length }];
  const { digest: snapshot } = await rig.snapshots.create({ workspace, files });
  const configuration = { target: 'local', script: 'train.py', environment: { userManaged: true } } as never;
  await rig.rooms.submit(configuration, { id: 'older', snapshot });
  rig.rooms.scratch.write('UPDATE blob_held SET snapshots = 0', 'UPDATE snapshot SET complete = 0');
  await rig.collect();
  expect(isThere(digestOf(content))).toBe(true);
  expect(await rig.snapshots.get({ workspace, snapshot }, ada)).toMatchObject({ complete: true });
});

test('what the server makes for itself stays until it was not used for long', async () => {
  const own = rig.rooms.blobs.own();
  for (const content of ['layer one', 'layer two']) await own.write(Readable.from([Buffer.from(content)]));
  daysAgo('blob_held', 'since', 20);
  expect((await rig.collect({ unusedDays: 30 })).layers.count).toBe(0);
  expect(await own.has(digestOf('layer two'))).toBe(true);
  expect((await rig.collect({ unusedDays: 10 })).layers).toEqual({ count: 1, sizeBytes: 9 });
  expect(await own.has(digestOf('layer one'))).toBe(false);
  expect(await own.has(digestOf('layer two'))).toBe(true);
});

test('an upload that nobody went on with goes, and one that goes on does not', async () => {
  const begin = (content: string) => {
    const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
    const body = Readable.from([Buffer.from(content.slice(0, 3))], { objectMode: false });
    return rig.rooms.blobs.append({ workspace, digest, offset: 0, sizeBytes: content.length }, ada, body);
  };
  const [left, going] = [await begin('left behind'), await begin('going on')];
  const file = join(rig.rooms.scratch.folder, 'uploads', workspace, left.digest.slice('sha256:'.length));
  utimesSync(file, 0, 0);
  expect((await rig.collect({ graceHours: 1, dryRun: true })).uploads).toEqual({ count: 1, sizeBytes: 3 });
  expect((await rig.collect({ graceHours: 1 })).uploads).toEqual({ count: 1, sizeBytes: 3 });
  expect(existsSync(file)).toBe(false);
  expect(await rig.rooms.blobs.get({ workspace, digest: going.digest }, ada)).toMatchObject({ receivedBytes: 3 });
});

test('while a backup holds removals nothing is removed, and afterwards it is', async () => {
  const digest = await upload(rig, 'in the backup');
  const hold = rig.rooms.bytes.holdRemovals();
  const collecting = rig.collect();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(isThere(digest)).toBe(true);
  hold[Symbol.dispose]();
  await collecting;
  expect(isThere(digest)).toBe(false);
});
