// Every route that the running server has, asked by everybody: what each gets is told by the verb's permission alone, and by a short
// list of what rooms decide beyond it. A route that is not in here fails the test, and so does one that nobody gets done.
import { request } from 'node:http';
import { addressOf } from '@stellwerk/client/address.ts';
import type { Role } from '@stellwerk/contract/access.ts';
import type { Permission, RunTokenScope, Verb } from '@stellwerk/contract/verb.ts';
import { apiPrefix, eachVerb } from '@stellwerk/contract/verbs.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Asking, elsewhere, freshName, requests } from './access-matrix/requests.ts';
import { createWorld, type Person, people, type World, workspace } from './access-matrix/world.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world?.[Symbol.asyncDispose]());

const pages = ['/', '/sign-in', '/docs', '/openapi.json', '/healthz'];
/** Where container programs pull images: with tokens of the registry's own, asked for below. */
const registryRoutes = [
  'GET /v2/',
  'HEAD /v2/',
  'GET /v2/token',
  'GET /v2/_catalog',
  'GET /v2/:workspace/:image/tags/list',
  'GET /v2/:workspace/:image/manifests/:reference',
  'HEAD /v2/:workspace/:image/manifests/:reference',
  'GET /v2/:workspace/:image/blobs/:reference',
  'HEAD /v2/:workspace/:image/blobs/:reference',
];
const isWheel = (url: string) => /^\/wheels\/stellwerk-[\w.]+-py3-none-any\.whl$/.test(url);
const routeOf = ({ method, path }: Verb) => `${method} ${apiPrefix}${path.replaceAll(/\{(\w+)\}/g, ':$1')}`;

const includes: Record<Role, readonly Permission[]> = {
  owner: ['read', 'contribute', 'own'],
  contributor: ['read', 'contribute'],
  reader: ['read'],
};
const roleOf: Partial<Record<Person, Role>> = {
  reader: 'reader',
  limited: 'reader',
  contributor: 'contributor',
  owner: 'owner',
  administrator: 'owner',
};
/** What the tokens of two runs reach of the first one's things. */
const reach: Record<'run' | 'otherRun', readonly RunTokenScope[]> = {
  run: ['run', 'child', 'upload', 'snapshot', 'datastore', 'model'],
  otherRun: ['upload'],
};

/** The reason of the refusal that the verb's permission tells; undefined for whoever may. */
function refusalOf({ permission, runToken }: Verb, who: Person): string | undefined {
  if (who === 'expired' || who === 'revoked') return '401 access.token-invalid';
  if (permission === 'public') return undefined;
  if (who === 'nobody') return '401 access.sign-in-needed';
  if (who === 'run' || who === 'otherRun')
    return runToken && reach[who].includes(runToken) ? undefined : '403 access.run-token-scope';
  if (permission === 'signed-in') return undefined;
  if (permission === 'administrator') return who === 'administrator' ? undefined : '403 access.administrator-needed';
  const role = roleOf[who];
  if (!role) return '404 workspace.not-found';
  return includes[role].includes(permission) ? undefined : '403 access.denied';
}

const administratorOnly = '403 access.administrator-needed';
/** Nothing is there that a target could be made on: who may gets that far. */
const noEngine = (refusal: string) => ({ contributor: refusal, owner: refusal, administrator: refusal });
/** What a room decides beyond the permission. */
const beyond: Record<string, Partial<Record<Person, string>>> = {
  'sessions.exec': noEngine('412 run.not-open'),
  'sessions.connect': noEngine('412 run.not-open'),
  'sessions.receive': noEngine('404 run.session-not-found'),
  'sessions.send': noEngine('404 run.session-not-found'),
  'compute.create': noEngine('400 settings.invalid'),
  'compute.scale': noEngine('400 settings.invalid'),
  'compute.delete': noEngine('412 compute.not-created'),
  'compute.attach': { contributor: administratorOnly, owner: administratorOnly },
  'compute.update': { contributor: administratorOnly, owner: administratorOnly },
  'compute.detach': { contributor: administratorOnly, owner: administratorOnly },
  'blobs.get': { otherRun: '404 blob.not-found' },
  'runs.getJob': { owner: '403 compute.not-yours', administrator: '403 compute.not-yours' },
  'me.setPassword': { limited: '403 access.denied' },
};
/** Verbs that are asked for what cannot be done, since doing it would take too much away. */
const cannotBe: Record<string, string> = {
  'activities.cancel': '412 activity.ended',
  'images.delete': '412 image.in-use',
  'services.deploy': '404 image.not-found',
  'services.delete': '404 web-service.not-found',
};

function expected(name: string, verb: Verb, who: Person): string {
  return refusalOf(verb, who) ?? beyond[name]?.[who] ?? cannotBe[name] ?? 'done';
}

async function ask(verb: Verb, { input, body }: Asking, token: string | undefined): Promise<string> {
  const { target, body: json } = addressOf(verb, input);
  const isUpload = verb.transport === 'upload';
  const answer = await fetch(world.server.url + target, {
    method: verb.method,
    headers: {
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(isUpload && { 'content-type': 'application/octet-stream' }),
      ...(json && { 'content-type': 'application/json' }),
    },
    ...(isUpload ? { body: body as string } : json && { body: JSON.stringify(json) }),
  });
  if (answer.ok) {
    await answer.body?.cancel();
    return 'done';
  }
  return `${answer.status} ${((await answer.json()) as { reason: string }).reason}`;
}

test('each route of the router is a verb of the contract or a known page, and each verb is in the router', () => {
  const routes = world.server.routes.map(({ method, url }) => `${method} ${url}`);
  const known = new Set(eachVerb().map(({ declaration }) => routeOf(declaration)));
  const rest = routes.filter((route) => !known.has(route)).sort();
  const [wheel] = world.server.routes.filter(({ url }) => isWheel(url));
  expect(rest).toEqual([...[...pages, wheel?.url].map((url) => `GET ${url}`), ...registryRoutes].sort());
  expect(routes.filter((route) => known.has(route)).sort()).toEqual([...known].sort());
  expect(Object.keys(requests).sort()).toEqual(
    eachVerb()
      .map(({ name }) => name)
      .sort(),
  );
});

test('every verb does for everybody what its permission says, and nothing else', async () => {
  const wrong: string[] = [];
  for (const { name, declaration } of eachVerb()) {
    for (const who of people) {
      const asking = await requests[name as keyof typeof requests](world, who, freshName());
      const answer = await ask(declaration, asking, asking.token ?? world.tokens[who]);
      const wanted = expected(name, declaration, who);
      if (answer !== wanted) wrong.push(`${name} by ${who}: ${answer}, not ${wanted}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('pages are for everybody, and show nothing of anybody', async () => {
  const urls = world.server.routes.map(({ url }) => url).filter((url) => pages.includes(url) || isWheel(url));
  for (const url of urls) {
    const bodies = await Promise.all(
      people.map(async (who) => {
        const token = world.tokens[who];
        const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
        const answer = await fetch(world.server.url + url, { headers });
        expect(answer.status, `${url} by ${who}`).toBe(200);
        return answer.text();
      }),
    );
    expect(new Set(bodies).size, url).toBe(1);
  }
});

test('images are pulled by who has a role in their workspace and a token as the password, by nobody else', async () => {
  const { name, version, digest } = await world.admin.images.get({ workspace, name: 'image', version: '1' });
  const repository = `${workspace}/${name}`;
  const routes = registryRoutes.filter((route) => route !== 'GET /v2/token');
  const wrong: string[] = [];
  for (const who of people) {
    const user = ['expired', 'revoked'].includes(who) ? 'contributor' : who === 'limited' ? 'admin' : who;
    const named = user === 'administrator' ? 'admin' : user === 'run' || user === 'otherRun' ? 'contributor' : user;
    const password = world.tokens[who];
    const scope = `registry:catalog:* repository:${repository}:pull`;
    const signedIn = await fetch(`${world.server.url}/v2/token?scope=${encodeURIComponent(scope)}`, {
      headers: password === undefined ? {} : { authorization: `Basic ${btoa(`${named}:${password}`)}` },
    });
    const body = (await signedIn.json()) as { token?: string };
    const isUser = ['reader', 'contributor', 'owner', 'outsider', 'administrator', 'limited'].includes(who);
    if (signedIn.status !== (isUser ? 200 : 401)) wrong.push(`token by ${who}: ${signedIn.status}`);
    for (const route of routes) {
      const [method, url] = route.split(' ') as [string, string];
      const reference = url.includes('/manifests/') ? String(version) : digest!;
      const path = url.replace(':workspace', workspace).replace(':image', name).replace(':reference', reference);
      for (const token of [body.token, password]) {
        const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
        const answer = await fetch(world.server.url + path, { method, headers });
        const text = await answer.text();
        const isOfImage = path.includes(repository);
        const may = token === body.token && isUser && (who !== 'outsider' || !isOfImage);
        if (answer.status !== (may ? 200 : 401)) wrong.push(`${route} by ${who}: ${answer.status}`);
        if (who === 'outsider' && text.includes(repository) && answer.ok) wrong.push(`${route} tells ${who} of it`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

/** Objects of these have names that other workspaces have too, or the request makes them. */
const anywhere = new Set([
  'blobs.append',
  'members.set',
  'members.remove',
  'compute.attach',
  'datastores.get',
  'secrets.set',
]);

test('what lies in one workspace is not to be had through another by whoever owns that', async () => {
  const wrong: string[] = [];
  for (const { name, declaration } of eachVerb()) {
    if (!/\{workspace\}.*\{/.test(declaration.path) || anywhere.has(name)) continue;
    const asking = elsewhere(await requests[name as keyof typeof requests](world, 'outsider', freshName()));
    if (name === 'datastores.listFiles') continue; // of its own datastore of that name
    const answer = await ask(declaration, asking, world.tokens.outsider);
    if (!/^404 .*not-found$/.test(answer) && answer !== '403 compute.not-yours') wrong.push(`${name}: ${answer}`);
  }
  expect(wrong).toEqual([]);
});

/** Of methods that `fetch` would not send, too. */
function status(
  method: string,
  url: URL,
  token?: string,
  host = url.host,
): Promise<{ status: number; allow: string | undefined }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; allow: string | undefined }>();
  const headers = { host, ...(token !== undefined && { authorization: `Bearer ${token}` }) };
  request(url, { method, headers, agent: false }, (answer) => {
    answer.resume();
    resolve({ status: answer.statusCode!, allow: answer.headers.allow });
  })
    .on('error', reject)
    .end();
  return promise;
}

test('by another method an address does nothing, and says by which it does', async () => {
  const methods = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND', 'QUERY'];
  const byAddress = Map.groupBy(world.server.routes, ({ url }) => url);
  const wrong: string[] = [];
  for (const [url, there] of byAddress) {
    const path = url.replaceAll(/:(\w+)/g, (_, field) => (field === 'workspace' ? workspace : 'x1'));
    const other = [...byAddress.keys()].filter((one) => one !== url && leadsTo(one, path));
    const allowed = there.map(({ method }) => method);
    for (const method of methods) {
      if (allowed.includes(method) || other.some((one) => byAddress.get(one)!.some((route) => route.method === method)))
        continue;
      for (const token of [undefined, world.tokens.administrator]) {
        const answer = await status(method, new URL(path, world.server.url), token);
        if (answer.status !== 405 || (answer.allow ?? '').split(', ').sort().join() !== [...allowed].sort().join())
          wrong.push(`${method} ${path}: ${answer.status}, ${answer.allow}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

const leadsTo = (url: string, path: string) =>
  new RegExp(`^${url.replaceAll('.', '\\.').replaceAll(/:\w+/g, '[^/]+')}$`).test(path);

test('a token counts in its header only, and only as it was made', async () => {
  const token = world.tokens.administrator!;
  const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const unsigned = (head: object) => `${encoded(head)}.${encoded({ sub: 'admin', administrator: true })}.`;
  const me = `${world.server.url}${apiPrefix}/me`;
  const accepted: string[] = [];
  const tries: Record<string, [string, RequestInit?]> = {
    'in the address': [`${me}?token=${token}`],
    'in the address as OAuth has it': [`${me}?access_token=${token}`],
    'in the user part of the address': [me, { headers: { authorization: `Basic ${btoa(`admin:${token}`)}` } }],
    'as a cookie': [me, { headers: { cookie: `token=${token}; authorization=Bearer ${token}` } }],
    'in a header of its own': [me, { headers: { 'x-api-key': token, 'x-auth-token': token } }],
    'without a scheme': [me, { headers: { authorization: token } }],
    'of another scheme': [me, { headers: { authorization: `Token ${token}` } }],
    'with something after it': [me, { headers: { authorization: `Bearer ${token}, Bearer x` } }],
    twice: [me, { headers: { authorization: `Bearer ${token} ${token}` } }],
    'cut short': [me, { headers: { authorization: `Bearer ${token.slice(0, -1)}` } }],
    'in other case': [me, { headers: { authorization: `Bearer ${token.toUpperCase()}` } }],
    'as that of a run': [me, { headers: { authorization: `Bearer ${token.replace(/^sw_/, 'swr_')}` } }],
    'very long': [me, { headers: { authorization: `Bearer ${token.repeat(500)}` } }],
    'its hash': [me, { headers: { authorization: `Bearer ${'a'.repeat(64)}` } }],
    unsigned: [me, { headers: { authorization: `Bearer ${unsigned({ alg: 'none' })}` } }],
    'signed by a key of its choice': [
      me,
      { headers: { authorization: `Bearer ${unsigned({ alg: 'HS256', kid: '../../dev/null', crit: ['x'] })}` } },
    ],
    'as SQL': [me, { headers: { authorization: "Bearer '/**/OR/**/1=1--" } }],
  };
  for (const [how, [url, init]] of Object.entries(tries)) {
    const answer = await fetch(url, init);
    if (answer.status !== 401 && !(answer.status === 400 && url !== me)) accepted.push(`${how}: ${answer.status}`);
    await answer.body?.cancel();
  }
  expect(accepted).toEqual([]);
  expect((await fetch(me, { headers: { authorization: `Bearer ${token}` } })).status).toBe(200);
});

test('the answers of services are for those who hold a key of theirs, whoever else they are', async () => {
  const { admin, tokens } = world;
  const { scoringUri } = await admin.services.get({ workspace, service: 'with-keys' });
  const base = scoringUri.replace(/\/with-keys\/score$/, '');
  const keys = await admin.services.getKeys({ workspace, service: 'with-keys' });
  const others = await admin.services.getKeys({ workspace, service: 'second-keys' });
  const wrong: string[] = [];
  const knock = async (what: string, path: string, key: string | undefined, wanted: number, init: RequestInit = {}) => {
    const headers = key === undefined ? {} : { authorization: key };
    const answer = await fetch(base + path, { method: 'POST', body: '1', ...init, headers });
    if (answer.status !== wanted) wrong.push(`${what} ${path}: ${answer.status}, not ${wanted}`);
    for (const [name, value] of Object.entries(safe))
      expect(answer.headers.get(name), `${what} ${path}`).toEqual(value);
    expect(answer.headers.getSetCookie()).toEqual([]);
    await answer.body?.cancel();
  };
  const safe = { 'x-content-type-options': 'nosniff', 'content-security-policy': expect.stringContaining('sandbox') };
  const refused: Record<string, string | undefined> = {
    'no key': undefined,
    "another service's key": `Bearer ${others.primary}`,
    'a key without its scheme': keys.primary,
    'a key as a password': `Basic ${btoa(`x:${keys.primary}`)}`,
    'half a key': `Bearer ${keys.primary.slice(0, 20)}`,
    ...Object.fromEntries(people.map((who) => [who, tokens[who] && `Bearer ${tokens[who]}`])),
  };
  for (const path of ['/score', '/', '/ready', '/swagger.json', '/anything'])
    for (const [what, key] of Object.entries(refused)) await knock(what, `/with-keys${path}`, key, 401);
  await knock('a key in the address', `/with-keys/score?key=${keys.primary}&token=${keys.primary}`, undefined, 401);
  for (const [what, key] of Object.entries(keys)) {
    await knock(what, '/with-keys/score', `Bearer ${key}`, 200);
    await knock(what, '/second-keys/score', `Bearer ${key}`, 401);
    await knock(what, '/with-keys/', `Bearer ${key}`, 200, { method: 'GET', body: null });
    await knock(what, '/with-keys/anything', `Bearer ${key}`, 404);
    await knock(what, '/absent/score', `Bearer ${key}`, 404);
  }
  await knock('nobody', '/open/score', undefined, 200);
  const rebound = await status('POST', new URL(`${base}/open/score`), undefined, 'evil.example');
  expect(rebound.status, 'a page of another site whose name was made to point here').toBe(403);
  await knock('a key of a service opens nothing else', '/../../api/v1/me', `Bearer ${keys.primary}`, 404);
  const me = await fetch(`${world.server.url}${apiPrefix}/me`, {
    headers: { authorization: `Bearer ${keys.primary}` },
  });
  expect(me.status).toBe(401);
  expect(wrong).toEqual([]);
});
