import { ServiceError } from '@stellwerk/contract/errors.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { UserCaller } from '../access/access.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { migrations } from '../stores.ts';
import { type ComputeKinds, type ComputeNeeds, Computes, type Load } from './computes.ts';
import { localDriver } from './kinds/local/local.ts';
import { SparkDriver } from './kinds/spark/spark.ts';
import { SshDriver } from './kinds/ssh/ssh.ts';

const admin: UserCaller = { kind: 'user', user: 'root', administrator: true, tokenId: 't' };
const ada: UserCaller = { kind: 'user', user: 'ada', administrator: false, tokenId: 't' };
const workspace = 'w1';
const host = (user?: string) => ({ kind: 'host' as const, ...(user !== undefined && { user }) });

let scratch: ScratchDatabase;
let load: Map<string, Load>;
/** A host that keeps `good` apart, and no other user. */
const kinds: ComputeKinds = {
  local: localDriver,
  ssh: new SshDriver({} as never),
  spark: new SparkDriver({} as never),
  host: {
    kind: 'host',
    hostsServices: true,
    queue: () => 'host',
    reach: () => 'here',
    capacity: async () => ({ cpus: 3, memoryBytes: 8e9, gpus: [] }),
    async probe({ settings }) {
      const ok = settings.user === undefined || settings.user === 'good';
      return {
        usable: ok,
        findings: [{ what: 'isolation', ok, detail: ok ? 'Kept apart.' : 'It could read the data folder.' }],
      };
    },
  },
};
const computesWith = (more: Partial<ComputeNeeds>) =>
  new Computes({ db: scratch.db, now: Date.now, kinds, loopbackOnly: false, load: async () => load, ...more });

beforeEach(async () => {
  scratch = await scratchDatabase(migrations);
  load = new Map();
});
afterEach(() => scratch[Symbol.asyncDispose]());

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
  expect(await computes.get({ workspace, target: 'box' })).toMatchObject({ queued: 1, running: 2 });
  expect((await refusal(computes.detach({ workspace, target: 'box' }, admin))).reason).toBe('compute.in-use');
  load.clear();
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
