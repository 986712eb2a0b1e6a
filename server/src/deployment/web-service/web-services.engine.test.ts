import { setTimeout as pause } from 'node:timers/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Image } from '@stellwerk/contract/image.ts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { sql } from '../../db/transactions.ts';
import { ada, workspace } from '../../image/image.fixture.ts';
import { type WebServiceRig, webServiceRig } from './web-service.fixture.ts';

let rig: WebServiceRig;
let stop: () => Promise<void>;
let one: Image;
let two: Image;
beforeAll(async () => {
  rig = await webServiceRig();
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(async () => {
  rig.images.scratch.clear();
  rig.images.incidents.length = 0;
  rig.restart();
  ({ stop } = await rig.run());
  one = await rig.images.built('model', 'one');
  two = await rig.images.built('model', 'two');
});
afterEach(async () => {
  await stop();
  for (const id of rig.host.running()) rig.host.end(id, 0);
  rig.host.replicas.clear();
  rig.host.behaviours.clear();
  rig.host.events.length = 0;
  rig.host.onStart = async () => {};
  expect(rig.images.incidents).toEqual([]);
});

const services = () => rig.server.services;
const settled = async (service = 's1') => {
  const { activity } = await rig.get(service);
  return rig.images.ended(activity!);
};
const update = (input: Partial<Parameters<WebServiceRig['server']['services']['update']>[0]>) =>
  services().update({ workspace, service: 's1', ...input }, ada);
const scale = (replicas: number) => services().scale({ workspace, service: 's1', replicas }, ada);
const remove = () => services().delete({ workspace, service: 's1' }, ada);
const restartServer = async () => {
  await stop();
  rig.restart();
  ({ stop } = await rig.run());
};

/** Asks all the time until told to end; gives how often each answer came. */
function asking() {
  let isAsking = true;
  const seen = new Map<string, number>();
  const ask = async () => {
    while (isAsking) {
      const { status, text } = await rig.score();
      const key = status === 200 ? text : `${status}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
  };
  const all = Promise.all([ask(), ask(), ask(), ask()]);
  return async () => {
    isAsking = false;
    await all;
    return Object.fromEntries(seen);
  };
}

describe('a deployment', () => {
  it('serves its image with as many replicas as were asked for, to those with a key', async () => {
    const made = await rig.deploy({ image: 'model:1', replicas: 2 });
    expect(made).toMatchObject({ state: 'deploying', image: 'model:1', replicas: 2, authentication: 'key' });
    expect(await settled()).toMatchObject({
      state: 'succeeded',
      progress: { message: 's1 serves model:1 with 2 replicas.', fraction: 1 },
    });
    const service = await rig.get();
    expect(service).toMatchObject({ state: 'healthy', models: [], isolation: 'none' });
    expect(service.replicaStates.map(({ state, image }) => [state, image])).toEqual([
      ['ready', 'model:1'],
      ['ready', 'model:1'],
    ]);
    expect(await rig.score()).toEqual({ status: 200, text: one.digest });
    expect(service.scoringUri).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/services\/w1\/s1\/score$/);
    expect((await fetch(service.scoringUri, { method: 'POST' })).status).toBe(401);
    const { items } = await services().list({ workspace });
    expect(items.map(({ name, requests }) => [name, requests?.total])).toEqual([['s1', expect.any(Number)]]);
  });

  it('of an image that does not become ready fails, says what it printed and leaves nothing', async () => {
    rig.host.behaviours.set(one.digest!, { exits: 3 });
    await rig.deploy({ image: 'model:1' });
    const activity = await settled();
    expect(activity).toMatchObject({ state: 'failed', error: { reason: 'web-service.not-ready' } });
    expect(activity.error!.message).toMatch(/ended with exit code 3 .*init\(\) failed: no weights/s);
    expect(await rig.get()).toMatchObject({ state: 'failed', replicaStates: [], reason: activity.error!.message });
    expect(rig.host.replicas.size).toBe(0);
    await expect(rig.deploy({ image: 'model:2' })).rejects.toMatchObject({ reason: 'web-service.name-taken' });
    await update({ image: 'model:2' });
    expect((await settled()).state).toBe('succeeded');
    expect(await rig.score()).toEqual({ status: 200, text: two.digest });
  });

  it('is refused without an image or a target that hosts, and under a name that is taken', async () => {
    await expect(rig.deploy({ image: 'none' })).rejects.toMatchObject({ reason: 'image.not-found' });
    const on = {
      workspace,
      name: 's2',
      image: 'model',
      replicas: 1,
      timeoutSeconds: 1,
      authentication: 'key',
    } as const;
    await expect(services().deploy({ ...on, target: 'local' }, ada)).rejects.toThrow('it only trains.');
    await rig.deploy({ image: 'model' });
    await expect(rig.deploy({ name: 'S1', image: 'model' })).rejects.toMatchObject({
      reason: 'web-service.name-taken',
    });
    await settled();
  });

  it('keeps its image from being deleted until it is gone', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    const removeImage = () => rig.images.images.delete({ workspace, name: 'model', version: '1' });
    await expect(removeImage()).rejects.toThrow('used by the web service s1');
    await update({ image: 'model:2' });
    await settled();
    await removeImage();
    await expect(rig.images.images.delete({ workspace, name: 'model', version: '2' })).rejects.toThrow('s1');
  });

  it('that a target refuses for now is tried again without being given up', async () => {
    let refusals = 0;
    const refuses = () => (++refusals < 3 ? new TargetError('now', 'The engine is busy.') : undefined);
    rig.host.behaviours.set(one.digest!, { refuses });
    await rig.deploy({ image: 'model:1' });
    expect((await settled()).state).toBe('succeeded');
    expect(refusals).toBe(3);
  });
});

describe('an update', () => {
  it('loses no request: new replicas are ready before old ones leave, and those finish what they answer', async () => {
    rig.host.behaviours.set(one.digest!, { answerAfterMs: 30 });
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const answers = asking();
    await pause(300);
    rig.host.events.length = 0;
    await update({ image: 'model:2' });
    expect(await rig.get()).toMatchObject({ state: 'updating', image: 'model:2' });
    expect((await settled()).state).toBe('succeeded');
    await pause(200);
    const seen = await answers();
    expect(Object.keys(seen).sort()).toEqual([one.digest!, two.digest!].sort());
    expect(rig.host.events.map((event) => event.split(' ')[0])).toEqual(['start', 'start', 'stop', 'stop']);
    expect(rig.host.replicas.size).toBe(2);
    expect((await rig.get()).replicaStates.map(({ image }) => image)).toEqual(['model:2', 'model:2']);
  });

  it('to an image that does not work is undone, and nobody who asks notices', async () => {
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const before = rig.host.running().sort();
    const answers = asking();
    rig.host.behaviours.set(two.digest!, { exits: 1 });
    await update({ image: 'model:2', replicas: 3, timeoutSeconds: 99 });
    expect((await settled()).state).toBe('failed');
    const service = await rig.get();
    expect(service).toMatchObject({ state: 'healthy', image: 'model:1', replicas: 2 });
    expect(service.reason).toMatch(/^The last change was undone: .*no weights/s);
    expect(rig.host.running().sort()).toEqual(before);
    expect(Object.keys(await answers())).toEqual([one.digest]);
    rig.host.behaviours.clear();
    await update({ image: 'model:2' });
    expect((await settled()).state).toBe('succeeded');
    expect(rig.host.running().some((id) => before.includes(id))).toBe(false);
    expect((await rig.get()).reason).toBeUndefined();
  });

  it('that is canceled is undone', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    rig.host.behaviours.set(two.digest!, { neverReady: true });
    const { activity } = await update({ image: 'model:2' });
    await expect.poll(() => rig.host.running().length).toBe(2);
    await rig.images.activities.cancel({ workspace, activity: activity! }, ada);
    expect((await settled()).state).toBe('canceled');
    expect(await rig.get()).toMatchObject({ state: 'healthy', image: 'model:1' });
    expect(rig.host.running()).toHaveLength(1);
    expect(await rig.score()).toEqual({ status: 200, text: one.digest });
  });

  it('is refused while another one is under way', async () => {
    rig.host.behaviours.set(one.digest!, { neverReady: true });
    const { activity } = await rig.deploy({ image: 'model:1' });
    await expect(update({ image: 'model:2' })).rejects.toMatchObject({ reason: 'web-service.busy' });
    await expect(scale(2)).rejects.toThrow(activity);
    await rig.images.activities.cancel({ workspace, activity: activity! }, ada);
    await settled();
  });

  it('of its description or its authentication needs no new replicas', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    rig.host.events.length = 0;
    expect(await update({ description: 'Now open.', authentication: 'none' })).toMatchObject({
      state: 'healthy',
      description: 'Now open.',
    });
    const { scoringUri } = await rig.get();
    expect((await fetch(scoringUri, { method: 'POST' })).status).toBe(200);
    expect(rig.host.events).toEqual([]);
  });
});

describe('a restart of the server', () => {
  it('while nothing changes finds everything as it was', async () => {
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const before = rig.host.running().sort();
    const answers = asking();
    rig.host.events.length = 0;
    await restartServer();
    await pause(1_500); // the supervisor has looked
    expect(Object.keys(await answers())).toEqual([one.digest]);
    expect(rig.host.running().sort()).toEqual(before);
    expect(rig.host.events).toEqual([]);
  });

  it('in the middle of an update goes on with it, and starts nothing twice', async () => {
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const answers = asking();
    rig.host.events.length = 0;
    const begun = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    let starts = 0;
    rig.host.onStart = async () => {
      if (++starts !== 2) return;
      begun.resolve();
      await gate.promise; // between the two new replicas
    };
    await update({ image: 'model:2' });
    await begun.promise;
    const stopped = stop();
    await pause(100);
    gate.resolve();
    await stopped;
    expect((await rig.get()).state).toBe('updating');
    rig.restart();
    ({ stop } = await rig.run());
    expect((await settled()).state).toBe('succeeded');
    expect(rig.host.running()).toHaveLength(2);
    expect(rig.host.events.filter((event) => event.startsWith('start'))).toHaveLength(2);
    expect(Object.keys(await answers()).every((answer) => answer.startsWith('sha256:'))).toBe(true);
    expect(await rig.score()).toEqual({ status: 200, text: two.digest });
  });

  it('in the middle of an update that then fails goes back to what served before it', async () => {
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const before = rig.host.running().sort();
    rig.host.behaviours.set(two.digest!, { neverReady: true });
    await update({ image: 'model:2', replicas: 1 });
    await expect.poll(() => rig.host.running().length).toBe(3);
    await stop();
    const [fresh] = rig.host.running().filter((id) => !before.includes(id));
    rig.host.end(fresh!, 9, 'killed\n');
    rig.host.behaviours.set(two.digest!, { exits: 4 });
    rig.restart();
    ({ stop } = await rig.run());
    expect((await settled()).state).toBe('failed');
    expect(await rig.get()).toMatchObject({ state: 'healthy', image: 'model:1', replicas: 2 });
    expect(rig.host.running().sort()).toEqual(before);
  });
});

describe('scaling', () => {
  it('starts what is missing and ends what is too many, with no request lost', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    const [first] = rig.host.running();
    const answers = asking();
    await scale(3);
    expect((await settled()).state).toBe('succeeded');
    expect(rig.host.running()).toHaveLength(3);
    expect(rig.host.running()).toContain(first);
    await scale(1);
    await settled();
    expect(rig.host.running()).toHaveLength(1);
    expect(await rig.get()).toMatchObject({ state: 'healthy', replicas: 1 });
    expect(Object.keys(await answers())).toEqual([one.digest]);
  });

  it('up that fails keeps those there were', async () => {
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const before = rig.host.running().sort();
    rig.host.behaviours.set(one.digest!, { exits: 1 });
    await scale(4);
    expect((await settled()).state).toBe('failed');
    expect(await rig.get()).toMatchObject({ state: 'healthy', replicas: 2 });
    expect(rig.host.running().sort()).toEqual(before);
  });

  it('down keeps what is ready', async () => {
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const [first, second] = rig.host.running().sort();
    rig.host.behaviours.set(one.digest!, { neverReady: true }); // if it is started again, it stays unready
    rig.host.end(first!, 1);
    await expect.poll(async () => (await rig.get()).replicaStates[0]!.state, { timeout: 5_000 }).not.toBe('ready');
    await scale(1);
    expect((await settled()).state).toBe('succeeded');
    expect(rig.host.running()).toEqual([second]);
  });
});

describe('deleting', () => {
  const gone = async () => {
    await expect
      .poll(() =>
        rig.get().then(
          () => 'there',
          (error) => error.reason,
        ),
      )
      .toBe('web-service.not-found');
    expect(rig.host.replicas.size).toBe(0);
    expect(await rig.images.scratch.db.all(sql.selectFrom('web_replica').selectAll())).toEqual([]);
    await expect.poll(async () => (await rig.gateway.status())!.services).toEqual([]);
  };

  it('answers what is in flight, and leaves nothing; the name can be used again', async () => {
    rig.host.behaviours.set(one.digest!, { answerAfterMs: 400 });
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const inFlight = rig.score();
    await pause(100);
    await remove();
    expect(await inFlight).toEqual({ status: 200, text: one.digest });
    await gone();
    await rig.images.images.delete({ workspace, name: 'model', version: '1' });
    await rig.deploy({ image: 'model:2' });
    expect((await settled()).state).toBe('succeeded');
  });

  it('ends a deployment that is under way first', async () => {
    rig.host.behaviours.set(one.digest!, { neverReady: true });
    const { activity } = await rig.deploy({ image: 'model:1' });
    await expect.poll(() => rig.host.running().length).toBe(1);
    await remove();
    expect((await rig.images.ended(activity!)).state).toBe('canceled');
    await gone();
  });

  it('in the middle of a start leaves no replica behind', async () => {
    const begun = Promise.withResolvers<void>();
    rig.host.onStart = async () => {
      begun.resolve();
      await pause(300);
    };
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await begun.promise;
    await remove();
    await gone();
  });
});

describe('the supervisor', () => {
  it('starts a replica that ended again, under the same name, and tells meanwhile what happened', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    const [id] = rig.host.running();
    rig.host.end(id!, 7, 'out of memory\n');
    await expect
      .poll(async () => (await rig.get()).replicaStates[0]!.reason, { timeout: 5_000, interval: 20 })
      .toContain('exit code 7');
    await expect.poll(() => rig.host.running(), { timeout: 10_000 }).toEqual([id]);
    await expect.poll(async () => (await rig.get()).replicaStates[0]!.state, { timeout: 5_000 }).toBe('ready');
    await expect.poll(async () => (await rig.get()).state, { timeout: 5_000 }).toBe('healthy');
    expect(await rig.score()).toEqual({ status: 200, text: one.digest });
    const row = await rig.images.scratch.db.first(sql.selectFrom('web_replica').select('restarts'));
    expect(row).toEqual({ restarts: 1 });
  });

  it('says that a web service is not healthy when none of its replicas is ready', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    rig.host.behaviours.set(one.digest!, { neverReady: true });
    rig.host.end(rig.host.running()[0]!, 1);
    await expect.poll(async () => (await rig.get()).state, { timeout: 5_000 }).toBe('unhealthy');
    await expect
      .poll(async () => (await rig.get()).replicaStates[0]!.reason, { timeout: 8_000 })
      .toBe('init() still runs');
  });

  it('starts the gateway again when it was killed', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    process.kill((await rig.gateway.status())!.pid, 'SIGKILL');
    const score = () => rig.score().catch(() => ({ status: 0, text: '' }));
    await expect.poll(score, { timeout: 15_000, interval: 200 }).toEqual({ status: 200, text: one.digest });
  });

  it('ends what a change left draining, and settles what an activity left unsettled', async () => {
    await rig.deploy({ image: 'model:1', replicas: 2 });
    await settled();
    const [left] = rig.host.running().sort();
    rig.images.scratch.write(`UPDATE web_replica SET state = 'draining' WHERE id = '${left}'`);
    await expect.poll(() => rig.host.running().includes(left!), { timeout: 5_000 }).toBe(false);
    rig.images.scratch.write("UPDATE web_service SET state = 'updating'");
    await expect.poll(async () => (await rig.get()).state, { timeout: 5_000 }).toBe('healthy');
  });
});

describe('keys', () => {
  const keys = () => services().getKeys({ workspace, service: 's1' });
  const regenerate = (key: 'primary' | 'secondary') => services().regenerateKey({ workspace, service: 's1', key });

  it('are both good, and one that was replaced is not any more', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    const { scoringUri } = await rig.get();
    const status = async (key: string) =>
      (await fetch(scoringUri, { method: 'POST', headers: { authorization: `Bearer ${key}` } })).status;
    const before = await keys();
    expect([await status(before.primary), await status(before.secondary)]).toEqual([200, 200]);
    const after = await regenerate('primary');
    expect(after.secondary).toBe(before.secondary);
    expect([await status(before.primary), await status(after.primary), await status(after.secondary)]).toEqual([
      401, 200, 200,
    ]);
    const row = await rig.images.scratch.db.first(sql.selectFrom('web_service').select('keys'));
    expect(row!.keys).not.toContain(after.primary);
  });

  it('that are replaced at the same time are both new', async () => {
    await rig.deploy({ image: 'model:1' });
    await settled();
    const before = await keys();
    await Promise.all([regenerate('primary'), regenerate('secondary')]);
    const after = await keys();
    expect(after.primary).not.toBe(before.primary);
    expect(after.secondary).not.toBe(before.secondary);
  });
});

it('the log is what the replicas printed, of one or of all', async () => {
  await rig.deploy({ image: 'model:1', replicas: 2 });
  await settled();
  const [id] = rig.host.running().sort();
  const read = async (more: object) =>
    (await (await services().getLog({ workspace, service: 's1', ...more })).stream.toArray()).join('');
  expect(await read({})).toContain(`==> ${id} <==\nserving ${one.digest}`);
  expect(await read({ replica: id, lines: 1 })).toBe(`serving ${one.digest}\n`);
});
