// For each verb a request about things that are there, which whoever may call it gets done. What is used up is made anew for each.
import { createHash, randomUUID } from 'node:crypto';
import { createClient } from '@stellwerk/client/client.ts';
import type { Noun, VerbOf } from '@stellwerk/contract/verbs.ts';
import { until } from '../waiting.ts';
import { other, type Person, type World, workspace } from './world.ts';

export interface Asking {
  input: Record<string, unknown>;
  body?: string | Buffer;
  /** In place of the caller's own, where the call uses it up. */
  token?: string;
}

type Maker = (world: World, who: Person, fresh: string) => Asking | Promise<Asking>;
const w = { workspace };
const only =
  (input: (world: World, fresh: string) => Record<string, unknown>): Maker =>
  (world, _who, fresh) => ({ input: input(world, fresh) });
const fixed = (input: Record<string, unknown>): Maker => only(() => input);
const ofRun = (more: Record<string, unknown> = {}) => only(({ run }) => ({ ...w, run, ...more }));
const ofSnapshot = (more: Record<string, unknown> = {}) => only(({ snapshot }) => ({ ...w, snapshot, ...more }));
const model = { ...w, name: 'model', version: 'latest' };
const image = { ...w, name: 'image', version: '1' };
const service = { ...w, service: 'with-keys' };
const store = { ...w, datastore: 'workspacestore' };
const target = { ...w, target: 'second' };
const host = { kind: 'host' };
const emptyZip = Buffer.concat([Buffer.from('PK\x05\x06'), Buffer.alloc(18)]);

/** Signed in as the caller, so that something of the caller's can be used up. */
async function own(world: World, who: Person): Promise<{ id: string; token: string } | undefined> {
  if (['nobody', 'expired', 'revoked', 'run', 'otherRun'].includes(who)) return undefined;
  const { token, record } = await world.clientOf(who).tokens.create({ name: 'to be used up' });
  return { id: record.id, token };
}

const freshExperiment: Maker = async ({ admin }, _who, fresh) => {
  await admin.experiments.create({ ...w, name: fresh });
  return { input: { ...w, experiment: fresh } };
};
async function endedRun({ admin }: World, _who: Person, fresh: string): Promise<Asking> {
  await admin.runs.start({ ...w, experiment: 'shared', id: fresh });
  await admin.runs.report({ ...w, run: fresh, attempt: 1, state: 'completed' });
  return { input: { ...w, run: fresh } };
}
const freshModel: Maker = async ({ admin, run }, _who, fresh) => {
  await admin.models.register({ ...w, name: fresh, run, path: 'outputs/a.txt' });
  return { input: { ...w, name: fresh, version: '1' } };
};

const freshSecret: Maker = async ({ admin }, _who, fresh) => {
  await admin.secrets.set({ ...w, name: fresh, value: 'geheim' });
  return { input: { ...w, name: fresh } };
};

export const requests: { [name in { [N in Noun]: `${N}.${VerbOf<N>}` }[Noun]]: Maker } = {
  'server.get': fixed({}),
  'server.backup': fixed({}),
  'server.collectGarbage': fixed({ dryRun: true }),
  'server.getCollection': async ({ admin }) => {
    const { id } = await admin.server.collectGarbage({ dryRun: true });
    return { input: { collection: id } };
  },
  'server.listCollections': fixed({}),
  'server.rotateMasterKey': fixed({}),
  'secrets.set': only((_, fresh) => ({ ...w, name: fresh, value: 'geheim' })),
  'secrets.get': freshSecret,
  'secrets.list': fixed(w),
  'secrets.delete': freshSecret,
  'packageIndexes.get': fixed({}),
  'packageIndexes.set': fixed({}),
  'signIns.create': async ({ admin, server }, _who, fresh) => {
    const { signIn } = await admin.users.create({ name: fresh });
    const password = 'a long password';
    await createClient({ url: server.url }).signIns.redeem({ code: signIn!.code, password });
    return { input: { user: fresh, password } };
  },
  'signIns.redeem': async ({ admin }, _who, fresh) => {
    const { signIn } = await admin.users.create({ name: fresh });
    return { input: { code: signIn!.code } };
  },
  'signIns.delete': async (world, who) => {
    const made = await own(world, who);
    return { input: {}, ...(made && { token: made.token }) };
  },
  'me.get': fixed({}),
  'me.setPassword': async (world, who) => {
    const made = await own(world, who); // it ends all other sign-ins, but not the tokens that were made
    return { input: { password: 'a long password' }, ...(made && { token: made.token }) };
  },
  'users.create': only((_, fresh) => ({ name: fresh })),
  'users.list': fixed({}),
  'users.get': fixed({ user: 'reader' }),
  'users.update': fixed({ user: 'reader', displayName: 'Rita' }),
  'users.createSignIn': async ({ admin }, _who, fresh) => {
    await admin.users.create({ name: fresh });
    return { input: { user: fresh } };
  },
  'users.delete': async ({ admin }, _who, fresh) => {
    await admin.users.create({ name: fresh });
    return { input: { user: fresh } };
  },
  'tokens.create': fixed({ name: 'another' }),
  'tokens.list': fixed({}),
  'tokens.revoke': async (world, who) => {
    const made = await own(world, who);
    return { input: { token: made?.id ?? 'any' }, ...(made && { token: made.token }) };
  },
  'members.list': fixed(w),
  'members.set': fixed({ ...w, user: 'reader', role: 'reader' }),
  'members.remove': async ({ admin }, _who, fresh) => {
    await admin.users.create({ name: fresh });
    await admin.members.set({ ...w, user: fresh, role: 'reader' });
    return { input: { ...w, user: fresh } };
  },
  'audit.list': fixed({}),
  'audit.listWorkspace': fixed(w),
  'workspaces.create': only((_, fresh) => ({ name: fresh })),
  'workspaces.get': fixed(w),
  'workspaces.list': fixed({}),
  'workspaces.update': fixed({ ...w, description: 'told' }),
  'workspaces.delete': async ({ admin, furnish }, who, fresh) => {
    if (who === 'limited' || who === 'run' || who === 'otherRun') return { input: w };
    await admin.workspaces.create({ name: fresh });
    await furnish(fresh);
    return { input: { workspace: fresh } };
  },
  'activities.list': fixed(w),
  'activities.get': only(({ activity }) => ({ ...w, activity })),
  'activities.cancel': only(({ activity }) => ({ ...w, activity })),
  'activities.getLog': only(({ activity }) => ({ ...w, activity })),
  'activities.watch': fixed(w),
  'compute.attach': only((_, fresh) => ({ ...w, name: fresh, settings: host })),
  'compute.create': only((_, fresh) => ({ ...w, name: fresh, settings: { kind: 'ssh', on: 'second' } })),
  'compute.scale': fixed({ ...target, settings: { kind: 'ssh', on: 'second' } }),
  'compute.delete': fixed(target),
  'sessions.exec': only(({ run }) => ({ ...w, run, command: ['true'] })),
  'sessions.connect': only(({ run }) => ({ ...w, run, port: 80 })),
  'sessions.receive': only(({ run }) => ({ ...w, run, session: 'none' })),
  'sessions.send': ({ run }) => ({ input: { ...w, run, session: 'none' }, body: '' }),
  'compute.listQueue': fixed(target),
  'compute.list': fixed(w),
  'compute.get': fixed(target),
  'compute.update': fixed({ ...target, settings: host }),
  'compute.probe': fixed(target),
  'compute.detach': async ({ admin }, _who, fresh) => {
    await admin.compute.attach({ ...w, name: fresh, settings: { kind: 'host' } });
    return { input: { ...w, target: fresh } };
  },
  'snapshots.create': fixed({ ...w, files: [] }),
  'snapshots.addFiles': ({ snapshot }) => ({ input: { ...w, snapshot }, body: emptyZip }),
  'snapshots.get': ofSnapshot(),
  'snapshots.listFiles': ofSnapshot(),
  'snapshots.getFile': ofSnapshot({ path: 'main.py' }),
  'snapshots.download': ofSnapshot(),
  'blobs.get': only(({ digest }) => ({ ...w, digest })),
  'blobs.append': (_world, _who, fresh) => ({
    input: { ...w, digest: `sha256:${createHash('sha256').update(fresh).digest('hex')}`, sizeBytes: fresh.length },
    body: fresh,
  }),
  'datastores.list': fixed(w),
  'datastores.get': fixed(store),
  'datastores.listFiles': fixed({ ...store, prefix: 'in' }),
  'datastores.putFile': only(({ digest }, fresh) => ({ ...store, path: `out/${fresh}`, digest })),
  'datastores.getFile': fixed({ ...store, path: 'in/a.txt' }),
  'datastores.deleteFiles': async ({ admin, digest }, _who, fresh) => {
    await admin.datastores.putFile({ ...store, path: fresh, digest });
    return { input: { ...store, path: fresh } };
  },
  'experiments.create': fixed({ ...w, name: 'shared' }),
  'experiments.get': fixed({ ...w, experiment: 'shared' }),
  'experiments.list': fixed(w),
  'experiments.update': fixed({ ...w, experiment: 'shared', description: 'told' }),
  'experiments.archive': freshExperiment,
  'experiments.reactivate': freshExperiment,
  'experiments.delete': freshExperiment,
  'runs.submit': only(({ snapshot }) => ({
    ...w,
    experiment: 'shared',
    snapshot,
    configuration: { script: 'main.py', target: 'local', environment: { userManaged: true } },
  })),
  'runs.resubmit': ofRun(),
  'runs.start': only(({ run }) => ({ ...w, experiment: 'shared', parent: run })),
  'runs.getJob': async ({ localRun }) => ({ input: { ...w, run: await localRun() } }),
  'runs.report': ofRun({ attempt: 1 }),
  'runs.get': ofRun(),
  'runs.query': fixed(w),
  'runs.list': fixed(w),
  'runs.update': ofRun({ tags: { told: 'yes' } }),
  'runs.cancel': async (world, who) => {
    // Of the run's own token a child: its run is needed further on.
    const parent = world.run;
    const { id } = await world.admin.runs.start({ ...w, experiment: 'shared', parent });
    return { input: { ...w, run: who === 'otherRun' ? parent : id } };
  },
  'runs.archive': endedRun,
  'runs.reactivate': endedRun,
  'runs.archiveMany': fixed({ ...w, filter: "id = 'absent'" }),
  'runs.delete': endedRun,
  'runs.deleteMany': fixed({ ...w, filter: "id = 'absent'" }),
  'runs.listFiles': ofRun(),
  'runs.putFile': only(({ run, digest }, fresh) => ({ ...w, run, digest, path: `outputs/${fresh}` })),
  'runs.getFile': ofRun({ path: 'outputs/a.txt' }),
  'journals.append': ({ run }, _who, fresh) => ({
    input: { ...w, run, journal: fresh, offset: 0 },
    body: '["m","loss",1,0,1700000000]\n',
  }),
  'journals.get': ofRun({ journal: 'main' }),
  'metrics.list': ofRun(),
  'metrics.getSeries': ofRun({ name: 'loss' }),
  'logs.append': ({ run }, _who, fresh) => ({ input: { ...w, run, name: fresh, offset: 0 }, body: 'line\n' }),
  'logs.list': ofRun(),
  'logs.get': ofRun({ name: 'output.txt', follow: true }),
  'models.register': only(({ run }) => ({ ...w, name: 'model', run, path: 'outputs/a.txt' })),
  'models.list': only(({ run }) => ({ ...w, run })),
  'models.get': fixed(model),
  'models.update': fixed({ ...model, description: 'told' }),
  'models.archive': freshModel,
  'models.reactivate': freshModel,
  'models.delete': freshModel,
  'models.getFile': fixed({ ...model, path: 'a.txt' }),
  'models.download': fixed(model),
  'models.setAlias': fixed({ ...w, name: 'model', alias: 'best', version: 1 }),
  'models.deleteAlias': async ({ admin }, _who, fresh) => {
    await admin.models.setAlias({ ...w, name: 'model', alias: fresh, version: 1 });
    return { input: { ...w, name: 'model', alias: fresh } };
  },
  'trash.list': fixed(w),
  'trash.restore': async (world, who, fresh) => {
    const { input } = await endedRun(world, who, fresh);
    const { id } = await world.admin.runs.delete({ ...w, run: String(input.run) });
    return { input: { ...w, entry: id } };
  },
  'trash.empty': fixed({ ...w, dryRun: true }),
  'images.create': only(({ digest }, fresh) => ({
    ...w,
    name: fresh,
    scoringScript: 'score.py',
    files: [{ path: 'score.py', digest }],
    baseImage: 'datastore:workspacestore/in/a.txt', // no image: what is built of it fails at once
  })),
  'images.list': fixed(w),
  'images.get': fixed(image),
  'images.update': fixed({ ...image, description: 'told' }),
  'images.delete': fixed(image), // its services use it
  'images.export': fixed(image),
  'services.deploy': only((_, fresh) => ({ ...w, name: fresh, image: 'absent:1' })), // there is no such image
  'services.list': fixed(w),
  'services.get': fixed(service),
  'services.update': fixed({ ...service, description: 'told' }),
  'services.scale': async ({ admin }) => {
    const { name } = await until('the one before has been scaled', async () => {
      const found = await admin.services.get(service);
      return found.state === 'healthy' && found;
    });
    return { input: { ...w, service: name, replicas: 1 } };
  },
  'services.delete': only((_, fresh) => ({ ...w, service: fresh })), // there is none of this name
  'services.getKeys': fixed(service),
  'services.regenerateKey': fixed({ ...service, key: 'secondary' }),
  'services.getLog': fixed(service),
};

/** Where the thing that a request names lies in another workspace than the address says. */
export function elsewhere({ input, ...asking }: Asking): Asking {
  return { ...asking, input: { ...input, workspace: other } };
}

export const freshName = () => `n${randomUUID().replaceAll('-', '').slice(0, 20)}`;
