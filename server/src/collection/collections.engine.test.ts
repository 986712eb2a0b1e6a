// While others bring contents, register, submit, build and delete, garbage is collected again and again, with no grace at all: nothing that
// is referred to is ever missing, and in the end nothing else is there.
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sql } from '../db/transactions.ts';
import { imageTransactions } from '../image/store.ts';
import { ada, workspace } from '../run/run-rooms.fixture.ts';
import { type CollectionRig, collectionRig, digestOf, upload } from './collection.fixture.ts';

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const rounds = Number(process.env.ROUNDS ?? 25);
let state = seed;
/** Mulberry32: the same course for the same seed, as far as the machine lets it. */
function random(below: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % below;
}

let rig: CollectionRig;
beforeAll(async () => {
  rig = await collectionRig();
});
afterAll(() => rig[Symbol.asyncDispose]());

/** Few, so that everybody meets over the same ones. */
const contentOf = (i: number) => `content ${i} `.repeat(1 + (i % 50));
const anyContent = () => contentOf(random(40));
let made = 0;
/** What each image consists of, by its name. */
const partsOf = new Map<string, string[]>();

/** With no grace, what was just brought may be gone before it is referred to: then it is refused, as a whole, and brought again. */
async function untilDone(act: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await act();
      return;
    } catch (error) {
      const isGone = error instanceof ServiceError && /^(blob\.not-found|snapshot\.)/.test(error.reason);
      if (!isGone) throw error;
    }
  }
}

async function uploadToRun(): Promise<void> {
  const run = `run-${++made}`;
  await rig.rooms.start({ id: run, experiment: `e${random(3)}` });
  for (let i = random(4); i >= 0; i--) {
    const content = anyContent();
    await untilDone(async () => {
      const digest = await upload(rig, content);
      if (random(2) === 0) await pause(random(3));
      await rig.rooms.runs.putFile({ workspace, run, path: `outputs/${random(3)}`, digest }, ada);
    });
  }
  await rig.rooms.append(run, [['state', 'completed', null, Date.now() / 1_000]]);
}

async function registerModel(): Promise<void> {
  const contents = [anyContent(), anyContent()];
  await untilDone(async () => {
    const files = [];
    for (const [i, content] of contents.entries()) files.push({ path: `${i}`, digest: await upload(rig, content) });
    await rig.models.register({ workspace, name: `m${random(3)}`, files }, ada);
  });
}

async function submitSnapshot(): Promise<void> {
  const contents = new Map<string, string>();
  for (let i = 0; i < 6; i++) contents.set(`file-${i}.py`, anyContent());
  const files = [...contents].map(([path, content]) => ({
    path,
    digest: digestOf(content),
    sizeBytes: Buffer.byteLength(content),
  }));
  const id = `submitted-${++made}`;
  await untilDone(async () => {
    let snapshot = await rig.snapshots.create({ workspace, files });
    while (!snapshot.complete) {
      for (const content of contents.values())
        if (snapshot.missing?.includes(digestOf(content))) await upload(rig, content);
      snapshot = await rig.snapshots.create({ workspace, files });
    }
    if (random(2) === 0) await pause(random(3));
    await rig.rooms.submit({ target: 'local', script: 'train.py', environment: { userManaged: true } } as never, {
      id,
      snapshot: snapshot.digest,
    });
  });
  await rig.rooms.runs.cancel({ workspace, run: id }, ada);
}

async function buildImage(): Promise<void> {
  const own = rig.rooms.blobs.own();
  const layers = [`layer ${random(8)}`, `layer ${random(8)}`];
  const manifest = `manifest ${++made}`;
  const activity = {
    id: `build-${made}`,
    workspace,
    kind: 'image.build',
    message: '',
    createdBy: 'ada',
    dueAt: null,
  } as const;
  const at = new Date().toISOString();
  const name = `image-${made}`;
  const row = {
    workspace,
    name,
    kind: 'docker',
    state: 'building',
    description: null,
    tags: '{}',
    properties: '{}',
  } as const;
  const rest = { scoring_script: 's', environment: null, base: null, digest: null, size_bytes: null, recipe: '{}' };
  await rig.rooms.scratch.db.transact(imageTransactions.insert, {
    row: { ...row, ...rest, activity: activity.id, created_at: at, created_by: 'ada' },
    models: [],
    contents: [],
    activity: { ...activity, at },
  });
  await untilDone(async () => {
    for (const layer of layers) if (!(await own.has(digestOf(layer)))) await own.write(once(layer), digestOf(layer));
    await own.write(once(manifest));
    const parts = [manifest, ...layers].map(digestOf);
    partsOf.set(name, parts);
    if (random(2) === 0) await pause(random(60));
    const built = {
      digest: digestOf(manifest),
      parts,
      sizeBytes: 1,
      base: 'b',
      environment: { python: '3', notices: [] },
    };
    const id = { workspace, name, version: 1 };
    await rig.rooms.scratch.db.transact(imageTransactions.succeed, { id, built, fence: 0, at });
  });
}

async function* once(content: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(content);
}

async function deleteSomething(): Promise<void> {
  const { db } = rig.rooms.scratch;
  const runs = await db.all(
    sql.selectFrom('run').select('id').where('ended_at', 'is not', null).where('trash', 'is', null),
  );
  const models = await db.all(sql.selectFrom('model').select(['name', 'version']).where('trash', 'is', null));
  const images = await db.all(sql.selectFrom('image').select(['name', 'version']).where('state', '=', 'succeeded'));
  const pick = <T>(all: T[]) => all[random(all.length || 1)];
  const [run, model, image] = [pick(runs), pick(models), pick(images)];
  const kind = random(3);
  if (kind === 0 && run)
    await emptyOrRestore(await rig.rooms.disposal.discardRun(workspace, run.id, 'ada').catch(gone));
  if (kind === 1 && model) {
    const version = String(model.version);
    await emptyOrRestore(await rig.models.delete({ workspace, name: model.name, version }, ada).catch(gone));
  }
  if (kind === 2 && image) await db.transact(imageTransactions.delete, { workspace, ...image }).catch(gone);
}

/** Another one was quicker. */
function gone(error: unknown): undefined {
  if (!(error instanceof ServiceError) || error.code !== 'not-found') throw error;
}

async function emptyOrRestore(
  entry: Awaited<ReturnType<CollectionRig['models']['delete']>> | undefined,
): Promise<void> {
  if (!entry) return;
  if (random(4) === 0) await rig.bin.trash.restore({ workspace, entry: entry.id }).catch(gone);
  else await rig.bin.remove(entry);
}

const deeds = [uploadToRun, registerModel, submitSnapshot, buildImage, deleteSomething, deleteSomething];

/** Everything that belongs to somebody is there and is what its name says; and all that is referred to belongs to somebody. */
async function checkWhole(): Promise<void> {
  const { db } = rig.rooms.scratch;
  const held = new Set(
    (await db.all(sql.selectFrom('blob_held').select('digest').distinct())).map(({ digest }) => digest),
  );
  for (const digest of held) {
    const found = digestOf(readFileSync(rig.rooms.bytes.path(digest as never)));
    expect(found, `the file of ${digest}`).toBe(digest);
  }
  for (const { digest } of await db.all(sql.selectFrom('blob_ref').select('digest').distinct()))
    expect(held).toContain(digest);
  for (const digest of await referred()) expect(held, 'is referred to').toContain(digest);
}

async function referred(): Promise<Set<string>> {
  const all = await rig.referred();
  const images = sql.selectFrom('image').select('name').where('state', '=', 'succeeded');
  for (const { name } of await rig.rooms.scratch.db.all(images)) for (const part of partsOf.get(name)!) all.add(part);
  return all;
}

test(`nothing that is referred to is taken (seed ${seed})`, { timeout: 600_000 }, async () => {
  console.log(`seed ${seed}, ${rounds} rounds`);
  let collected = 0;
  for (let round = 0; round < rounds; round++) {
    let working = true;
    const collectors = [1, 2].map(async () => {
      while (working) collected += (await rig.collect()).contents.count;
    });
    const workers = Array.from({ length: 6 }, async () => {
      for (let i = 0; i < 5; i++) await deeds[random(deeds.length)]!();
    });
    const ended = await Promise.allSettled(workers);
    working = false;
    const failed = [...ended, ...(await Promise.allSettled(collectors))].filter((one) => one.status === 'rejected');
    expect(failed.map(({ reason }) => reason)).toEqual([]);
    await checkWhole();
  }
  expect(collected).toBeGreaterThan(0);

  await rig.collect();
  await checkWhole();
  expect(new Set(rig.stored()), 'nothing else is left').toEqual(await referred());
});

test('when all is deleted, all bytes are freed', { timeout: 600_000 }, async () => {
  const { db } = rig.rooms.scratch;
  for (const experiment of await db.all(sql.selectFrom('experiment').select('name').where('trash', 'is', null)))
    await rig.bin.remove(await rig.rooms.disposal.discardExperiment(workspace, experiment.name, 'ada'));
  for (const { name, version } of await db.all(sql.selectFrom('model').selectAll().where('trash', 'is', null)))
    await rig.bin.remove(await rig.models.delete({ workspace, name, version: String(version) }, ada));
  for (const image of await db.all(sql.selectFrom('image').select(['workspace', 'name', 'version'])))
    await db.transact(imageTransactions.delete, image);
  const bytes = rig.storedBytes();
  const foreseen = await rig.collect({ dryRun: true });
  expect(rig.storedBytes()).toBe(bytes);
  const report = await rig.collect();
  expect(rig.stored()).toEqual([]);
  expect(report.freedBytes - report.database.sizeBytes).toBe(bytes);
  expect(foreseen.layers).toEqual(report.layers);
  for (const table of ['blob_held', 'blob_ref', 'run', 'model', 'snapshot', 'trash'] as const)
    expect(await db.all(sql.selectFrom(table).selectAll()), table).toEqual([]);
});
