import { randomUUID } from 'node:crypto';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RunCaller } from '../access/access.ts';
import { runTransactions } from './lifecycle.ts';
import { ada, bob, type RunRooms, runRooms, workspace } from './run-rooms.fixture.ts';

let rooms: RunRooms;
beforeAll(async () => {
  rooms = await runRooms();
});
afterAll(() => rooms[Symbol.asyncDispose]());

const script = { script: 'train.py', target: 'host' };
const local = { script: 'train.py' };
const get = (run: string) => rooms.runs.get({ workspace, run });
const report = (run: string, more: object = {}, caller: RunCaller | typeof ada = ada) =>
  rooms.runs.report({ workspace, run, attempt: 1, ...more }, caller);
const cancel = (run: string) => rooms.runs.cancel({ workspace, run }, ada);
const activityOf = async (run: string) => (await rooms.activities.list({ workspace, subject: run })).items[0]!;
const tokenOf = (run: string, attempt = 1): RunCaller => ({ kind: 'run', workspace, run, attempt, user: 'ada' });

async function refusal(act: Promise<unknown>): Promise<ServiceError> {
  const error = await act.then(
    () => undefined,
    (failed) => failed,
  );
  if (!(error instanceof ServiceError)) throw error ?? new Error('was not refused');
  return error;
}

test('what is submitted is recorded with its experiment, parameters and activity', async () => {
  const run = await rooms.submit(
    { ...script, arguments: ['--alpha', 0.1, '--verbose'] },
    { tags: { kind: 'ridge' }, parameters: { extra: 'x' }, git: { commit: 'abc', dirty: true } },
  );
  expect(run).toMatchObject({
    workspace,
    experiment: 'e',
    number: 1,
    state: 'queued',
    attempt: 0,
    interactive: false,
    target: 'host',
    queuePosition: 1,
    parameters: { alpha: 0.1, verbose: true, extra: 'x' },
    tags: { kind: 'ridge' },
    git: { commit: 'abc', dirty: true },
    user: 'ada',
    root: run.id,
    childCount: 0,
  });
  expect(await activityOf(run.id)).toMatchObject({ id: run.activity, kind: 'run', state: 'queued', createdBy: 'ada' });
  expect((await rooms.submit(script)).number).toBe(2);
});

test('the same id with the same content is the same run, with another content it is refused', async () => {
  const id = 'my run 7';
  const one = await rooms.submit(script, { id });
  expect(await rooms.submit(script, { id })).toEqual(one);
  expect((await refusal(rooms.submit({ ...script, arguments: ['-x'] }, { id }))).reason).toBe('run.id-taken');
  expect((await refusal(rooms.start({ experiment: 'e', id }))).reason).toBe('run.id-taken');
  expect((await refusal(rooms.submit(script, { id }, bob))).reason).toBe('run.id-taken');
  const started = await rooms.start({ experiment: 'e', id: 'i' });
  expect((await rooms.start({ experiment: 'e', id: 'i' })).createdAt).toBe(started.createdAt);
  const { items } = await rooms.activities.list({ workspace, subject: id });
  expect(items).toHaveLength(1);
});

test.each([
  ['script', { ...script, script: 'none.py' }, {}],
  ['script', { ...script, script: '../train.py' }, {}],
  ['environment.condaFile', { ...script, environment: { condaFile: 'none.yml' } }, {}],
  [
    'environment',
    { ...script, environment: { requirements: ['--index-url https://me:secret@index/simple', 'x'] } },
    {},
  ],
  ['framework', { ...script, framework: 'MPI' as const }, {}],
  ['resources.nodes', { ...script, resources: { nodes: 2 } }, {}],
  ['resources.cpus', { ...script, resources: { cpus: 1_000 } }, {}],
  ['resources.memory', { ...script, resources: { memory: '100TB' } }, {}],
  ['resources.gpus', { ...script, resources: { gpus: 3 } }, {}],
  ['resources.gpuType', { ...script, resources: { gpus: 1, gpuType: 'H100' } }, {}],

  ['vaultSecrets', { ...script, vaultSecrets: ['known', 'none'] }, {}],
  ['secrets', { ...script, secrets: ['KEY'] }, {}],
  ['secrets', { ...script }, { secrets: { KEY: 'x' } }],
  ['secrets', { ...script, secrets: ['KEY'], environmentVariables: { KEY: 'y' } }, { secrets: { KEY: 'x' } }],
  ['dataReferences.d.path', { ...script, dataReferences: { d: { path: 'a/../b' } } }, {}],
])('a configuration that is wrong at %s is refused', async (field, configuration, more) => {
  const error = await refusal(rooms.submit(configuration, more));
  const reason = field === 'environment.condaFile' ? 'environment.invalid' : 'run.configuration-invalid';
  expect(error).toMatchObject({ reason, details: { field } });
});

test('secrets reach the job and enter no record, and are gone after the end', async () => {
  const run = await rooms.submit({ ...local, secrets: ['KEY'] }, { secrets: { KEY: 'hush-hush' } });
  expect(JSON.stringify([run, await get(run.id), await activityOf(run.id)])).not.toContain('hush-hush');
  const job = await rooms.runs.getJob({ workspace, run: run.id }, ada);
  expect(job).toMatchObject({ secrets: { KEY: 'hush-hush' }, attempt: 1, run: run.id, server: 'http://elsewhere' });
  await report(run.id, { state: 'completed', exitCode: 0 });
  const rows = await rooms.scratch.db.all<{ secrets: string | null }>({
    compile: () => ({
      sql: 'SELECT secrets FROM run_private WHERE run_key = (SELECT key FROM run WHERE id = ?)',
      parameters: [run.id],
    }),
  } as never);
  expect(rows).toEqual([{ secrets: null }]);
});

test('secrets of the vault that a run names reach its job and enter no record', async () => {
  const run = await rooms.submit({ ...local, vaultSecrets: ['known-one'] });
  const job = await rooms.runs.getJob({ workspace, run: run.id }, ada);
  const value = `value of known-one for the run ${run.id}`;
  expect(job.vaultSecrets).toEqual({ 'known-one': value });
  expect(JSON.stringify([run, await get(run.id), await activityOf(run.id)])).not.toContain(value);
});

test('a local run is taken up by its submitter only, moves on as its runner reports, and its activity with it', async () => {
  const { id } = await rooms.submit(local);
  expect((await refusal(report(id))).reason).toBe('run.move-refused');
  expect((await refusal(rooms.runs.getJob({ workspace, run: id }, bob))).reason).toBe('compute.not-yours');
  await rooms.runs.getJob({ workspace, run: id }, ada);
  expect(await report(id, { state: 'running', host: 'laptop', progress: 'Epoch 1' })).toEqual({
    state: 'running',
    cancelRequested: false,
    leaseSeconds: 30,
  });
  expect(await activityOf(id)).toMatchObject({ state: 'running', progress: { message: 'Epoch 1' } });
  await report(id, { state: 'finalizing' });
  expect((await refusal(report(id, { state: 'running' }))).reason).toBe('run.move-refused');
  await report(id, { state: 'failed', exitCode: 3, lastLines: ['oh'], reason: 'The script ended with exit code 3.' });
  expect(await get(id)).toMatchObject({
    state: 'failed',
    exitCode: 3,
    lastLines: ['oh'],
    reason: 'The script ended with exit code 3.',
    host: 'laptop',
  });
  expect((await get(id)).durationMs).toBeGreaterThanOrEqual(0);
  expect(await activityOf(id)).toMatchObject({
    state: 'failed',
    error: { message: 'The script ended with exit code 3.' },
  });
  expect(await report(id, { state: 'completed' })).toMatchObject({ state: 'failed' });
});

test('a newer attempt fences the older one off, whatever it writes', async () => {
  const { id } = await rooms.submit(local);
  await rooms.runs.getJob({ workspace, run: id }, ada);
  await rooms.runs.getJob({ workspace, run: id }, ada);
  const digest = await rooms.upload('x');
  const old = tokenOf(id);
  const acts = [
    () => report(id),
    () => report(id, { attempt: 2 }, old),
    () => rooms.append(id, [['m', 'x', 1, null, 1]], 0, old),
    () => rooms.runs.putFile({ workspace, run: id, path: 'outputs/x', digest }, old),
    () => rooms.runs.update({ workspace, run: id, tags: { a: 'b' } }, old),
    () => rooms.runs.fence({ workspace, run: id, attempt: 1 }, ada),
    () => rooms.start({ experiment: 'e', parent: id }, old),
  ];
  for (const act of acts) expect((await refusal(act())).reason).toBe('run.attempt-superseded');
  await report(id, { attempt: 2, state: 'running' }, tokenOf(id, 2));
});

test('an attempt is on until the run ends or another attempt follows', async () => {
  const { id } = await rooms.submit({ script: 'train.py' });
  const isOn = (attempt: number) => rooms.runs.isOn({ workspace, run: id, attempt });
  await rooms.runs.getJob({ workspace, run: id }, ada);
  const { attempt } = await rooms.runs.get({ workspace, run: id });
  expect([await isOn(attempt!), await isOn(attempt! - 1), await isOn(attempt! + 1)]).toEqual([true, false, false]);
  await rooms.runs.report({ workspace, run: id, attempt: attempt!, state: 'running' }, ada);
  await rooms.runs.report({ workspace, run: id, attempt: attempt!, state: 'completed' }, ada);
  expect(await isOn(attempt!)).toBe(false);
  expect(await rooms.runs.isOn({ workspace, run: 'absent', attempt: 1 })).toBe(false);
});

test('a run that is not heard of for longer than its lease is lost, with its children, and comes back with them', async () => {
  const { id } = await rooms.start({ experiment: 'e' });
  const child = await rooms.start({ experiment: 'e', parent: id });
  rooms.pass(29_000);
  await rooms.leases.sweep();
  await report(id);
  rooms.pass(29_000);
  await rooms.leases.sweep();
  expect((await get(id)).state).toBe('running');
  rooms.pass(2_000);
  await rooms.leases.sweep();
  expect(await get(id)).toMatchObject({ state: 'lost', reason: 'Nothing was heard from its runner for 31 seconds.' });
  expect((await get(child.id)).state).toBe('lost');
  expect(await report(id)).toMatchObject({ state: 'running' });
  expect((await get(id)).reason).toBeUndefined();
  expect((await get(child.id)).state).toBe('running');
  rooms.pass(31_000);
  await rooms.leases.sweep();
  await report(id, { state: 'completed' });
  expect((await get(id)).state).toBe('completed');
});

test('after a restart of the server every lease begins anew', async () => {
  const { id } = await rooms.start({ experiment: 'e' });
  rooms.pass(20_000);
  await rooms.leases.start();
  rooms.pass(20_000);
  await rooms.leases.sweep();
  expect((await get(id)).state).toBe('running');
  rooms.pass(11_000);
  await rooms.leases.sweep();
  expect((await get(id)).state).toBe('lost');
});

test('children of any depth are counted, found below their ancestors, and end with the process they live in', async () => {
  const root = await rooms.start({ experiment: 'e' });
  const child = await rooms.start({ experiment: 'e', parent: root.id }, tokenOf(root.id));
  const grandchild = await rooms.start({ experiment: 'e', parent: child.id });
  const other = await rooms.start({ experiment: 'e' });
  expect(await get(root.id)).toMatchObject({ childCount: 1 });
  expect(await get(grandchild.id)).toMatchObject({ parent: child.id, root: root.id });
  expect(await rooms.runs.within(workspace, root.id, grandchild.id)).toBe(true);
  expect(await rooms.runs.within(workspace, root.id, root.id)).toBe(true);
  expect(await rooms.runs.within(workspace, grandchild.id, root.id)).toBe(false);
  expect(await rooms.runs.within(workspace, root.id, other.id)).toBe(false);
  expect(await rooms.runs.within(workspace, root.id, 'none')).toBe(false);
  await rooms.append(child.id, [['state', 'completed']]);
  await report(root.id, { state: 'failed', reason: 'Out of memory.' });
  expect((await get(child.id)).state).toBe('completed');
  expect(await get(grandchild.id)).toMatchObject({ state: 'failed' });
  expect((await get(grandchild.id)).reason).toContain(root.id);
  expect((await refusal(rooms.start({ experiment: 'e', parent: 'none' }))).reason).toBe('run.parent-invalid');
});

test('cancelling a waiting run ends it at once; a running one is asked, and its children end with it', async () => {
  const waiting = await rooms.submit(script);
  await cancel(waiting.id);
  expect(await get(waiting.id)).toMatchObject({ state: 'canceled', reason: 'Canceled by ada.' });
  expect((await activityOf(waiting.id)).state).toBe('canceled');
  const { id } = await rooms.start({ experiment: 'e' });
  const child = await rooms.start({ experiment: 'e', parent: id });
  await cancel(id);
  expect(await report(id)).toMatchObject({ state: 'running', cancelRequested: true });
  expect((await get(child.id)).state).toBe('running');
  await report(id, { state: 'canceled' });
  expect(await get(id)).toMatchObject({ state: 'canceled', reason: 'Canceled by ada.' });
  expect((await get(child.id)).state).toBe('canceled');
  await cancel(id);
  const done = await rooms.start({ experiment: 'e' });
  await report(done.id, { state: 'completed' });
  expect((await refusal(cancel(done.id))).reason).toBe('run.move-refused');
});

test('a canceled run whose runner is never heard of again is canceled, not lost', async () => {
  const { id } = await rooms.start({ experiment: 'e' });
  await cancel(id);
  rooms.pass(31_000);
  await rooms.leases.sweep();
  expect((await get(id)).state).toBe('canceled');
  expect(await report(id)).toMatchObject({ state: 'canceled', cancelRequested: true });
});

test('an environment that cannot be resolved fails the run that is taken up, with the reason', async () => {
  rooms.onLock(async () => {
    throw new ServiceError('failed-precondition', 'environment.unresolvable', 'There is no such package.');
  });
  const { id } = await rooms.submit(local);
  expect((await refusal(rooms.runs.getJob({ workspace, run: id }, ada))).reason).toBe('environment.unresolvable');
  rooms.onLock(async () => {});
  expect(await get(id)).toMatchObject({ state: 'failed', reason: 'There is no such package.' });
});

test('half-way through its time a token is renewed, and only for the run that it is of', async () => {
  const { id } = await rooms.submit(local);
  await rooms.runs.getJob({ workspace, run: id }, ada);
  expect((await report(id, {}, tokenOf(id))).token).toBeUndefined();
  const { key } = await rooms.runs.placeOf(workspace, id);
  const inSixDays = Date.now() + 6 * 86_400_000;
  await rooms.scratch.db.transact(runTransactions.keep, { key, kept: { token_until: inSixDays } });
  expect((await report(id)).token).toBeUndefined();
  expect((await report(id, {}, tokenOf(id))).token).toMatch(/^swr_/);
  expect((await report(id, {}, tokenOf(id))).token).toBeUndefined();
});

test('tags change, properties are set once, names and descriptions are replaced', async () => {
  const { id } = await rooms.start({ experiment: 'e', tags: { a: '1', b: '2' } });
  const update = (more: object) => rooms.runs.update({ workspace, run: id, ...more }, ada);
  await update({ tags: { a: null, c: '3' }, properties: { p: '1' }, displayName: 'n', description: 'd' });
  expect(await update({ properties: { p: '1', q: '2' } })).toMatchObject({
    tags: { b: '2', c: '3' },
    properties: { p: '1', q: '2' },
    displayName: 'n',
    description: 'd',
  });
  expect((await refusal(update({ properties: { p: '2' } }))).reason).toBe('run.property-set');
  const many = Object.fromEntries(Array.from({ length: 51 }, (_, i) => [`t${i}`, 'x']));
  expect((await refusal(update({ tags: many }))).reason).toBe('request.invalid');
  expect(Object.keys((await get(id)).tags)).toHaveLength(2);
});

test('files are put, replaced, listed by folder, and their contents are referred to as long as they are there', async () => {
  const { id } = await rooms.start({ experiment: 'e' });
  const [one, two] = [await rooms.upload('one'), await rooms.upload('two')];
  const put = (path: string, digest: string) => rooms.runs.putFile({ workspace, run: id, path, digest }, ada);
  await put('outputs/a', one);
  await put('outputs/b/c', one);
  await put('outputs2', two);
  const list = async (prefix?: string) =>
    (await rooms.runs.listFiles({ workspace, run: id, prefix })).items.map(({ path }) => path);
  expect(await list()).toEqual(['outputs/a', 'outputs/b/c', 'outputs2']);
  expect(await list('outputs/')).toEqual(['outputs/a', 'outputs/b/c']);
  expect(await list('outputs2')).toEqual(['outputs2']);
  const references = async () =>
    (
      await rooms.scratch.db.all<{ digest: string }>({
        compile: () => ({ sql: 'SELECT digest FROM blob_ref WHERE owner_id = ? ORDER BY digest', parameters: [id] }),
      } as never)
    ).map(({ digest }) => digest);
  await put('outputs/a', two);
  expect(await references()).toEqual([one, two].sort());
  await put('outputs/b/c', two);
  expect(await references()).toEqual([two]);
  await put('outputs/line\r\nbreak\n', one);
  expect(await list('outputs/')).toEqual(['outputs/a', 'outputs/b/c', 'outputs/line\r\nbreak\n']);
  expect((await refusal(put('../x', one))).reason).toBe('path.invalid');
  expect((await refusal(put('a\0b', one))).reason).toBe('path.invalid');
  expect((await refusal(put('y', `sha256:${'1'.repeat(64)}`))).reason).toBe('blob.not-found');
  expect((await refusal(rooms.runs.getFile({ workspace, run: id, path: 'outputs' }, ada))).reason).toBe(
    'run.file-not-found',
  );
});

test("a run's token uses what the data references of its run name, in their way", async () => {
  const { id } = await rooms.submit({
    ...local,
    dataReferences: {
      input: { path: 'data/in' },
      output: { path: 'out', mode: 'upload' },
      other: { datastore: 'other' },
    },
  });
  const may = (datastore: string, path: string, way: 'read' | 'write') =>
    rooms.runs.mayUseDatastore(tokenOf(id), datastore, path, way);
  expect(await may('workspacestore', 'data/in', 'read')).toBe(true);
  expect(await may('workspacestore', 'data/in/x', 'read')).toBe(true);
  expect(await may('workspacestore', 'data/inside', 'read')).toBe(false);
  expect(await may('workspacestore', 'data', 'read')).toBe(false);
  expect(await may('workspacestore', 'data/in/x', 'write')).toBe(false);
  expect(await may('workspacestore', 'out/x', 'write')).toBe(true);
  expect(await may('workspacestore', 'out/x', 'read')).toBe(false);
  expect(await may('other', 'anything', 'read')).toBe(true);
  expect(await may('third', 'anything', 'read')).toBe(false);
});

test('a run that does not exist is not found', async () => {
  expect((await refusal(get(randomUUID()))).reason).toBe('run.not-found');
  expect(
    (await refusal(rooms.runs.get({ workspace: 'other', run: ((await rooms.start({ experiment: 'e' })) as Run).id })))
      .reason,
  ).toBe('run.not-found');
});
