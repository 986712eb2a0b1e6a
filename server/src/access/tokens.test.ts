import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { sql } from '../db/transactions.ts';
import { type AccessRig, accessRig, expectRefusal } from './access.fixture.ts';
import type { UserCaller } from './access.ts';

const day = 86_400_000;
let rig: AccessRig;
let root: UserCaller;
let ada: UserCaller;
beforeAll(async () => {
  rig = await accessRig();
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(async () => {
  rig.scratch.clear();
  root = await rig.signedIn('root', { administrator: true });
  ada = await rig.signedIn('ada');
  await rig.access.members.set({ workspace: 'w1', user: 'ada', role: 'owner' });
  await rig.access.members.set({ workspace: 'w2', user: 'root', role: 'owner' });
  await rig.access.members.set({ workspace: 'w2', user: 'ada', role: 'contributor' });
});

const create = (input: Parameters<typeof rig.access.tokens.create>[0], by: UserCaller) =>
  rig.access.tokens.create(input, by);
const list = async (by: UserCaller, user?: string) => (await rig.access.tokens.list({ user }, by)).items;
const revoke = (token: string, by: UserCaller) => rig.access.tokens.revoke({ token }, by);
const invalid = (token: string) => expectRefusal(rig.access.authenticator.callerOf(token), 'access.token-invalid');

describe('a token', () => {
  it('is its user until it expires', async () => {
    const { token, record } = await create({ name: 'notebook', expiresInDays: 1 }, ada);
    expect(record).toMatchObject({ name: 'notebook', user: 'ada' });
    expect(await rig.callerOf(token)).toMatchObject({ user: 'ada' });
    rig.pass(day - 1);
    await rig.callerOf(token);
    rig.pass(1);
    await invalid(token);
  });

  it('is invalid at once when it is revoked, its user disabled or deleted', async () => {
    const tokens = await Promise.all([1, 2].map((n) => create({ name: `t${n}` }, ada)));
    await revoke(tokens[0]!.record.id, ada);
    await invalid(tokens[0]!.token);
    await rig.callerOf(tokens[1]!.token);
    await rig.access.users.update({ user: 'ada', disabled: true });
    await invalid(tokens[1]!.token);
    const bob = await rig.signedIn('bob');
    const of = await create({ name: 'mine' }, bob);
    await rig.access.users.delete({ user: 'bob' });
    await invalid(of.token);
  });

  it('that nobody made is refused, as is one with another beginning', async () => {
    const { token } = await create({ name: 'x' }, ada);
    for (const guess of ['', 'sw_', 'swr_', `${token}x`, token.slice(0, -1), `swr_${token.slice(3)}`])
      await invalid(guess);
  });

  it('notes when it was last used, at most once a minute', async () => {
    const { token, record } = await create({ name: 'x' }, ada);
    const used = async () => (await list(ada)).find(({ id }) => id === record.id)!.lastUsedAt;
    expect(await used()).toBeUndefined();
    await rig.callerOf(token);
    const first = await used();
    rig.pass(59_000);
    await rig.callerOf(token);
    expect(await used()).toBe(first);
    rig.pass(2_000);
    await rig.callerOf(token);
    expect(await used()).toBe(new Date(rig.now()).toISOString());
  });

  it('of an administrator for a service principal, and for nobody else', async () => {
    await rig.access.users.create({ name: 'CI', kind: 'service-principal', administrator: false });
    const { token, record } = await create({ name: 'ci', user: 'ci' }, root);
    expect(record.user).toBe('CI');
    expect(await rig.callerOf(token)).toMatchObject({ user: 'CI' });
    await expectRefusal(create({ name: 'x', user: 'ci' }, ada), 'access.administrator-needed');
    await expectRefusal(create({ name: 'x', user: 'ada' }, root), 'access.administrator-needed');
    await expectRefusal(create({ name: 'x', user: 'none' }, root), 'access.administrator-needed');
  });

  it('is listed and revoked by its user and by an administrator', async () => {
    const { record } = await create({ name: 'x' }, ada);
    const bob = await rig.signedIn('bob');
    await expectRefusal(list(bob, 'ada'), 'access.administrator-needed');
    await expectRefusal(revoke(record.id, bob), 'access.token-not-found');
    expect((await list(root, 'ADA')).map(({ id }) => id)).toContain(record.id);
    expect(JSON.stringify(await list(root, 'ada'))).not.toContain('hash');
    await revoke(record.id, root);
    await expectRefusal(revoke(record.id, ada), 'access.token-not-found');
  });
});

describe('a limited token', () => {
  const may = async (token: string, permission: 'read' | 'contribute' | 'own', workspace: string) =>
    rig.access.authenticator.permit(await rig.callerOf(token), permission, workspace).then(
      () => true,
      () => false,
    );

  it('gives the lesser of its role and its user’s', async () => {
    const { token } = await create({ name: 'r', role: 'contributor' }, ada);
    expect([await may(token, 'contribute', 'w1'), await may(token, 'own', 'w1')]).toEqual([true, false]);
    const { token: owner } = await create({ name: 'o', role: 'owner' }, ada);
    expect([await may(owner, 'own', 'w1'), await may(owner, 'own', 'w2')]).toEqual([true, false]);
  });

  it('to a workspace has no role in others', async () => {
    const { token } = await create({ name: 'w', workspace: 'W1' }, ada);
    expect([await may(token, 'own', 'w1'), await may(token, 'read', 'w2')]).toEqual([true, false]);
  });

  it('makes no token that reaches further', async () => {
    const reader = await rig.callerOf((await create({ name: 'r', role: 'reader', workspace: 'w1' }, ada)).token);
    await expectRefusal(create({ name: 'x', workspace: 'w2' }, reader), 'access.denied');
    const { record } = await create({ name: 'x', role: 'owner' }, reader);
    expect(record).toMatchObject({ role: 'reader', workspace: 'w1' });
  });

  it('that will end makes none that outlives it', async () => {
    const short = await rig.callerOf((await create({ name: 's', expiresInDays: 1 }, ada)).token);
    const end = new Date(rig.now() + day).toISOString();
    expect((await create({ name: 'x' }, short)).record.expiresAt).toBe(end);
    expect((await create({ name: 'x', expiresInDays: 30 }, short)).record.expiresAt).toBe(end);
    expect((await create({ name: 'x' }, ada)).record.expiresAt).toBeUndefined(); // a sign-in does
  });

  it('takes all that was made with it, and with that, along when it is revoked; a sign-in does not', async () => {
    const first = await create({ name: 'r', role: 'reader' }, ada);
    const second = await create({ name: 'x' }, await rig.callerOf(first.token));
    const third = await create({ name: 'y' }, await rig.callerOf(second.token));
    const other = await create({ name: 'z' }, ada);
    await revoke(first.record.id, ada);
    for (const { token } of [first, second, third]) await invalid(token);
    await rig.access.signIns.delete({}, ada);
    expect((await rig.callerOf(other.token)).user).toBe('ada');
  });

  it('that was revoked meanwhile makes none', async () => {
    const { token, record } = await create({ name: 's' }, ada);
    const caller = await rig.callerOf(token);
    await revoke(record.id, ada);
    await expectRefusal(create({ name: 'x' }, caller), 'access.token-invalid');
  });

  it('revokes itself but none that reaches further', async () => {
    const { token, record } = await create({ name: 'r', role: 'reader' }, ada);
    const reader = await rig.callerOf(token);
    await expectRefusal(revoke(ada.tokenId, reader), 'access.denied');
    await revoke(record.id, reader);
    await invalid(token);
  });

  it('of an administrator does not do what administrators do', async () => {
    const reader = await rig.callerOf((await create({ name: 'r', role: 'reader' }, root)).token);
    const { authenticator } = rig.access;
    await expectRefusal(authenticator.permit(reader, 'administrator', undefined), 'access.administrator-needed');
    await authenticator.permit(reader, 'read', 'w1'); // but looks into every workspace
    await expectRefusal(authenticator.permit(reader, 'contribute', 'w1'), 'access.denied');
    await expectRefusal(list(reader, 'ada'), 'access.administrator-needed');
    const inW1 = await rig.callerOf((await create({ name: 'w', workspace: 'w1' }, root)).token);
    await expectRefusal(authenticator.permit(inW1, 'administrator', undefined), 'access.administrator-needed');
    await expectRefusal(authenticator.permit(inW1, 'read', 'w1'), 'workspace.not-found');
  });
});

describe('a run’s token', () => {
  const run = { workspace: 'w1', run: 'r 1', attempt: 2, user: 'ada' };

  it('is its run and attempt until it expires', async () => {
    const { authenticator } = rig.access;
    const token = await authenticator.createRunToken(run, 1_000);
    expect(await authenticator.callerOf(token)).toEqual({ kind: 'run', ...run });
    rig.pass(1_000);
    await invalid(token);
  });

  it('goes when it has expired and another is made', async () => {
    await rig.access.authenticator.createRunToken(run, 1_000);
    rig.pass(1_000);
    await rig.access.authenticator.createRunToken({ ...run, attempt: 3 }, 1_000);
    const kept = await rig.scratch.db.all(sql.selectFrom('run_token').select('attempt'));
    expect(kept).toEqual([{ attempt: 3 }]);
  });

  it('is no user: it signs out nobody and makes no tokens', async () => {
    const token = await rig.access.authenticator.createRunToken(run, 1_000);
    const caller = await rig.access.authenticator.callerOf(token);
    await expectRefusal(rig.access.tokens.create({ name: 'x' }, caller), 'access.run-token-scope');
    await expectRefusal(rig.access.signIns.delete({}, caller), 'access.run-token-scope');
    await expectRefusal(rig.access.tokens.list({}, { kind: 'stranger' }), 'access.sign-in-needed');
  });
});
