import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { UserCaller } from '../access/access.ts';
import { Activities, ActivityWorker, type Executors } from '../activity/activities.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { migrations } from '../stores.ts';
import type { OpenRuns } from './computes.ts';
import { ComputeChanges, type ComputeKinds, type ComputeNeeds, Computes, type Load, Tending } from './computes.ts';
import type { IsProvisioned, Target } from './driver.ts';
import { DockerDriver } from './kinds/docker/docker.ts';
import { localDriver } from './kinds/local/local.ts';
import { SshDriver } from './kinds/ssh/ssh.ts';

const admin: UserCaller = { kind: 'user', user: 'root', administrator: true, tokenId: 't' };
const ada: UserCaller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't' };
const workspace = 'w1';
const host = (user?: string) => ({ kind: 'host' as const, ...(user !== undefined && { user }) });

let scratch: ScratchDatabase;
let load: Map<string, Load>;
let open: { id: string; ended: boolean }[];
let canceled: string[];
let activities: Activities;
let worker: ActivityWorker;
/** What the cluster was told to make, by the names of the targets. */
let made: Map<string, object>;
let tended: string[];
let refuses: Error | undefined;
/** Of which targets the host was told to keep nothing. */
let forgotten: string[];
/** A host that keeps `good` apart, and no other user. */
const kinds = {
  local: localDriver,
  docker: new DockerDriver({} as never),
  /** Made on the target `base`. */
  ssh: Object.assign(new SshDriver({} as never, {} as never), {
    probe: async () => ({ usable: true, findings: [] }),
    capacity: async () => ({ cpus: 1, memoryBytes: 1e9, gpus: [] }),
    lifetime: {
      on: 'host',
      async provide({ name }, wanted, on) {
        if (refuses) throw refuses;
        made.set(name, wanted);
        return {
          kind: 'ssh',
          address: `${name}.${on.name}`,
          user: 'u',
          key: 'k',
          port: 22,
          folder: 'f',
          python: 'python3',
        };
      },
      async remove({ name }) {
        made.delete(name);
      },
      async tend({ name }, wanted, on) {
        if (refuses) throw refuses;
        tended.push(`${name} on ${on.name}: ${wanted.cpus}`);
      },
    } satisfies IsProvisioned<'ssh'>,
  }),
  host: {
    kind: 'host',
    hostsServices: true,
    queue: () => 'host',
    reach: () => 'here',
    async forget({ name }: Target<'host'>) {
      forgotten.push(name);
      if (refuses) throw refuses;
    },
    capacity: async () => ({ cpus: 3, memoryBytes: 8e9, gpus: [] }),
    async probe({ settings }: Target<'host'>) {
      const ok = settings.user === undefined || settings.user === 'good';
      return {
        usable: ok,
        findings: [{ what: 'isolation', ok, detail: ok ? 'Kept apart.' : 'It could read the data folder.' }],
      };
    },
  },
} as unknown as ComputeKinds;
const runs: OpenRuns = {
  load: async () => load,
  on: async () => open,
  inQueue: async (queue) => [{ state: 'queued', priority: 'normal', createdAt: '', reason: queue }],
  cancel: async (_, run) => {
    canceled.push(run);
    open = [{ id: run, ended: true }];
    setTimeout(() => {
      open = [];
    }, 50);
  },
};
const computesWith = (more: Partial<ComputeNeeds>) =>
  new Computes({
    stores: { db: scratch.db, activities },
    now: Date.now,
    newId: randomUUID,
    kinds,
    loopbackOnly: false,
    runs,
    ...more,
  });

beforeEach(async () => {
  scratch = await scratchDatabase(migrations);
  load = new Map();
  [open, canceled, made, tended, refuses, forgotten] = [[], [], new Map(), [], undefined, []];
  activities = new Activities({ db: scratch.db, now: Date.now, folder: join(scratch.folder, 'activities') });
  const changes = new ComputeChanges({ db: scratch.db, kinds, runs });
  worker = new ActivityWorker({
    db: scratch.db,
    activities,
    executors: changes.executors as unknown as Executors,
    now: Date.now,
    leaseMs: 30_000,
    incident: (error) => String(error),
  });
  await worker.start();
});
afterEach(async () => {
  await worker.stop();
  await scratch[Symbol.asyncDispose]();
});

async function refusal(act: Promise<unknown>): Promise<ServiceError> {
  const error = await act.then(
    () => undefined,
    (failed) => failed,
  );
  if (!(error instanceof ServiceError)) throw error ?? new Error('was not refused');
  return error;
}

test('the host is there by itself only where nobody else reaches the server; local always is', async () => {
  const names = async (loopbackOnly: boolean) =>
    (await computesWith({ loopbackOnly }).list({ workspace })).items.map(({ name }) => name);
  expect(await names(true)).toEqual(['host', 'local']);
  expect(await names(false)).toEqual(['local']);
  expect((await refusal(computesWith({}).get({ workspace, target: 'host' }))).reason).toBe('compute.not-found');
});

test('the host of a server that others reach is attached by an administrator, and only with another user that is kept apart', async () => {
  const computes = computesWith({});
  const attach = (user: string | undefined, caller = admin, name = 'gpu-box') =>
    computes.attach({ workspace, name, settings: host(user) }, caller);
  expect((await refusal(attach('good', ada))).reason).toBe('access.administrator-needed');
  expect((await refusal(attach(undefined))).reason).toBe('compute.host-isolation');
  expect((await refusal(attach('bad'))).message).toContain('It could read the data folder.');
  expect(await attach('good')).toMatchObject({
    name: 'gpu-box',
    kind: 'host',
    state: 'usable',
    queued: 0,
    createdBy: 'root',
  });
  expect((await refusal(attach('good', admin, 'GPU-Box'))).reason).toBe('compute.name-taken');
  expect((await refusal(attach('good', admin, 'local'))).reason).toBe('compute.name-taken');
  const update = (settings: object) =>
    computes.update({ workspace, target: 'gpu-box', settings: settings as never }, admin);
  expect((await refusal(update(host('bad')))).reason).toBe('compute.host-isolation');
  expect((await refusal(update(host()))).reason).toBe('compute.host-isolation');
  expect((await refusal(update({ kind: 'local' }))).reason).toBe('settings.invalid');
});

test("a container engine of the server's own machine is attached by an administrator", async () => {
  const computes = computesWith({});
  const settings = { kind: 'docker' as const, address: 'unix:///var/run/docker.sock', image: 'base:1' };
  expect((await refusal(computes.attach({ workspace, name: 'engine', settings }, ada))).reason).toBe(
    'access.administrator-needed',
  );
  const elsewhere = { ...settings, address: 'ssh://u@127.0.0.1:1', key: 'k' };
  expect(await refusal(computes.attach({ workspace, name: 'engine', settings: elsewhere }, ada))).toMatchObject({
    reason: 'compute.unusable',
    message: expect.stringContaining('127.0.0.1:1 cannot be reached'),
  });
});

test('a target is used by its name, with so many runs at a time as the machine has processors, or as its settings say', async () => {
  const computes = computesWith({});
  await computes.attach({ workspace, name: 'one', settings: { ...host('good'), maxConcurrentRuns: 1 } }, admin);
  await computes.attach({ workspace, name: 'many', settings: host('good') }, admin);
  expect(await computes.require(workspace, 'ONE')).toMatchObject({
    maxConcurrentRuns: 1,
    queue: 'host',
    target: { name: 'one' },
  });
  expect(await computes.require(workspace, 'many')).toMatchObject({ maxConcurrentRuns: 3 });
  expect((await refusal(computes.require('other', 'one'))).reason).toBe('compute.not-found');
});

test('a target with open runs is not detached, and what is there by itself never', async () => {
  const computes = computesWith({ loopbackOnly: true });
  await computes.attach({ workspace, name: 'box', settings: host() }, admin);
  load.set('box', { queued: 1, running: 2 });
  open = [{ id: 'run-1', ended: false }];
  expect(await computes.get({ workspace, target: 'box' })).toMatchObject({ queued: 1, running: 2 });
  expect((await refusal(computes.detach({ workspace, target: 'box' }, admin))).reason).toBe('compute.in-use');
  load.clear();
  open = [];
  expect((await refusal(computes.detach({ workspace, target: 'box' }, ada))).reason).toBe(
    'access.administrator-needed',
  );
  await computes.detach({ workspace, target: 'box' }, admin);
  expect((await refusal(computes.get({ workspace, target: 'box' }))).reason).toBe('compute.not-found');
  for (const target of ['host', 'local'])
    expect((await refusal(computes.detach({ workspace, target }, admin))).reason).toBe('settings.invalid');
});

test('what was attached while only this machine reached the server takes nothing new once others do, and what runs there is looked after', async () => {
  const before = computesWith({ loopbackOnly: true });
  await before.attach({ workspace, name: 'box', settings: host() }, admin);
  expect(await before.require(workspace, 'box')).toMatchObject({ queue: 'host' });
  const now = computesWith({});
  expect((await refusal(now.require(workspace, 'box'))).reason).toBe('compute.host-isolation');
  expect((await refusal(now.require(workspace, 'host'))).reason).toBe('compute.not-found');
  expect(await now.get({ workspace, target: 'box' })).toMatchObject({
    state: 'failed',
    reason: expect.stringContaining('another Unix user'),
  });
  for (const target of ['box', 'host']) expect(await now.find(workspace, target)).toMatchObject({ queue: 'host' });
  await now.update({ workspace, target: 'box', settings: host('good') }, admin);
  expect(await now.require(workspace, 'box')).toMatchObject({ target: { settings: { user: 'good' } } });
});

test('targets are listed in the order of their names, page by page', async () => {
  const computes = computesWith({ loopbackOnly: true });
  for (const name of ['b-box', 'a-box', 'z-box']) await computes.attach({ workspace, name, settings: host() }, admin);
  const names: string[] = [];
  let page: string | undefined;
  do {
    const answer = await computes.list({ workspace, pageSize: 2, page });
    names.push(...answer.items.map(({ name }) => name));
    page = answer.nextPage;
  } while (page !== undefined);
  expect(names).toEqual(['a-box', 'b-box', 'host', 'local', 'z-box']);
});

test('a target shows the queue of its machine', async () => {
  const { items } = await computesWith({ loopbackOnly: true }).listQueue({ workspace, target: 'host' });
  expect(items.map(({ reason }) => reason)).toEqual(['host']);
});

test('with force, the runs that are open on a target are canceled first, and it is told which; it goes when nothing of them is left', async () => {
  const computes = computesWith({ loopbackOnly: true });
  await computes.attach({ workspace, name: 'box', settings: host() }, admin);
  open = [{ id: 'run-1', ended: false }];
  const refused = await refusal(computes.detach({ workspace, target: 'box' }, admin));
  expect(refused).toMatchObject({ reason: 'compute.in-use', message: expect.stringContaining('run-1') });
  expect(await computes.require(workspace, 'box')).toMatchObject({ queue: 'host' });
  const activity = await computes.detach({ workspace, target: 'box', force: true }, admin);
  expect(activity).toMatchObject({ kind: 'compute.detach', state: 'succeeded', report: { canceled: ['run-1'] } });
  expect([canceled, open]).toEqual([['run-1'], []]);
  expect((await refusal(computes.get({ workspace, target: 'box' }))).reason).toBe('compute.not-found');
});

test('what a machine keeps for later runs goes with the target, once its last run has; one that does not answer keeps it', async () => {
  const computes = computesWith({});
  for (const name of ['box', 'gone']) await computes.attach({ workspace, name, settings: host('good') }, admin);
  open = [{ id: 'run-1', ended: false }];
  await refusal(computes.detach({ workspace, target: 'box' }, admin));
  expect(forgotten).toEqual([]);
  await computes.detach({ workspace, target: 'box', force: true }, admin);
  expect([forgotten, canceled]).toEqual([['box'], ['run-1']]);
  refuses = new TargetError('later', 'It cannot be reached.');
  expect(await computes.detach({ workspace, target: 'gone' }, admin)).toMatchObject({ state: 'succeeded' });
  expect(forgotten).toEqual(['box', 'gone']);
});

test('what is attached is an activity of its own, which says how that went', async () => {
  const computes = computesWith({});
  await refusal(computes.attach({ workspace, name: 'box', settings: host('bad') }, admin));
  const target = await computes.attach({ workspace, name: 'box', settings: host('good') }, admin);
  expect(target).toMatchObject({ state: 'usable', created: false });
  const { items } = await activities.list({ workspace, subject: 'box' });
  expect(items.map(({ kind, state, createdBy }) => [kind, state, createdBy])).toEqual([
    ['compute.attach', 'succeeded', 'root'],
    ['compute.attach', 'failed', 'root'],
  ]);
  expect(items[0]!.id).toBe(target.activity);
});

const settled = async (target: { workspace?: string; activity?: string | undefined }) =>
  activities.settled({ workspace, activity: target.activity! }, 10_000);
const wanted = (more: object = {}) => ({ kind: 'ssh' as const, on: 'base', ...more });

test('a target is created on an attached one, changed, and deleted with all that was made for it', async () => {
  const computes = computesWith({ loopbackOnly: true });
  expect((await refusal(computes.create({ workspace, name: 'made', settings: wanted() }, ada))).reason).toBe(
    'compute.not-found',
  );
  await computes.attach({ workspace, name: 'base', settings: host() }, admin);
  const begun = await computes.create({ workspace, name: 'made', settings: wanted({ cpus: 1 }) }, ada);
  expect(await settled(begun)).toMatchObject({ kind: 'compute.create', state: 'succeeded' });
  expect(await computes.get({ workspace, target: 'made' })).toMatchObject({
    state: 'usable',
    created: true,
    provisioning: { on: 'base', cpus: 1 },
    settings: { address: 'made.base' },
  });
  await computes.scale({ workspace, target: 'made', settings: wanted({ cpus: 2 }) }, ada);
  expect(made.get('made')).toMatchObject({ cpus: 2 });
  expect((await computes.get({ workspace, target: 'made' })).provisioning).toMatchObject({ cpus: 2 });
  const another = { ...wanted(), on: 'made' };
  const refusals = [
    await refusal(computes.scale({ workspace, target: 'made', settings: another }, ada)),
    await refusal(computes.scale({ workspace, target: 'base', settings: wanted() }, ada)),
    await refusal(computes.detach({ workspace, target: 'made' }, ada)),
    await refusal(computes.delete({ workspace, target: 'base' }, ada)),
    await refusal(computes.detach({ workspace, target: 'base', force: true }, admin)),
    await refusal(computes.create({ workspace, name: 'Made', settings: wanted() }, ada)),
    await refusal(
      computes.create(
        {
          workspace,
          name: 'other',
          settings: { kind: 'slurm', on: 'base', minNodes: 0, maxNodes: 1, idleSecondsBeforeScaleDown: 1 },
        },
        ada,
      ),
    ),
  ];
  expect(refusals.map(({ reason }) => reason)).toEqual([
    'settings.invalid',
    'settings.invalid',
    'compute.created',
    'compute.not-created',
    'compute.in-use',
    'compute.name-taken',
    'settings.invalid',
  ]);
  expect(await computes.delete({ workspace, target: 'made' }, ada)).toMatchObject({ state: 'succeeded' });
  expect(made.size).toBe(0);
  await computes.detach({ workspace, target: 'base' }, admin);
});

test('what was made is looked after as it is wanted now, and what cannot be reached is looked after later', async () => {
  const computes = computesWith({ loopbackOnly: true });
  const incidents: unknown[] = [];
  const tending = new Tending({ db: scratch.db, kinds, incident: (error) => incidents.push(error) });
  await computes.attach({ workspace, name: 'base', settings: host() }, admin);
  await settled(await computes.create({ workspace, name: 'made', settings: wanted({ cpus: 1 }) }, ada));
  await computes.scale({ workspace, target: 'made', settings: wanted({ cpus: 2 }) }, ada);
  await tending.round();
  expect(tended).toEqual(['made on base: 2']);
  refuses = new TargetError('later', 'It is away.');
  await tending.round();
  refuses = new Error('A fault of ours.');
  tending.start();
  await expect.poll(() => incidents).toEqual([refuses]);
  await tending.stop();
  refuses = undefined;
  await computes.delete({ workspace, target: 'made' }, ada);
  await tending.round();
  expect(tended).toHaveLength(1);
});

test('what cannot be made has failed, takes no runs, and can be deleted; a change that fails leaves it as it was', async () => {
  const computes = computesWith({ loopbackOnly: true });
  await computes.attach({ workspace, name: 'base', settings: host() }, admin);
  refuses = new TargetError('never', 'There is no room.');
  const begun = await computes.create({ workspace, name: 'made', settings: wanted() }, ada);
  expect(await settled(begun)).toMatchObject({ state: 'failed', error: { message: 'There is no room.' } });
  expect(await computes.get({ workspace, target: 'made' })).toMatchObject({
    state: 'failed',
    reason: 'There is no room.',
  });
  expect(await refusal(computes.require(workspace, 'made'))).toMatchObject({
    reason: 'compute.not-ready',
    message: expect.stringContaining('There is no room.'),
  });
  await computes.delete({ workspace, target: 'made' }, ada);
  refuses = undefined;
  await settled(await computes.create({ workspace, name: 'made', settings: wanted({ cpus: 1 }) }, ada));
  refuses = new TargetError('never', 'There is no room.');
  const refused = await refusal(computes.scale({ workspace, target: 'made', settings: wanted({ cpus: 9 }) }, ada));
  expect(refused.message).toBe('There is no room.');
  expect(await computes.get({ workspace, target: 'made' })).toMatchObject({
    state: 'usable',
    provisioning: { cpus: 1 },
  });
  expect(await computes.require(workspace, 'made')).toMatchObject({ target: { name: 'made' } });
});

test('what may come right is tried again, can be canceled, and nothing else changes the target meanwhile', async () => {
  const computes = computesWith({ loopbackOnly: true });
  await computes.attach({ workspace, name: 'base', settings: host() }, admin);
  refuses = new TargetError('later', 'Not now.');
  const begun = await computes.create({ workspace, name: 'made', settings: wanted() }, ada);
  await pause(300);
  expect(await computes.get({ workspace, target: 'made' })).toMatchObject({ state: 'creating' });
  expect((await refusal(computes.require(workspace, 'made'))).reason).toBe('compute.not-ready');
  expect((await refusal(computes.delete({ workspace, target: 'made' }, ada))).reason).toBe('compute.not-ready');
  await activities.cancel({ workspace, activity: begun.activity! }, ada);
  expect(await settled(begun)).toMatchObject({ state: 'canceled' });
  expect((await refusal(computes.get({ workspace, target: 'made' }))).reason).toBe('compute.not-found');
});
