import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ActivityWorker } from '../activity/activities.ts';
import { sql } from '../db/transactions.ts';
import { ada, digestOf, type ImageRig, imageRig, workspace } from './image.fixture.ts';

let rig: ImageRig;
let worker: ActivityWorker | undefined;
beforeAll(async () => {
  rig = await imageRig();
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(() => {
  rig.scratch.clear();
  rig.recipes.length = 0;
  rig.incidents.length = 0;
  rig.onBuild = async () => ({});
});
afterEach(async () => {
  await worker?.stop();
  worker = undefined;
});

const get = (name: string, version: number | string = 'latest') =>
  rig.images.get({ workspace, name, version: String(version) });
const remove = (name: string, version: number) => rig.images.delete({ workspace, name, version: String(version) });
const work = async () => {
  worker = await rig.work();
};
const logOf = async (activity: string) =>
  (await (await rig.activities.getLog({ workspace, activity, follow: true })).stream.toArray()).join('');

describe('an image', () => {
  it('is built by its activity and shows what it is made of', async () => {
    const model = await rig.model('ridge');
    const made = await rig.create({
      models: ['ridge'],
      description: 'Predicts.',
      tags: { stage: 'test' },
      properties: { by: 'ci' },
      environmentVariables: { THREADS: '2' },
    });
    expect(made).toMatchObject({ id: 'scorer:1', state: 'building', models: ['ridge:1'], createdBy: 'ada' });
    await expect(rig.images.unpack(workspace, 'scorer', 1)).rejects.toMatchObject({ reason: 'image.not-ready' });
    await work();
    expect(await rig.ended(made.activity)).toMatchObject({ state: 'succeeded', subject: 'scorer:1' });
    expect(rig.recipes).toEqual([
      {
        models: [{ ...model, files: [{ path: 'weights.bin', digest: digestOf('the weights of ridge') }] }].map(
          ({ name, version, files }) => ({ name, version, files }),
        ),
        files: [{ path: 'score.py', digest: digestOf('def run(data): ...') }],
        scoringScript: 'score.py',
        base: { from: 'default' },
        environmentVariables: { THREADS: '2' },
      },
    ]);
    const image = await get('scorer');
    expect(image).toMatchObject({
      state: 'succeeded',
      digest: digestOf(JSON.stringify(rig.recipes[0])),
      sizeBytes: 7,
      location: 'registry.test/w1/scorer/1',
      base: 'none@sha256:0',
      environment: { python: '3.11', notices: [] },
      tags: { stage: 'test' },
      properties: { by: 'ci' },
    });
    expect(await logOf(made.activity)).toBe(
      `Building the image scorer:1.\nBuilding nothing.\nBuilt ${image.digest}.\n`,
    );
    const root = await rig.images.unpack(workspace, 'scorer', 1);
    expect(root.env).toEqual({ IMAGE: image.digest });
  });

  it('of the same name is the next version, and no number comes twice', async () => {
    await work();
    const versions = async () => {
      const image = await rig.create();
      await rig.ended(image.activity);
      return image.version;
    };
    expect([await versions(), await versions()]).toEqual([1, 2]);
    await remove('scorer', 2);
    expect(await versions()).toBe(3);
    const many = await Promise.all([1, 2, 3, 4].map(() => rig.create()));
    expect(many.map(({ version }) => version).sort()).toEqual([4, 5, 6, 7]);
    expect((await get('scorer')).version).toBe(7);
    expect(await rig.images.resolve(workspace, 'scorer:3')).toEqual({ workspace, name: 'scorer', version: 3 });
    expect((await rig.images.resolve(workspace, 'scorer')).version).toBe(7);
    for (const reference of ['scorer:2', 'scorer:0', 'other', 'scorer:', 'scorer:x', ':1'])
      await expect(rig.images.resolve(workspace, reference)).rejects.toMatchObject({ reason: 'image.not-found' });
  });

  it('is found by name, tag and model, newest first, in pages', async () => {
    for (const name of ['ridge', 'lasso']) await rig.model(name);
    await rig.model('ridge');
    await rig.create({ name: 'a', models: ['ridge:1'], tags: { stage: 'prod', 'a=b': 'c' } });
    await pause(2);
    await rig.create({ name: 'b', models: ['ridge', 'lasso'], tags: { stage: 'test' } });
    await pause(2);
    await rig.create({ name: 'c' });
    const names = async (by: object) => (await rig.images.list({ workspace, ...by })).items.map(({ name }) => name);
    expect(await names({})).toEqual(['c', 'b', 'a']);
    expect(await names({ name: 'b' })).toEqual(['b']);
    expect(await names({ tag: ['stage'] })).toEqual(['b', 'a']);
    expect(await names({ tag: ['stage=prod'] })).toEqual(['a']);
    expect(await names({ tag: ['stage=prod', 'missing'] })).toEqual([]);
    expect(await names({ model: 'ridge' })).toEqual(['b', 'a']);
    expect(await names({ model: 'ridge:2' })).toEqual(['b']);
    expect(await names({ model: 'lasso', tag: ['stage=prod'] })).toEqual([]);
    const first = await rig.images.list({ workspace, pageSize: 2 });
    const rest = await rig.images.list({ workspace, pageSize: 2, page: first.nextPage });
    expect([...first.items, ...rest.items].map(({ name }) => name)).toEqual(['c', 'b', 'a']);
    expect((await rig.images.list({ workspace: 'other' })).items).toEqual([]);
  });

  it('changes its tags and description only, and is found by the new tags', async () => {
    await rig.create({ tags: { a: '1', b: '2' } });
    const change = (more: object) => rig.images.update({ workspace, name: 'scorer', version: '1', ...more });
    expect(await change({ tags: { b: null, c: '3' }, description: 'New.' })).toMatchObject({
      tags: { a: '1', c: '3' },
      description: 'New.',
    });
    expect((await rig.images.list({ workspace, tag: ['b'] })).items).toEqual([]);
    expect((await rig.images.list({ workspace, tag: ['c=3'] })).items).toHaveLength(1);
    const many = Object.fromEntries(Array.from({ length: 49 }, (_, n) => [`t${n}`, '']));
    await expect(change({ tags: many })).rejects.toThrow('would have 51 tags; 50 are allowed');
    expect((await get('scorer')).tags).toEqual({ a: '1', c: '3' });
  });

  it('is handed out under a name that is fit for a file', async () => {
    await work();
    await rig.built('Mein Bild');
    const download = await rig.images.export({ workspace, name: 'Mein Bild', version: '1', format: 'oci' }, ada, {
      signal: new AbortController().signal,
    });
    expect(download.filename).toBe('Mein Bild-1.tar.gz');
    expect((await download.stream.toArray()).join('')).toMatch(/^oci mein-bild:1 sha256:/);
  });
});

describe('deleting', () => {
  it('is refused while it is built, and while a web service uses it', async () => {
    const made = await rig.create();
    await expect(remove('scorer', 1)).rejects.toMatchObject({
      reason: 'image.not-ready',
      message: expect.stringContaining(made.activity),
    });
    await work();
    await rig.ended(made.activity);
    useBy('the web service s1');
    await expect(remove('scorer', 1)).rejects.toMatchObject({
      reason: 'image.in-use',
      message: 'The image scorer:1 is used by the web service s1.',
    });
    useBy();
    await remove('scorer', 1);
    await expect(get('scorer', 1)).rejects.toMatchObject({ reason: 'image.not-found' });
  });

  it('frees its models, and leaves nothing of it', async () => {
    await rig.model('ridge');
    await work();
    const made = await rig.create({ models: ['ridge'], tags: { a: 'b' } });
    await rig.ended(made.activity);
    const removeModel = () => rig.models.delete({ workspace, name: 'ridge', version: '1' }, ada);
    await expect(removeModel()).rejects.toThrow('scorer:1');
    await remove('scorer', 1);
    await rig.bin.remove(await removeModel());
    for (const table of ['image', 'image_tag', 'image_model'] as const)
      expect(await rig.scratch.db.all(sql.selectFrom(table).selectAll())).toEqual([]);
    const owner = sql.selectFrom('blob_ref').selectAll().where('owner_kind', '=', 'image');
    expect(await rig.scratch.db.all(owner)).toEqual([]);
  });

  /** What a deployment does in its own transaction. */
  function useBy(user?: string): void {
    rig.scratch.write(
      user ? `INSERT INTO image_use VALUES ('${workspace}', 'scorer', 1, '${user}')` : 'DELETE FROM image_use',
    );
  }
});

describe('what an image is made of', () => {
  const refused = async (input: Parameters<typeof rig.create>[0]) => {
    const error: unknown = await rig.create(input).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ServiceError);
    return (error as ServiceError).message;
  };

  it('is checked when it is asked for: nothing is registered that cannot be built', async () => {
    const { digest } = await rig.upload('content');
    const missing = digestOf('never uploaded');
    expect(await refused({ files: [{ path: 'score.py', digest: missing }] })).toContain(
      'score.py has not been uploaded',
    );
    expect(await refused({ scoringScript: 'main.py', files: [{ path: 'score.py', digest }] })).toContain(
      'main.py is not among the files: score.py',
    );
    const twice = [1, 2].map(() => ({ path: 'score.py', digest }));
    expect(await refused({ files: twice })).toContain('score.py stands twice');
    for (const path of ['../score.py', '/score.py', 'a//b', 'C:x', 'a\\b'])
      expect(await refused({ scoringScript: path, files: [{ path, digest }] })).toContain('is not allowed');
    expect(await refused({ models: ['nothing'] })).toContain('nothing');
    expect(await refused({ environment: { userManaged: true } as never })).toContain('no user-managed Python');
    expect(await refused({ baseImage: 'datastore:store/../../etc/passwd' })).toContain('is not allowed');
    expect((await rig.images.list({ workspace })).items).toEqual([]);
    expect((await rig.activities.list({ workspace })).items).toEqual([]);
  });

  it('may have a base from a registry, or from a file of a datastore, which is fetched for the build only', async () => {
    await work();
    const bases: unknown[] = [];
    rig.onBuild = async ({ base }) => {
      bases.push(base);
      return {};
    };
    for (const baseImage of ['python:3.12-slim', 'datastore:store/bases/python.tar']) {
      const made = await rig.create({ baseImage });
      await rig.ended(made.activity);
    }
    expect(bases).toEqual([
      { from: 'registry', reference: 'python:3.12-slim' },
      { from: 'file', path: '/fetched/store/bases/python.tar' },
    ]);
  });

  it('has the environment’s files read from among its own', async () => {
    const script = await rig.upload('def run(data): ...');
    const requirements = await rig.upload('numpy==2.1.0\n');
    const files = [
      { path: 'score.py', digest: script.digest },
      { path: 'requirements.txt', digest: requirements.digest },
    ];
    await work();
    const made = await rig.create({ files, environment: { requirementsFile: 'requirements.txt' } as never });
    await rig.ended(made.activity);
    expect(JSON.stringify(rig.recipes[0]!.environment)).toContain('numpy==2.1.0');
    expect(await refused({ files, environment: { requirementsFile: 'missing.txt' } as never })).toContain(
      'missing.txt',
    );
  });
});

describe('a build', () => {
  it('that fails says why, on the image’s activity, and the image cannot be deployed', async () => {
    rig.onBuild = async () => {
      throw new ServiceError('failed-precondition', 'environment.unresolvable', 'There is no numpy 99.');
    };
    await work();
    const made = await rig.create();
    expect(await rig.ended(made.activity)).toMatchObject({
      state: 'failed',
      error: { reason: 'environment.unresolvable', message: 'There is no numpy 99.' },
    });
    expect(await get('scorer')).toMatchObject({ state: 'failed' });
    await expect(rig.images.unpack(workspace, 'scorer', 1)).rejects.toMatchObject({ reason: 'image.not-ready' });
    await remove('scorer', 1);
  });

  it('that is canceled stops, and the image says so', async () => {
    const begun = Promise.withResolvers<void>();
    rig.onBuild = async (_, { signal }) => {
      begun.resolve();
      await pause(20_000, undefined, { signal });
      return {};
    };
    await work();
    const made = await rig.create();
    await begun.promise;
    await rig.activities.cancel({ workspace, activity: made.activity }, ada);
    expect((await rig.ended(made.activity)).state).toBe('canceled');
    expect((await get('scorer')).state).toBe('canceled');
  });

  it('that is canceled before it begins is not begun', async () => {
    const made = await rig.create();
    await rig.activities.cancel({ workspace, activity: made.activity }, ada);
    await work();
    expect((await rig.ended(made.activity)).state).toBe('canceled');
    expect((await get('scorer')).state).toBe('canceled');
    expect(rig.recipes).toEqual([]);
  });

  it('that a registry refuses for now is tried again, and fails with its words when it refuses for good', async () => {
    let tries = 0;
    rig.onBuild = async () => {
      if (++tries < 3) throw new TargetError('now', 'The registry is busy.');
      return {};
    };
    await work();
    const made = await rig.create();
    expect((await rig.ended(made.activity)).state).toBe('succeeded');
    expect([tries, (await get('scorer')).state]).toEqual([3, 'succeeded']);
    rig.onBuild = async () => {
      throw new TargetError('never', 'The registry knows no such image.');
    };
    const other = await rig.create({ name: 'other' });
    expect(await rig.ended(other.activity)).toMatchObject({
      state: 'failed',
      error: { reason: 'target.failed', message: 'The registry knows no such image.' },
    });
    expect((await get('other')).state).toBe('failed');
  });

  it('that the stop of the server interrupts begins again after the next start', async () => {
    const begun = Promise.withResolvers<void>();
    rig.onBuild = async (_, { signal }) => {
      begun.resolve();
      await pause(20_000, undefined, { signal });
      return {};
    };
    await work();
    const made = await rig.create();
    await begun.promise;
    await worker!.stop();
    expect((await get('scorer')).state).toBe('building');
    rig.onBuild = async () => ({});
    await work();
    expect((await rig.ended(made.activity)).state).toBe('succeeded');
    expect(rig.recipes).toHaveLength(2);
    expect(rig.incidents).toEqual([]);
  });
});
