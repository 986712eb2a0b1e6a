import type { Role } from '@stellwerk/contract/access.ts';
import type { Permission } from '@stellwerk/contract/verb.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type AccessRig, accessRig, expectRefusal } from './access.fixture.ts';
import type { UserCaller } from './access.ts';

let rig: AccessRig;
let root: UserCaller;
beforeAll(async () => {
  rig = await accessRig();
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(async () => {
  rig.scratch.clear();
  root = await rig.signedIn('root', { administrator: true });
});

const set = (user: string, role: Role, workspace = 'w1') => rig.access.members.set({ workspace, user, role });
const permit = (caller: UserCaller, permission: Permission, workspace = 'w1') =>
  rig.access.authenticator.permit(caller, permission, workspace);

describe('a role', () => {
  it('allows what it includes and nothing more', async () => {
    await set('root', 'owner');
    const allowed: Record<Role, Permission[]> = {
      owner: ['public', 'signed-in', 'read', 'contribute', 'own'],
      contributor: ['public', 'signed-in', 'read', 'contribute'],
      reader: ['public', 'signed-in', 'read'],
    };
    for (const role of ['owner', 'contributor', 'reader'] as const) {
      const caller = await rig.signedIn(role);
      await set(role, role);
      for (const permission of allowed[role]) await permit(caller, permission);
      const denied = (['read', 'contribute', 'own'] as const).filter((one) => !allowed[role].includes(one));
      for (const permission of denied) await expectRefusal(permit(caller, permission), 'access.denied');
      await expectRefusal(permit(caller, 'administrator'), 'access.administrator-needed');
    }
  });

  it('counts in its workspace only, and others look as if they were not there', async () => {
    const ada = await rig.signedIn('ada');
    await set('ada', 'owner');
    const error = await expectRefusal(permit(ada, 'read', 'w2'), 'workspace.not-found');
    expect(error.status).toBe(404);
    await permit(ada, 'own', 'W1'); // names differ by more than case
  });

  it('is taken away at once', async () => {
    const ada = await rig.signedIn('ada');
    await set('root', 'owner');
    await set('ada', 'reader');
    await permit(ada, 'read');
    await rig.access.members.remove({ workspace: 'w1', user: 'ADA' });
    await expectRefusal(permit(ada, 'read'), 'workspace.not-found');
    await expectRefusal(rig.access.members.remove({ workspace: 'w1', user: 'ada' }), 'access.user-not-found');
  });

  it('is listed once per user, in pages, and changed in place', async () => {
    await set('root', 'owner');
    for (const name of ['ada', 'bob', 'cyd']) {
      await rig.signedIn(name);
      await set(name, 'reader');
    }
    await set('BOB', 'contributor');
    const first = await rig.access.members.list({ workspace: 'w1', pageSize: 3 });
    const rest = await rig.access.members.list({ workspace: 'w1', pageSize: 3, page: first.nextPage });
    expect([...first.items, ...rest.items].map(({ user, role }) => [user, role])).toEqual([
      ['ada', 'reader'],
      ['bob', 'contributor'],
      ['cyd', 'reader'],
      ['root', 'owner'],
    ]);
    expect(await rig.access.members.rolesOf('bob')).toEqual({ w1: 'contributor' });
  });

  it('is not given to a user who is not there', async () => {
    await expectRefusal(set('nobody', 'reader'), 'access.user-not-found');
  });
});

describe('the last', () => {
  it('Owner of a workspace stays Owner, member and user', async () => {
    await rig.signedIn('ada');
    await set('ada', 'owner');
    await expectRefusal(set('ada', 'reader'), 'access.last-owner');
    await expectRefusal(rig.access.members.remove({ workspace: 'w1', user: 'ada' }), 'access.last-owner');
    await expectRefusal(rig.access.users.delete({ user: 'ada' }), 'access.last-owner');
    expect(await rig.access.members.rolesOf('ada')).toEqual({ w1: 'owner' });
    await set('root', 'owner');
    await rig.access.users.delete({ user: 'ada' });
  });

  it('administrator who can sign in stays one', async () => {
    const refused = (change: object) =>
      expectRefusal(rig.access.users.update({ user: 'root', ...change }), 'access.last-administrator');
    await rig.signedIn('eve', { administrator: true });
    await rig.access.users.update({ user: 'eve', disabled: true });
    await refused({ administrator: false });
    await refused({ disabled: true });
    await expectRefusal(rig.access.users.delete({ user: 'root' }), 'access.last-administrator');
    expect(await rig.access.users.get({ user: 'root' })).toMatchObject({ administrator: true, disabled: false });
    await permit(root, 'administrator'); // a refused change revoked no token
    await rig.access.users.update({ user: 'eve', disabled: false });
    await rig.access.users.update({ user: 'root', administrator: false });
  });
});

describe('users', () => {
  it('have names that differ by more than case', async () => {
    await rig.access.users.create({ name: 'Ada', kind: 'user', administrator: false });
    const again = rig.access.users.create({ name: 'aDA', kind: 'user', administrator: false });
    await expectRefusal(again, 'access.user-name-taken');
    expect((await rig.access.users.get({ user: 'ADA' })).name).toBe('Ada');
  });

  it('are changed, listed in pages, and told when they are missing', async () => {
    for (const name of ['ada', 'bob']) await rig.access.users.create({ name, kind: 'user', administrator: false });
    expect(await rig.access.users.update({ user: 'ada', displayName: 'Ada L.' })).toMatchObject({
      name: 'ada',
      displayName: 'Ada L.',
    });
    const first = await rig.access.users.list({ pageSize: 2 });
    const rest = await rig.access.users.list({ pageSize: 2, page: first.nextPage });
    expect([...first.items, ...rest.items].map(({ name }) => name)).toEqual(['ada', 'bob', 'root']);
    expect(JSON.stringify(first)).not.toContain('password');
    await expectRefusal(rig.access.users.get({ user: 'nobody' }), 'access.user-not-found');
    await expectRefusal(rig.access.users.delete({ user: 'nobody' }), 'access.user-not-found');
  });
});

describe('the audit log', () => {
  it('tells who did what, newest first, by workspace, actor and verb', async () => {
    const { audit } = rig.access;
    const ada = await rig.signedIn('ada');
    await audit.record({ caller: root, verb: 'users.create', subject: 'ada', outcome: 'done', address: '127.0.0.1' });
    await audit.record({ caller: ada, verb: 'models.delete', workspace: 'w1', subject: 'm', outcome: 'done' });
    const run = { kind: 'run', workspace: 'w1', run: 'r1', attempt: 1, user: 'ada' } as const;
    await audit.record({
      caller: run,
      verb: 'models.register',
      workspace: 'w1',
      outcome: 'refused',
      reason: 'access.denied',
    });
    const { items } = await audit.list({});
    expect(items).toMatchObject([
      { actor: 'run r1', verb: 'models.register', outcome: 'refused', reason: 'access.denied' },
      { actor: 'ada', verb: 'models.delete', token: ada.tokenId, workspace: 'w1', subject: 'm' },
      { actor: 'root', verb: 'users.create', subject: 'ada', address: '127.0.0.1' },
    ]);
    expect(items[2]).not.toHaveProperty('workspace');
    expect((await audit.listWorkspace({ workspace: 'w1' })).items).toHaveLength(2);
    expect((await audit.list({ actor: 'root' })).items).toHaveLength(1);
    expect((await audit.list({ verb: 'models.delete', actor: 'root' })).items).toEqual([]);
    const first = await audit.list({ pageSize: 2 });
    expect((await audit.list({ pageSize: 2, page: first.nextPage })).items).toEqual([items[2]]);
  });
});
