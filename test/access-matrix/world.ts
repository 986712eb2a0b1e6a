// A server in this process, whose router can be asked what it has, and in it one of everything that an address can name.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, createClient } from '@stellwerk/client/client.ts';
import { uploadSnapshot } from '@stellwerk/client/snapshots.ts';
import { uploadFile } from '@stellwerk/client/uploads.ts';
import type { Role } from '@stellwerk/contract/access.ts';
import { endStates } from '@stellwerk/contract/run-state.ts';
import { type RunningServer, startServer } from '@stellwerk/server/main.ts';
import { until } from '../waiting.ts';
import { workFolder } from '../work-folder.ts';

export const workspace = 'story';
export const other = 'other';

/** Whoever knocks. `limited`: an administrator's token for at most a Reader in this workspace. */
export const people = [
  'nobody',
  'reader',
  'contributor',
  'owner',
  'outsider',
  'administrator',
  'limited',
  'expired',
  'revoked',
  'run',
  'otherRun',
] as const;
export type Person = (typeof people)[number];

export interface World extends AsyncDisposable {
  server: RunningServer;
  admin: Client;
  clientOf(person: Person): Client;
  tokens: Record<Person, string | undefined>;
  /** Gives each of the three roles in a workspace. */
  furnish(name: string): Promise<void>;
  /** A run on the local computer of the Contributor, not yet taken up. */
  localRun(): Promise<string>;
  run: string;
  snapshot: string;
  digest: string;
  activity: string;
  folder: string;
}

const roles: readonly Role[] = ['reader', 'contributor', 'owner'];

export async function createWorld(): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'stellwerk-story-'));
  const server = await startServer({ data: join(folder, 'data'), port: 0, servicesPort: 0 });
  const clientWith = (token: string | undefined) => createClient({ url: server.url, token, retries: 0 });
  const stranger = clientWith(undefined);
  /** A token that was made, since setting a password ends those of signing in. */
  const redeem = async (code: string) => {
    const { token } = await stranger.signIns.redeem({ code });
    return (await clientWith(token).tokens.create({ name: 'story' })).token;
  };
  const administrator = await redeem(server.signIn!.code);
  const admin = clientWith(administrator);
  for (const name of [workspace, other]) await admin.workspaces.create({ name });

  const tokens = { administrator } as World['tokens'];
  for (const name of [...roles, 'outsider'] as const) {
    const { signIn } = await admin.users.create({ name });
    tokens[name] = await redeem(signIn!.code);
  }
  const furnish = async (name: string) => {
    for (const role of roles) await admin.members.set({ workspace: name, user: role, role });
  };
  await furnish(workspace);
  await admin.members.set({ workspace: other, user: 'outsider', role: 'owner' });
  const contributor = clientWith(tokens.contributor);
  tokens.expired = (await contributor.tokens.create({ name: 'brief', expiresInDays: 0.0001 })).token;
  const revoked = await contributor.tokens.create({ name: 'revoked' });
  await contributor.tokens.revoke({ token: revoked.record.id });
  tokens.revoked = revoked.token;
  tokens.limited = (await admin.tokens.create({ name: 'limited', workspace, role: 'reader' })).token;

  const put = async (path: string, content: string) => {
    const { digest } = await uploadFile(admin, workspace, Buffer.from(content));
    await admin.datastores.putFile({ workspace, datastore: 'workspacestore', path, digest });
    return digest;
  };
  const digest = await put('in/a.txt', 'a');
  await put('b.txt', 'b');
  const snapshotOf = async (script: string) =>
    (await uploadSnapshot(contributor, workspace, workFolder(folder, { 'main.py': script }))).digest;
  const snapshot = await snapshotOf('print(1)');
  const another = await snapshotOf('print(2)');
  const submitted = async (of: string, dataReferences = {}) =>
    (
      await contributor.runs.submit({
        workspace,
        experiment: 'shared',
        snapshot: of,
        configuration: { script: 'main.py', target: 'local', environment: { userManaged: true }, dataReferences },
      })
    ).id;
  const job = async (run: string) => (await contributor.runs.getJob({ workspace, run })).token;
  const run = await submitted(snapshot, { IN: { path: 'in' }, OUT: { path: 'out', mode: 'upload' } });
  tokens.run = await job(run);
  await uploadFile(clientWith(tokens.run), workspace, Buffer.from('a')); // its own to use only then
  tokens.otherRun = await job(await submitted(another));
  await contributor.logs.append({ workspace, run, name: 'output.txt', offset: 0 }, 'one\n');
  await contributor.journals.append({ workspace, run, journal: 'main', offset: 0 }, '["m","loss",1,0,1700000000]\n');
  await contributor.runs.putFile({ workspace, run, path: 'outputs/a.txt', digest });
  await admin.models.register({ workspace, name: 'model', run, path: 'outputs/a.txt' });
  await admin.models.setAlias({ workspace, name: 'model', alias: 'best', version: 1 });
  await admin.compute.attach({ workspace, name: 'second', settings: { kind: 'host' } });

  const activity = await service(admin);
  await until('the brief token has expired', () =>
    clientWith(tokens.expired)
      .me.get()
      .then(
        () => false,
        () => true,
      ),
  );
  return {
    server,
    admin,
    tokens,
    clientOf: (person) => clientWith(tokens[person]),
    furnish,
    localRun: () => submitted(snapshot),
    run,
    snapshot,
    digest,
    activity,
    folder,
    [Symbol.asyncDispose]: async () => {
      await end(admin);
      await server.stop();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** A web service that asks for keys and one that does not; gives the activity that built their image. */
async function service(admin: Client): Promise<string> {
  const script = 'def init():\n    pass\n\ndef run(data):\n    return {"said": data}\n';
  const { digest } = await uploadFile(admin, workspace, Buffer.from(script));
  const files = [{ path: 'score.py', digest }];
  const image = await admin.images.create({ workspace, name: 'image', scoringScript: 'score.py', files });
  const version = String(image.version);
  await until('the image has been built', async () => {
    const { state } = await admin.images.get({ workspace, name: 'image', version });
    if (state === 'failed') throw new Error('the image failed');
    return state === 'succeeded';
  });
  const names = [
    ['with-keys', 'key'],
    ['second-keys', 'key'],
    ['open', 'none'],
  ] as const;
  for (const [name, authentication] of names)
    await admin.services.deploy({ workspace, name, image: 'image:1', authentication });
  for (const [name] of names)
    await until(
      `${name} is healthy`,
      async () => (await admin.services.get({ workspace, service: name })).state === 'healthy',
    );
  return image.activity;
}

async function end(admin: Client): Promise<void> {
  for (const { name } of (await admin.workspaces.list({})).items) {
    for (const { id, state } of (await admin.runs.query({ workspace: name, pageSize: 1_000 })).items)
      if (!endStates.includes(state)) await admin.runs.cancel({ workspace: name, run: id }).catch(() => {});
    const services = async () => (await admin.services.list({ workspace: name })).items;
    for (const { name: one } of await services()) await admin.services.delete({ workspace: name, service: one });
    await until('the web services are gone', async () => (await services()).length === 0);
  }
}
