// Who may do what, as a user meets it: roles in workspaces over every verb and every stream, tokens that are limited, expire and are
// revoked, the audit log, and a run's token, taken from a real script, against everything that is not its own.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Client } from '@stellwerk/client/client.ts';
import { uploadFile } from '@stellwerk/client/uploads.ts';
import type { Role } from '@stellwerk/contract/access.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import type { Permission, Verb } from '@stellwerk/contract/verb.ts';
import { apiPrefix, eachVerb } from '@stellwerk/contract/verbs.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { pythonSignals, Signals } from './signals.ts';
import { submit } from './submission.ts';
import { until, untilEnded } from './waiting.ts';

const workspace = 'story';
const other = 'other';
let installation: Installation;
let run: Run;
/** One of each role, one who is Owner elsewhere only, and nobody. */
const clients = {} as Record<Role | 'outsider' | 'nobody', Client>;
const tokens = {} as Record<Role | 'outsider', string>;

const script = `${pythonSignals}
from stellwerk.core import Run

run = Run.get_context()
os.makedirs("outputs", exist_ok=True)
with open("outputs/model.txt", "w") as file:
    file.write("weights")
print("hello", flush=True)
with open(os.path.join(os.environ["STELLWERK_RUN_FOLDER"], "connection.json")) as file:
    tell("connection", file.read())
wait("go on")
`;

beforeAll(async () => {
  installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
  await installation.client.workspaces.create({ name: other });
  clients.nobody = installation.clientWith(undefined);
  const people = { owner: 'olga', contributor: 'carl', reader: 'rita', outsider: 'otto' } as const;
  for (const [role, user] of Object.entries(people) as [Role | 'outsider', string][]) {
    const { signIn } = await installation.client.users.create({ name: user });
    const { token } = await clients.nobody.signIns.redeem({ code: signIn!.code });
    tokens[role] = token;
    clients[role] = installation.clientWith(token);
    const member = role === 'outsider' ? { workspace: other, role: 'owner' as const } : { workspace, role };
    await installation.client.members.set({ ...member, user });
  }
  run = await clients.contributor.runs.start({ workspace, experiment: 'shared' });
  await clients.contributor.logs.append(
    { workspace, run: run.id, name: 'output.txt', offset: 0 },
    Buffer.from('one\n'),
  );
});
afterAll(() => installation[Symbol.asyncDispose]());

const allowed: Record<keyof typeof clients, readonly Permission[]> = {
  owner: ['public', 'signed-in', 'read', 'contribute', 'own'],
  contributor: ['public', 'signed-in', 'read', 'contribute'],
  reader: ['public', 'signed-in', 'read'],
  outsider: ['public', 'signed-in'],
  nobody: ['public'],
};

/** With an input that no room can do anything with: whoever may is told that. */
async function knock(verb: Verb, token: string | undefined): Promise<{ status: number; reason?: string }> {
  const path = verb.path.replace('{workspace}', workspace).replaceAll(/\{\w+\}/g, 'not-there');
  const response = await fetch(`${installation.url}${apiPrefix}${path}?nonsense=1`, {
    method: verb.method,
    headers: {
      'content-type': verb.transport === 'upload' ? 'application/octet-stream' : 'application/json',
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    ...(verb.method !== 'GET' && { body: '{"nonsense": 1}' }),
  });
  const { reason } = (await response.json()) as { reason?: string };
  return { status: response.status, ...(reason !== undefined && { reason }) };
}

const refusals = ['access.sign-in-needed', 'access.denied', 'access.administrator-needed', 'workspace.not-found'];

test('every verb is refused to whoever has no role that includes it, and to nobody else', async () => {
  const wrong: string[] = [];
  for (const who of Object.keys(allowed) as (keyof typeof clients)[]) {
    for (const { name, declaration } of eachVerb()) {
      const { reason } = await knock(declaration, who === 'nobody' ? undefined : tokens[who]);
      const isRefused = refusals.includes(reason ?? '');
      if (isRefused === allowed[who].includes(declaration.permission)) wrong.push(`${who} ${name}: ${reason}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('an Owner gives roles, a Contributor works, a Reader looks, and nobody else sees that there is something', async () => {
  const { owner, contributor, reader, outsider, nobody } = clients;
  await owner.members.set({ workspace, user: 'rita', role: 'reader' });
  await expect(contributor.members.set({ workspace, user: 'carl', role: 'owner' })).rejects.toMatchObject({
    reason: 'access.denied',
  });
  await expect(owner.users.list({})).rejects.toMatchObject({ reason: 'access.administrator-needed' });
  await expect(contributor.workspaces.delete({ workspace })).rejects.toMatchObject({ reason: 'access.denied' });
  await contributor.runs.update({ workspace, run: run.id, tags: { kind: 'shared' } });
  expect((await reader.runs.get({ workspace, run: run.id })).tags).toEqual({ kind: 'shared' });
  await expect(reader.runs.update({ workspace, run: run.id, tags: { kind: 'mine' } })).rejects.toMatchObject({
    reason: 'access.denied',
  });
  await expect(outsider.runs.get({ workspace, run: run.id })).rejects.toMatchObject({
    status: 404,
    reason: 'workspace.not-found',
  });
  await expect(nobody.runs.get({ workspace, run: run.id })).rejects.toMatchObject({ status: 401 });
  expect((await outsider.workspaces.list({})).items.map(({ name }) => name)).toEqual([other]);
  // What is in one workspace is not to be had through another, by whatever id.
  await expect(outsider.runs.get({ workspace: other, run: run.id })).rejects.toMatchObject({ reason: 'run.not-found' });
  const { digest } = await uploadFile(contributor, workspace, Buffer.from(`secret ${randomUUID()}`));
  await expect(
    outsider.datastores.putFile({ workspace: other, datastore: 'workspacestore', path: 'stolen', digest }),
  ).rejects.toMatchObject({ reason: 'blob.not-found' });
});

test('the local computer belongs to its user: nobody else takes up what was submitted there', async () => {
  const { contributor, owner, reader } = clients;
  const content = 'print("mine")\n';
  const { digest } = await uploadFile(contributor, workspace, Buffer.from(content));
  const files = [{ path: 'main.py', digest, sizeBytes: content.length }];
  const snapshot = await contributor.snapshots.create({ workspace, files });
  const local = { script: 'main.py', target: 'local', environment: { userManaged: true } };
  const mine = { workspace, experiment: 'mine', configuration: local, snapshot: snapshot.digest };
  const submitted = await contributor.runs.submit(mine);
  const taken = { workspace, run: submitted.id };
  await expect(owner.runs.getJob(taken)).rejects.toMatchObject({ reason: 'compute.not-yours' });
  await expect(reader.runs.getJob(taken)).rejects.toMatchObject({ reason: 'access.denied' });
  const job = await contributor.runs.getJob(taken);
  expect(job).toMatchObject({ run: submitted.id, attempt: 1 });
  expect((await reader.runs.get(taken)).state).toBe('preparing');
  expect(JSON.stringify(await reader.runs.get(taken))).not.toContain(job.token);
  await owner.runs.cancel(taken);
  await installation.clientWith(job.token).runs.report({ ...taken, attempt: 1, state: 'canceled' });
});

test('streams are for those who may read, and end when the role is taken away', async () => {
  const { reader, outsider, nobody } = clients;
  for (const [client, status] of [
    [outsider, 404],
    [nobody, 401],
  ] as const) {
    await expect(client.logs.get({ workspace, run: run.id, follow: true })).rejects.toMatchObject({ status });
    await expect(client.activities.watch({ workspace }).next()).rejects.toMatchObject({ status });
    await expect(client.activities.getLog({ workspace, activity: 'x', follow: true })).rejects.toMatchObject({
      status,
    });
  }
  const response = await reader.logs.get({ workspace, run: run.id, follow: true });
  const events = await fetch(`${installation.url}${apiPrefix}/workspaces/${workspace}/activity-events`, {
    headers: { authorization: `Bearer ${tokens.reader}` },
  });
  let heard = '';
  const ended = [
    (async () => {
      for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) heard += Buffer.from(part);
    })().catch(() => {}),
    events.text().catch(() => {}),
  ];
  await until('the first line has come', () => heard === 'one\n');
  await clients.owner.members.remove({ workspace, user: 'rita' });
  await Promise.all(ended);
  const line = Buffer.from('two\n');
  await clients.contributor.logs.append({ workspace, run: run.id, name: 'output.txt', offset: 4 }, line);
  expect(heard).toBe('one\n');
  await clients.owner.members.set({ workspace, user: 'rita', role: 'reader' });
  expect(await (await reader.logs.get({ workspace, run: run.id })).text()).toBe('one\ntwo\n');
});

test('tokens are limited to a workspace and a role, expire, and are revoked; a service principal works with one; the audit log tells', async () => {
  const { owner } = clients;
  const limited = await owner.tokens.create({ name: 'for a script', workspace, role: 'reader' });
  const withLimited = installation.clientWith(limited.token);
  expect((await withLimited.runs.get({ workspace, run: run.id })).id).toBe(run.id);
  await expect(withLimited.runs.cancel({ workspace, run: run.id })).rejects.toMatchObject({ reason: 'access.denied' });
  const { record } = await withLimited.tokens.create({ name: 'more' });
  expect(record).toMatchObject({ workspace, role: 'reader' }); // no more than itself
  const brief = await owner.tokens.create({ name: 'brief', expiresInDays: 0.0001 });
  const withBrief = installation.clientWith(brief.token);
  expect((await withBrief.me.get()).user.name).toBe('olga');
  await owner.tokens.revoke({ token: limited.record.id });
  await expect(withLimited.me.get()).rejects.toMatchObject({ reason: 'access.token-invalid' });
  await until('the brief token has expired', async () => {
    const reason = await withBrief.me.get().then(
      () => '',
      (error) => error.reason,
    );
    return reason === 'access.token-invalid';
  });

  await installation.client.users.create({ name: 'robot', kind: 'service-principal' });
  await owner.members.set({ workspace, user: 'robot', role: 'contributor' });
  const { token } = await installation.client.tokens.create({ name: 'ci', user: 'robot' });
  const robot = installation.clientWith(token);
  await robot.experiments.create({ workspace, name: 'by a robot' });
  const { items } = await owner.audit.listWorkspace({ workspace, actor: 'robot' });
  expect(items).toMatchObject([{ actor: 'robot', verb: 'experiments.create', subject: 'by a robot', outcome: 'done' }]);
  const refused = await installation.client.audit.list({ actor: 'rita', verb: 'runs.update' });
  expect(refused.items[0]).toMatchObject({ subject: run.id, outcome: 'refused', reason: 'access.denied' });
  await installation.client.users.update({ user: 'robot', disabled: true });
  await expect(robot.me.get()).rejects.toMatchObject({ reason: 'access.token-invalid' });
});

test("a run's token writes to its run and descendants, registers models from them, reads what its configuration names, and nothing else", async () => {
  const admin = installation.client;
  for (const path of ['inputs/a.txt', 'inputsecret.txt', 'results/there.txt']) {
    const { digest } = await uploadFile(admin, workspace, Buffer.from(path));
    await admin.datastores.putFile({ workspace, datastore: 'workspacestore', path, digest });
  }
  const signals = new Signals(installation.folder);
  const submitted = await submit(installation, {
    code: script,
    environment: { userManaged: true },
    environmentVariables: signals.environmentVariables,
    dataReferences: {
      INPUTS: { path: 'inputs', mode: 'download' },
      RESULTS: { path: 'results', mode: 'upload' },
    },
  });
  const { token } = JSON.parse(readFileSync(await signals.heard('connection'), 'utf8')) as { token: string };
  const mine = { workspace, run: submitted.id };
  const client = installation.clientWith(token);

  // Its own.
  expect((await client.runs.get(mine)).id).toBe(submitted.id);
  await client.runs.update({ ...mine, tags: { by: 'itself' } });
  const child = await client.runs.start({ workspace, experiment: submitted.experiment, parent: submitted.id });
  const grandchild = await client.runs.start({ workspace, experiment: submitted.experiment, parent: child.id });
  const below = { workspace, run: grandchild.id };
  await client.journals.append({ ...below, journal: 'j', offset: 0 }, '["m","loss",1,0,1700000000.5]\n');
  const { digest } = await uploadFile(client, workspace, Buffer.from('weights'));
  await client.runs.putFile({ ...below, path: 'outputs/model.txt', digest });
  const model = await client.models.register({ workspace, name: 'm', run: grandchild.id, path: 'outputs/model.txt' });
  expect(model).toMatchObject({ id: 'm:1', run: grandchild.id, createdBy: 'admin' });
  expect((await client.snapshots.listFiles({ workspace, snapshot: submitted.snapshot! })).items.length).toBeGreaterThan(
    0,
  );
  const inputs = { workspace, datastore: 'workspacestore' };
  expect(await (await client.datastores.getFile({ ...inputs, path: 'inputs/a.txt' })).text()).toBe('inputs/a.txt');
  await client.datastores.putFile({ ...inputs, path: 'results/new.txt', digest });

  // Not its own.
  const foreign = { workspace, run: run.id };
  const elsewhere = await submit(installation, { code: 'print("another")', environment: { userManaged: true } });
  const { digest: unnamed } = await uploadFile(
    admin,
    workspace,
    Buffer.from(`only of the administrator ${randomUUID()}`),
  );
  const denied: Record<string, () => Promise<unknown>> = {
    'another run': () => client.runs.get(foreign),
    'tags of another run': () => client.runs.update({ ...foreign, tags: { by: 'a stranger' } }),
    'cancelling another run': () => client.runs.cancel(foreign),
    'reports of another run': () => client.runs.report({ ...foreign, attempt: 1, state: 'completed' }),
    'the log of another run': () => client.logs.get(foreign),
    'lines in the log of another run': () => client.logs.append({ ...foreign, name: 'output.txt', offset: 0 }, 'x'),
    'the journal of another run': () =>
      client.journals.append({ ...foreign, journal: 'j', offset: 0 }, '["name","x"]\n'),
    'metrics of another run': () => client.metrics.list(foreign),
    'files of another run': () => client.runs.listFiles(foreign),
    'a run without parent': () => client.runs.start({ workspace, experiment: 'shared' }),
    'a child of another run': () => client.runs.start({ workspace, experiment: 'shared', parent: run.id }),
    submitting: () =>
      client.runs.submit({
        workspace,
        experiment: 'shared',
        configuration: { script: 'main.py' },
        snapshot: submitted.snapshot!,
      }),
    queries: () => client.runs.query({ workspace }),
    'a model of another run': () => client.models.register({ workspace, name: 'm', run: run.id, path: 'output.txt' }),
    'a model from outside': () =>
      client.models.register({ workspace, name: 'm', files: [{ path: 'x', digest: unnamed }] }),
    'the bytes of a model': () => client.models.download({ workspace, name: 'm', version: '1' }),
    aliases: () => client.models.setAlias({ workspace, name: 'm', alias: 'champion', version: 1 }),
    'another snapshot': () => client.snapshots.listFiles({ workspace, snapshot: elsewhere.snapshot! }),
    'a path that is not named': () => client.datastores.getFile({ ...inputs, path: 'inputsecret.txt' }),
    'the list of all files': () => client.datastores.listFiles(inputs),
    'reading where it uploads': () => client.datastores.getFile({ ...inputs, path: 'results/there.txt' }),
    'writing its inputs': () => client.datastores.putFile({ ...inputs, path: 'inputs/a.txt', digest, overwrite: true }),
    'deleting files': () => client.datastores.deleteFiles({ ...inputs, path: 'results/there.txt' }),
    users: () => client.users.list({}),
    tokens: () => client.tokens.create({ name: 'for later' }),
    'its list of tokens': () => client.tokens.list({}),
    'who it is': () => client.me.get(),
    members: () => client.members.list({ workspace }),
    'package indexes and their credentials': () => client.packageIndexes.get(),
    'keys of services': () => client.services.getKeys({ workspace, service: 'any-service' }),
    workspaces: () => client.workspaces.list({}),
    activities: () => client.activities.watch({ workspace }).next(),
    'its own run under another workspace': () => client.runs.get({ workspace: other, run: submitted.id }),
  };
  const notBrought: Record<string, () => Promise<unknown>> = {
    'a model of a content whose digest it knows': () =>
      client.models.register({ workspace, name: 'm', run: submitted.id, files: [{ path: 'x', digest: unnamed }] }),
    'a file': () => client.runs.putFile({ ...mine, path: 'outputs/x', digest: unnamed }),
    'the same by its journal': () =>
      client.journals.append(
        { ...mine, journal: 'k', offset: 0 },
        `${JSON.stringify(['file', 'outputs/x', unnamed, 1])}\n`,
      ),
    'the same on a datastore': () => client.datastores.putFile({ ...inputs, path: 'results/x', digest: unnamed }),
    'whether a content is there': () => client.blobs.get({ workspace, digest: unnamed }),
  };
  for (const [what, act] of Object.entries(notBrought))
    await expect(act(), what).rejects.toMatchObject({ reason: 'blob.not-found' });
  const outcomes: Record<string, string> = {};
  for (const [what, act] of Object.entries(denied))
    outcomes[what] = await act().then(
      () => 'was done',
      (error) => `${error.status}`,
    );
  expect(outcomes).toEqual(Object.fromEntries(Object.keys(denied).map((what) => [what, '403'])));

  for (const { name, declaration } of eachVerb()) {
    if (declaration.runToken !== undefined || declaration.permission === 'public') continue;
    expect(await knock(declaration, token), name).toMatchObject({ status: 403, reason: 'access.run-token-scope' });
  }
  signals.tell('go on');
  expect(await untilEnded({ client: admin, ...mine })).toMatchObject({ state: 'completed', tags: { by: 'itself' } });
});
