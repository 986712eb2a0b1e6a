import { eachVerb } from '@stellwerk/contract/verbs.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { bearer, type HttpRig, httpRig, raw } from './http.fixture.ts';

let rig: HttpRig;
beforeAll(async () => {
  rig = await httpRig({
    'users.get': async () => {
      throw new TypeError('secret detail');
    },
  });
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(() => void rig.calls.splice(0));

const verbs = eachVerb();
/** An address of the verb: the workspace w1, and something that is not there for the rest. */
const addressOf = (path: string) =>
  `${rig.url}/api/v1${path.replaceAll(/\{(\w+)\}/g, (_, field: string) => (field === 'workspace' ? 'w1' : 'x1'))}`;

async function ask(path: string, method = 'GET', token?: string, body?: object) {
  const headers = { ...(token && bearer(token)), ...(body && { 'content-type': 'application/json' }) };
  const answer = await raw(path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  const isJson = answer.headers['content-type']?.startsWith('application/json');
  return { status: answer.status, headers: answer.headers, ...(isJson && JSON.parse(answer.body)) };
}
/** What each verb answers. Signing out is left to the end: it would end the rest. */
const statuses = async (token: string | undefined) =>
  Object.fromEntries(
    await Promise.all(
      verbs
        .filter(({ name }) => !token?.startsWith('sw_') || name !== 'signIns.delete')
        .map(async ({ name, declaration: { path, method } }) => {
          const { status } = await ask(addressOf(path), method, token);
          return [name, status] as const;
        }),
    ),
  );
const namesWith = (permissions: string[]) =>
  verbs.filter(({ declaration }) => permissions.includes(declaration.permission)).map(({ name }) => name);

describe('every verb', () => {
  it('is there, and turns away whoever has not signed in', async () => {
    const answered = await statuses(undefined);
    for (const { name, declaration } of verbs) {
      if (declaration.permission === 'public') expect([name, answered[name]]).not.toEqual([name, 404]);
      else expect([name, answered[name]]).toEqual([name, 401]);
    }
    const strangers = rig.calls.filter(({ verb }) => !namesWith(['public']).includes(verb));
    expect(strangers).toEqual([]);
  });

  it('turns away a token that nobody made, or that is no token', async () => {
    const answered = await statuses(`sw_${'x'.repeat(43)}`);
    for (const name of Object.keys(answered)) expect([name, answered[name]]).toEqual([name, 401]);
    for (const header of ['', 'Bearer', 'Bearer ', 'Basic YTpi', 'Bearer a b', `Bearer ${'x'.repeat(600)}`, 'x']) {
      const answer = await raw(addressOf('/me'), { headers: { authorization: header } });
      expect([header, answer.status]).toEqual([header, 401]);
      expect(answer.headers['www-authenticate']).toContain('Bearer');
    }
    const inUrl = await raw(addressOf(`/me?access_token=${rig.tokens.owner}`));
    expect(inUrl.status).toBe(401);
  });

  it('of a workspace is out of sight for those without a role in it', async () => {
    const answered = await statuses(rig.tokens.outsider);
    for (const name of namesWith(['read', 'contribute', 'own'])) expect([name, answered[name]]).toEqual([name, 404]);
    for (const name of namesWith(['administrator'])) expect([name, answered[name]]).toEqual([name, 403]);
    const seen = rig.calls.filter(({ verb }) =>
      namesWith(['read', 'contribute', 'own', 'administrator']).includes(verb),
    );
    expect(seen).toEqual([]);
    const there = await ask(addressOf('/workspaces/w1'), 'GET', rig.tokens.outsider);
    const missing = await ask(`${rig.url}/api/v1/workspaces/w9`, 'GET', rig.tokens.outsider);
    expect(there.message.replace('w1', '')).toBe(missing.message.replace('w9', ''));
    expect(there.reason).toBe(missing.reason);
  });

  it('that changes something refuses a Reader, one that concerns access a Contributor', async () => {
    const byReader = await statuses(rig.tokens.reader);
    for (const name of namesWith(['contribute', 'own', 'administrator']))
      expect([name, byReader[name]]).toEqual([name, 403]);
    for (const name of namesWith(['read'])) expect([name, byReader[name]]).not.toEqual([name, 403]);
    const byContributor = await statuses(rig.tokens.contributor);
    for (const name of namesWith(['own', 'administrator'])) expect([name, byContributor[name]]).toEqual([name, 403]);
    for (const name of namesWith(['read', 'contribute'])) expect([name, byContributor[name]]).not.toEqual([name, 403]);
    const byOwner = await statuses(rig.tokens.owner);
    for (const name of namesWith(['own'])) expect([name, byOwner[name]]).not.toEqual([name, 403]);
    for (const name of namesWith(['administrator'])) expect([name, byOwner[name]]).toEqual([name, 403]);
  });

  it('without a scope for runs refuses a run’s token, and so does every verb of another workspace', async () => {
    const token = await rig.runToken('r1');
    const answered = await statuses(token);
    for (const { name, declaration } of verbs) {
      if (declaration.permission === 'public' || declaration.runToken !== undefined) continue;
      expect([name, answered[name]]).toEqual([name, 403]);
    }
    rig.calls.splice(0);
    for (const { name, declaration } of verbs.filter((one) => one.declaration.runToken !== undefined)) {
      const { status, reason } = await ask(
        addressOf(declaration.path).replace('/w1', '/w2'),
        declaration.method,
        token,
      );
      expect([name, status, reason]).toEqual([name, 403, 'access.run-token-scope']);
    }
    expect(rig.calls).toEqual([]);
  });
});

describe('a run’s token', () => {
  const base = () => `${rig.url}/api/v1/workspaces/w1`;

  it('with the scope `run` reaches its run and descendants, and no other', async () => {
    const token = await rig.runToken('r1');
    const tags = (run: string) => ask(`${base()}/runs/${run}`, 'GET', token);
    for (const run of ['r1', 'r1-1', 'r1-1-2']) expect((await tags(run)).status).toBe(200);
    for (const run of ['r2', 'r10', 'r', 'R1', 'r1%20'])
      expect(await tags(run)).toMatchObject({ status: 403, reason: 'access.run-token-scope' });
    const child = await rig.runToken('r1-1');
    expect((await ask(`${base()}/runs/r1`, 'GET', child)).status).toBe(403);
  });

  it('with the scope `child` creates runs below its own', async () => {
    const token = await rig.runToken('r1');
    const [declared] = verbs.filter(({ declaration }) => declaration.runToken === 'child');
    const { path, method } = declared!.declaration;
    const create = (body: object) => ask(addressOf(path), method, token, body);
    const input = { experiment: 'e', parent: 'r1-1' };
    expect(await create(input)).toMatchObject({ status: 200 });
    for (const parent of [undefined, 'r2'])
      expect(await create({ ...input, parent })).toMatchObject({ status: 403, reason: 'access.run-token-scope' });
  });

  it('with the scope `snapshot` reads its run’s own', async () => {
    const token = await rig.runToken('r1');
    const read = (digit: string, by = token) => ask(`${base()}/snapshots/sha256:${digit.repeat(64)}`, 'GET', by);
    expect((await read('1')).status).toBe(200);
    expect((await read('2')).status).toBe(403);
    expect((await read('1', await rig.runToken('r2'))).status).toBe(403);
  });

  it('with the scopes that rooms decide comes through to them as the run', async () => {
    const token = await rig.runToken('r1', 3);
    await ask(`${base()}/datastores/store/files`, 'GET', token);
    expect(rig.calls).toMatchObject([
      {
        verb: 'datastores.listFiles',
        caller: { kind: 'run', run: 'r1', attempt: 3, workspace: 'w1', user: 'owner' },
      },
    ]);
  });

  it('of an earlier attempt hears that another has taken over', async () => {
    const verb = verbs.find(
      ({ declaration: { runToken, input, transport } }) =>
        runToken === 'run' && transport === 'json' && 'attempt' in input.shape,
    )!;
    const address = (run: string) =>
      `${rig.url}/api/v1${verb.declaration.path}`.replace('{workspace}', 'w1').replace('{run}', run);
    const token = await rig.runToken('r1', 2);
    const report = (attempt: number, run = 'r1') => ask(address(run), verb.declaration.method, token, { attempt });
    expect((await report(2)).status).toBe(200);
    expect((await report(7, 'r1-1')).status).toBe(200); // of a child, its own attempts count
    expect(await report(1)).toMatchObject({ status: 409, reason: 'run.attempt-superseded' });
    expect(await report(3)).toMatchObject({ status: 409, reason: 'run.attempt-superseded' });
  });
});

describe('an answer', () => {
  it('about a fault of ours tells the incident and nothing else', async () => {
    const answer = await ask(addressOf('/users/ada'), 'GET', rig.tokens.administrator);
    expect(answer).toMatchObject({ status: 500, code: 'internal', reason: 'server.internal', incident: 'i1' });
    expect(JSON.stringify(answer)).not.toContain('secret detail');
    expect(rig.incidents).toMatchObject([{ message: 'secret detail' }]);
  });

  it('that refuses has code, reason, message and hint, and is JSON that no page runs', async () => {
    const { headers, status: _, ...body } = await ask(addressOf('/users'), 'GET', rig.tokens.reader);
    expect(Object.keys(body).sort()).toEqual(['code', 'hint', 'message', 'reason']);
    expect(headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
      'cross-origin-resource-policy': 'same-origin',
    });
    expect(headers).not.toHaveProperty('access-control-allow-origin');
    expect(headers).not.toHaveProperty('set-cookie');
  });

  it('about too many tries says when to try again', async () => {
    const body = { user: 'ada', password: 'wrong' };
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => ask(addressOf('/sign-in'), 'POST', undefined, body)),
    );
    const late = answers.find(({ status }) => status === 429)!;
    expect(late.headers['retry-after']).toBe('30');
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(5);
  });
});

describe('the audit log', () => {
  const entries = async () => (await rig.rig.access.audit.list({ pageSize: 5 })).items;
  const services = () => `${rig.url}/api/v1/workspaces/W1/services`;

  it('has changes and refusals with who, what and where, and not what was looked at', async () => {
    await ask(services(), 'POST', rig.tokens.owner, { name: 's1', image: 'i' });
    await ask(services(), 'GET', rig.tokens.owner);
    await ask(`${services()}/x1`, 'DELETE', rig.tokens.reader);
    await ask(addressOf('/sign-in'), 'POST', undefined, { user: 'eve', password: 'wrong' });
    expect(await entries()).toMatchObject([
      { actor: 'nobody', verb: 'signIns.create', subject: 'eve', outcome: 'refused', reason: 'access.password-wrong' },
      { actor: 'reader', verb: 'services.delete', workspace: 'w1', subject: 'x1', outcome: 'refused' },
      {
        actor: 'owner',
        verb: 'services.deploy',
        workspace: 'w1',
        subject: 's1',
        outcome: 'done',
        address: '127.0.0.1',
      },
      {},
      {},
    ]);
  });

  it('is not filled by strangers', async () => {
    const [newest] = await entries();
    for (let n = 0; n < 3; n++) await ask(addressOf('/users'), 'POST', undefined, { name: 'eve' });
    expect((await entries())[0]).toEqual(newest);
  });
});
