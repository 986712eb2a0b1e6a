// For tests of images and of what is above them: real rooms below on a real database, and a kind of image that builds nothing, with knobs.
import { createHash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Activity } from '@stellwerk/contract/activity.ts';
import type { Image } from '@stellwerk/contract/image.ts';
import type { Caller } from '../access/access.ts';
import { Activities, ActivityWorker, type Executors } from '../activity/activities.ts';
import { Blobs } from '../blob/blobs.ts';
import type { Bytes, Digest } from '../blob/bytes.ts';
import { FileBytes } from '../blob/files.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { Environments } from '../environment/environments.ts';
import { Models } from '../model/models.ts';
import { migrations } from '../stores.ts';
import { type TrashRig, trashRig } from '../trash/trash.fixture.ts';
import type { BuiltImage, ImageRecipe, Watch } from './driver.ts';
import { ImageBuilding, Images, Recipes } from './images.ts';
import type { ImageKinds } from './kinds.ts';

export const ada: Caller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't1' };
export const workspace = 'w1';

export interface ImageRig extends AsyncDisposable {
  scratch: ScratchDatabase;
  activities: Activities;
  models: Models;
  images: Images;
  kinds: ImageKinds;
  incidents: unknown[];
  /** What the fake kind was asked to build. */
  recipes: ImageRecipe[];
  /** What a build does; the usual one gives a digest of its recipe. */
  onBuild: (recipe: ImageRecipe, watch: Watch) => Promise<Partial<BuiltImage>>;
  /** Stores a content in the workspace. */
  upload(content: string): Promise<{ digest: Digest; sizeBytes: number }>;
  model(name: string): Promise<{ name: string; version: number }>;
  create(input?: Partial<Parameters<Images['create']>[0]> & { content?: string }): Promise<Image>;
  /** Starts a worker as a restarted server would. */
  work(executors?: Partial<Executors>): Promise<ActivityWorker>;
  ended(activity: string): Promise<Activity>;
  bin: TrashRig;
  /** Where the fake kind keeps what it built. */
  own: Bytes;
  /** An image that was created and has been built. */
  built(name: string, content?: string): Promise<Image>;
}

export function digestOf(content: string): Digest {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}

export async function imageRig(): Promise<ImageRig> {
  const scratch = await scratchDatabase(migrations);
  const { db, folder } = scratch;
  const now = Date.now;
  const activities = new Activities({ db, now, folder: join(folder, 'activities') });
  const bytes = new FileBytes(join(folder, 'blobs'));
  const blobs = new Blobs({ db, bytes, folder: join(folder, 'uploads'), now });
  const bin = trashRig(db, { model: () => models.discarded });
  const models: Models = new Models({
    stores: { db, bytes, trash: bin.trash },
    now,
    sizeOf: (of, digest, caller) => blobs.sizeOf(of, digest, caller),
    filesOf: async () => undefined,
    within: async () => false,
  });
  const environments = new Environments({
    cacheDir: join(folder, 'cache'),
    inherited: {},
    indexes: () => ({}),
  });
  const workers: ActivityWorker[] = [];
  const incidents: unknown[] = [];
  const fetchedFiles: string[] = [];
  const rig = { onBuild: async () => ({}), recipes: [] as ImageRecipe[], own: blobs.own() } as unknown as ImageRig;
  const kinds = fakeKinds(rig);
  const readText = async (digest: Digest) => (await bytes.read(digest).toArray()).join('');
  const locationOf = (...of: [string, string, number]) => `registry.test/${of.join('/')}`;
  const images = new Images({
    stores: { db, registry: { locationOf } },
    kinds,
    models,
    recipes: new Recipes({ blobs, environments, readText }),
    now,
    newId: randomUUID,
  });
  const building = new ImageBuilding({
    db,
    kinds,
    models,
    now,
    fetched: async (_workspace, datastore, path) => {
      fetchedFiles.push(path);
      return { path: `/fetched/${datastore}/${path}`, [Symbol.asyncDispose]: async () => void fetchedFiles.pop() };
    },
  });
  const upload = async (content: string) => {
    const digest = digestOf(content);
    const sizeBytes = Buffer.byteLength(content);
    const body = Readable.from([Buffer.from(content)]);
    await blobs.append({ workspace, digest, offset: 0, sizeBytes }, ada, body);
    return { digest, sizeBytes };
  };
  const ended = async (activity: string) => {
    for await (const event of activities.watch(
      { workspace, activity, after: 0 },
      undefined,
      AbortSignal.timeout(20_000),
    ))
      if (event.activity.endedAt) return event.activity;
    throw new Error(`The activity ${activity} has not ended.`);
  };
  const create: ImageRig['create'] = async ({ content = 'def run(data): ...', ...input } = {}) => {
    const { digest } = await upload(content);
    const usual = {
      workspace,
      name: 'scorer',
      models: [],
      scoringScript: 'score.py',
      files: [{ path: 'score.py', digest }],
      environment: {},
      environmentVariables: {},
    };
    return images.create({ ...usual, ...input }, ada);
  };
  const work: ImageRig['work'] = async (executors = {}) => {
    const all = { 'image.build': (one) => building.build(one), ...executors } as Executors;
    const incident = (error: unknown) => `i${incidents.push(error)}`;
    const worker = new ActivityWorker({ db, activities, executors: all, now, leaseMs: 30_000, incident });
    workers.push(worker);
    await worker.start();
    return worker;
  };
  return Object.assign(rig, {
    scratch,
    activities,
    models,
    images,
    bin,
    kinds,
    incidents,
    upload,
    create,
    work,
    ended,
    model: async (name: string) => {
      const content = await upload(`the weights of ${name}`);
      return models.register({ workspace, name, files: [{ path: 'weights.bin', ...content }] } as never, ada);
    },
    built: async (name: string, content = name) => {
      const image = await create({ name, content });
      await ended(image.activity);
      return images.get({ workspace, name, version: String(image.version) });
    },
    [Symbol.asyncDispose]: async () => {
      for (const worker of workers) await worker.stop();
      await scratch[Symbol.asyncDispose]();
    },
  });
}

function fakeKinds(rig: ImageRig): ImageKinds {
  return {
    docker: {
      kind: 'docker',
      async build(recipe, watch) {
        rig.recipes.push(recipe);
        watch.log('Building nothing.');
        const content = JSON.stringify(recipe);
        const { digest } = await rig.own.write(Readable.from([Buffer.from(content)]), digestOf(content));
        const usual = {
          digest,
          parts: [digest],
          sizeBytes: 7,
          base: 'none@sha256:0',
          environment: { python: '3.11', notices: [] },
        };
        return { ...usual, ...(await rig.onBuild(recipe, watch)) };
      },
      export: async (digest, { format, name }) => Readable.from([`${format} ${name} ${digest}`], { objectMode: false }),
      unpack: async (digest) => ({ rootPath: '/', command: ['serve'], env: { IMAGE: digest }, workdir: '/' }),
    },
  };
}
