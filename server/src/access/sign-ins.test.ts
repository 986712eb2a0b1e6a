import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type AccessRig, accessRig, expectRefusal } from './access.fixture.ts';

const password = 'correct horse battery';
let rig: AccessRig;
beforeAll(async () => {
  rig = await accessRig();
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(() => rig.scratch.clear());

const signIn = (user: string, given: string) => rig.access.signIns.create({ user, password: given });

describe('a sign-in link', () => {
  it('stands behind # in its address and signs in once', async () => {
    const { user, signIn: link } = await rig.access.users.create({ name: 'ada', kind: 'user', administrator: false });
    expect(user).toMatchObject({ name: 'ada', administrator: false, disabled: false });
    expect(link!.url).toBe(`https://stellwerk.test/sign-in#${link!.code}`);
    const signed = await rig.access.signIns.redeem({ code: link!.code });
    expect(signed.user.lastSignInAt).toBe(new Date(rig.now()).toISOString());
    expect(await rig.callerOf(signed.token)).toMatchObject({ kind: 'user', user: 'ada', administrator: false });
    await expectRefusal(rig.access.signIns.redeem({ code: link!.code }), 'access.sign-in-link-used');
  });

  it('signs in one of two who come at the same time', async () => {
    const { signIn: link } = await rig.access.users.create({ name: 'ada', kind: 'user', administrator: false });
    const both = await Promise.allSettled([
      rig.access.signIns.redeem({ code: link!.code, password }),
      rig.access.signIns.redeem({ code: link!.code, password }),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('expires after seven days', async () => {
    const { signIn: link } = await rig.access.users.create({ name: 'ada', kind: 'user', administrator: false });
    rig.pass(7 * 86_400_000);
    await expectRefusal(rig.access.signIns.redeem({ code: link!.code }), 'access.sign-in-link-used');
  });

  it('is replaced by a newer one, in whatever case the name is written', async () => {
    const { signIn: first } = await rig.access.users.create({ name: 'Ada', kind: 'user', administrator: false });
    const second = await rig.access.users.createSignIn({ user: 'ADA' });
    expect(second.user).toBe('Ada');
    await expectRefusal(rig.access.signIns.redeem({ code: first!.code }), 'access.sign-in-link-used');
    expect((await rig.access.signIns.redeem({ code: second.code })).user.name).toBe('Ada');
  });

  it('is of no use to a disabled user, and not made for a service principal', async () => {
    await rig.signedIn('root', { administrator: true });
    const { signIn: link } = await rig.access.users.create({ name: 'ada', kind: 'user', administrator: false });
    await rig.access.users.update({ user: 'ada', disabled: true });
    await expectRefusal(rig.access.signIns.redeem({ code: link!.code }), 'access.token-invalid');
    const made = await rig.access.users.create({ name: 'ci', kind: 'service-principal', administrator: false });
    expect(made.signIn).toBeUndefined();
    await expectRefusal(rig.access.users.createSignIn({ user: 'ci' }), 'request.invalid');
  });

  it('that nobody made is refused, and kept nowhere in the clear', async () => {
    const { signIn: link } = await rig.access.users.create({ name: 'ada', kind: 'user', administrator: false });
    await expectRefusal(rig.access.signIns.redeem({ code: 'guess', password }), 'access.sign-in-link-used');
    const { token } = await rig.access.signIns.redeem({ code: link!.code });
    const bytes = ['stellwerk.db', 'stellwerk.db-wal'].map((name) =>
      readFileSync(join(rig.scratch.folder, name), 'latin1'),
    );
    expect(bytes.join('')).toContain('ada');
    expect(bytes.join('')).not.toContain(link!.code);
    expect(bytes.join('')).not.toContain(token);
  });
});

describe('a password', () => {
  it('signs in, by a name in any case, and no other does', async () => {
    await rig.signedIn('Ada', { password });
    const signed = await signIn('ADA', password);
    expect(signed.user.name).toBe('Ada');
    expect(Date.parse(signed.expiresAt!) - rig.now()).toBe(30 * 86_400_000);
    await expectRefusal(signIn('ada', 'correct horse batterY'), 'access.password-wrong');
  });

  it('is refused alike whether the name is unknown, has none, or is disabled', async () => {
    await rig.signedIn('ada');
    await rig.signedIn('bob', { password });
    await rig.signedIn('root', { administrator: true });
    await rig.access.users.update({ user: 'bob', disabled: true });
    const errors = [
      await expectRefusal(signIn('nobody', password), 'access.password-wrong'),
      await expectRefusal(signIn('ada', password), 'access.password-wrong'),
      await expectRefusal(signIn('bob', password), 'access.password-wrong'),
    ];
    expect(new Set(errors.map(({ message }) => message)).size).toBe(1);
  });

  it('wrong five times makes the name wait, also for the right one, and tries at once count too', async () => {
    await rig.signedIn('Mary', { password });
    const tries = await Promise.allSettled(Array.from({ length: 8 }, (_, n) => signIn('Mary', `wrong ${n} wrong`)));
    const reasons = tries.map((one) => (one as PromiseRejectedResult).reason.reason);
    expect(reasons.filter((reason) => reason === 'access.password-wrong')).toHaveLength(5);
    expect(reasons.filter((reason) => reason === 'request.too-many')).toHaveLength(3);
    const error = await expectRefusal(signIn('mary', password), 'request.too-many');
    expect(error).toMatchObject({ status: 429, details: { retryAfterSeconds: 30 } });
    rig.pass(30_000);
    await signIn('mary', password);
    await expectRefusal(signIn('mary', 'wrong again!'), 'access.password-wrong'); // counted from nothing again
    await signIn('mary', password);
  });

  it('newly set ends all other sign-ins but not the tokens that were made, whatever they are called', async () => {
    const first = await rig.signedIn('ada', { password });
    const here = await rig.callerOf((await signIn('ada', password)).token);
    const made = await rig.access.tokens.create({ name: 'sign-in for CI' }, first);
    await rig.access.signIns.setPassword({ password: 'another password' }, here);
    const left = await rig.access.tokens.list({}, here);
    expect(left.items.map(({ id }) => id).sort()).toEqual([here.tokenId, made.record.id].sort());
    await expectRefusal(signIn('ada', password), 'access.password-wrong');
    await signIn('ada', 'another password');
  });

  it('is not set with a token that is limited to a role or a workspace', async () => {
    const ada = await rig.signedIn('ada', { password });
    for (const limit of [{ role: 'reader' as const }, { workspace: 'w1' }]) {
      const { token } = await rig.access.tokens.create({ name: 'limited', ...limit }, ada);
      const limited = await rig.callerOf(token);
      await expectRefusal(rig.access.signIns.setPassword({ password: 'taken over!' }, limited), 'access.denied');
    }
    await signIn('ada', password);
  });
});

describe('signing out', () => {
  it('revokes the token that it is called with and no other', async () => {
    await rig.signedIn('ada', { password });
    const [one, two] = [await signIn('ada', password), await signIn('ada', password)];
    await rig.access.signIns.delete({}, await rig.callerOf(one.token));
    await expectRefusal(rig.access.authenticator.callerOf(one.token), 'access.token-invalid');
    await rig.callerOf(two.token);
  });
});
