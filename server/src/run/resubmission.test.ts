import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, InputOf } from '@stellwerk/contract/verbs.ts';
import { verbs } from '@stellwerk/contract/verbs.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ada, bob, type RunRooms, runRooms, workspace } from './run-rooms.fixture.ts';

let rooms: RunRooms;
beforeAll(async () => {
  rooms = await runRooms();
});
afterAll(() => rooms[Symbol.asyncDispose]());

const script = { script: 'train.py', target: 'local', environment: { requirementsFile: 'requirements.txt' } };
const again = (run: string, more: Partial<InputOf<'runs', 'resubmit'>> = {}, caller = ada) =>
  rooms.runs.resubmit(
    verbs.runs.resubmit.input.parse({ workspace, run, ...more }) as CheckedOf<'runs', 'resubmit'>,
    caller,
  );
async function refusal(act: Promise<unknown>): Promise<ServiceError> {
  const error = await act.then(
    () => undefined,
    (failed) => failed,
  );
  if (!(error instanceof ServiceError)) throw error ?? new Error('was not refused');
  return error;
}

test('a run is done again from its snapshot, configuration and tags, and both know of each other', async () => {
  const first = await rooms.submit(
    { ...script, arguments: ['--alpha', 0.1, '--verbose'] },
    { id: 'first', tags: { kind: 'ridge' }, properties: { made: 'once' }, git: { commit: 'abc', dirty: true } },
  );
  const second = await again('first', { set: { alpha: 0.5 }, tags: { try: '2' } });
  expect(second).toMatchObject({
    resubmittedFrom: 'first',
    experiment: 'e',
    number: first.number + 1,
    snapshot: first.snapshot,
    parameters: { alpha: 0.5, verbose: true },
    tags: { kind: 'ridge', try: '2' },
    properties: {},
    git: { commit: 'abc', dirty: true },
    state: 'queued',
  });
  expect(second.configuration).toEqual({ ...first.configuration, arguments: ['--alpha', 0.5, '--verbose'] });
  expect(second.differences).toEqual([
    'The argument alpha is 0.5; it was 0.1.',
    'The environment of the first run was never resolved; it is resolved now.',
  ]);
  const { items } = await rooms.runs.query({
    workspace,
    filter: "resubmittedFrom = 'first'",
    columns: ['differences'],
  });
  expect(items.map(({ id }) => id)).toEqual([second.id]);
  expect(items[0]!.differences).toEqual(second.differences);
});

test('its environment is that of the first run, without being resolved again', async () => {
  await rooms.submit(script, { id: 'resolved' });
  let locks = 0;
  rooms.onLock(async () => void locks++);
  const plan = (await rooms.runs.getJob({ workspace, run: 'resolved' }, ada)).environment;
  const second = await again('resolved');
  expect(second.differences).toEqual([]);
  expect(second.environment).toEqual((await rooms.runs.get({ workspace, run: 'resolved' })).environment);
  expect((await rooms.runs.getJob({ workspace, run: second.id }, ada)).environment).toEqual(plan);
  expect(locks).toBe(1);
});

test('what could not be held equal is listed', async () => {
  await rooms.submit(
    {
      ...script,
      environment: { userManaged: true, interpreterPath: '/opt/python' },
      secrets: ['KEY'],
      dataReferences: { train: { path: 'a.csv' }, out: { mode: 'upload', datastore: 'store' } },
    },
    { id: 'rich', secrets: { KEY: 'v' }, parent: 'first', parameters: { extra: 1 } },
  );
  const second = await again('rich', { secrets: { KEY: 'w' }, target: 'host', experiment: 'other' }, bob);
  expect(second).toMatchObject({ experiment: 'other', target: 'host', user: 'bob' });
  expect(second.parent).toBeUndefined();
  expect(second.differences).toEqual([
    'It runs on the compute target host; the first run ran on local.',
    'It is filed under the experiment other; the first run under e.',
    'The Python that is there (/opt/python) is used as it is: which packages it had is not recorded.',
    'The data reference train (a.csv of the default datastore) is read again: what it held then is not recorded, and may have changed.',
    'The data reference out (all of store) is written again, where the first run has written.',
    'The values of the secrets KEY were given anew: those of the first run are not kept.',
    'The parameters extra do not come from arguments: they are there if the script sets them again.',
    'It has no parent; the first run is a child of first.',
    'It runs for bob; the first run ran for ada.',
  ]);
});

test('another machine and another Python are added to the list once they are known', async () => {
  for (const id of ['there', 'elsewhere']) {
    if (id === 'there') await rooms.submit(script, { id });
    else await again('there', { id });
    await rooms.runs.getJob({ workspace, run: id }, ada);
    const report = {
      workspace,
      run: id,
      attempt: 1,
      host: `machine of ${id}`,
      python: id === 'there' ? '3.11.2' : '3.11.9',
    };
    await rooms.runs.report({ ...report, state: 'running' }, ada);
    await rooms.runs.report({ ...report, state: 'running' }, ada);
  }
  expect((await rooms.runs.get({ workspace, run: 'elsewhere' })).differences).toEqual([
    'It runs on the machine machine of elsewhere; the first run ran on machine of there.',
    'It runs with Python 3.11.9; the first run ran with 3.11.2.',
  ]);
});

test('the same id with the same wishes is the same run, with others it is refused', async () => {
  const one = await again('first', { id: 'again', set: { alpha: 2 } });
  expect(await again('first', { id: 'again', set: { alpha: 2 } })).toEqual(one);
  expect((await refusal(again('first', { id: 'again', set: { alpha: 3 } }))).reason).toBe('run.id-taken');
});

test('what cannot be done again is refused with what to do', async () => {
  const unknown = await refusal(again('first', { set: { beta: 1 } }));
  expect(unknown.reason).toBe('run.argument-unknown');
  expect(unknown.message).toContain('no argument "beta"; it has alpha, verbose');
  await rooms.start({ id: 'notebook', experiment: 'e' });
  const interactive = await refusal(again('notebook'));
  expect(interactive.reason).toBe('run.not-submitted');
  expect(interactive.hint).toContain('Submit a script');
  const secret = await refusal(again('rich'));
  expect(secret.reason).toBe('run.configuration-invalid');
  expect(secret.message).toContain('no value was given for KEY');
  expect((await refusal(again('none'))).reason).toBe('run.not-found');
});
