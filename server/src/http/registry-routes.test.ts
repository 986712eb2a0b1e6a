import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import type { ImageParts } from '../oci/manifest.ts';
import { bearer, type HttpRig, httpRig, raw } from './http.fixture.ts';
import type { HttpSettings } from './server.ts';

let rig: HttpRig;
let parts: ImageParts;
async function start(settings: Partial<HttpSettings> = {}): Promise<void> {
  rig = await httpRig({}, settings);
  parts = await rig.images.put('w1', 'diabetes', 1, 'the layer');
}
afterEach(() => rig?.[Symbol.asyncDispose]());

const basic = (user: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
});
const pullOf = (repository: string) => `scope=repository:${repository}:pull`;
const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
  raw(rig.url + path, { headers, method });
const signIn = (user: 'owner' | 'reader' | 'outsider' | 'administrator', query: string) =>
  get(`/v2/token?service=stellwerk&${query}`, basic(user, rig.tokens[user]));
async function tokenFor(user: 'owner' | 'reader' | 'outsider' | 'administrator', query: string) {
  const answer = await signIn(user, query);
  expect(answer.status).toBe(200);
  return bearer(JSON.parse(answer.body).token);
}
/** Of an error; undefined of any other answer. */
const codeOf = (body: string) => /^\{"errors":\[\{"code":"(\w+)"/.exec(body)?.[1];
const sha256 = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;

describe('signing in to pull', () => {
  it('is told where to: at the address that was asked, or the public one', async () => {
    await start();
    const first = await get('/v2/');
    expect([first.status, codeOf(first.body)]).toEqual([401, 'UNAUTHORIZED']);
    const host = new URL(rig.url).host;
    expect(first.headers['www-authenticate']).toBe(`Bearer realm="http://${host}/v2/token",service="stellwerk"`);
    const image = await get('/v2/w1/diabetes/manifests/1');
    expect(image.headers['www-authenticate']).toMatch(/,scope="repository:w1\/diabetes:pull"$/);
    await rig[Symbol.asyncDispose]();
    await start({ publicUrl: 'https://ml.example.org' });
    expect((await get('/v2/')).headers['www-authenticate']).toContain('realm="https://ml.example.org/v2/token"');
  });

  it('takes the user name with a token of that user, and nothing else', async () => {
    await start();
    const { owner, reader } = rig.tokens;
    const run = await rig.runToken('r1');
    for (const headers of [
      {},
      basic('owner', 'wrong'),
      basic('owner', reader),
      basic('', owner),
      basic('owner', ''),
      basic('owner', run),
      bearer(owner),
      { authorization: 'Basic !' },
    ]) {
      const answer = await get(`/v2/token?${pullOf('w1/diabetes')}`, headers as Record<string, string>);
      expect([answer.status, codeOf(answer.body)]).toEqual([401, 'UNAUTHORIZED']);
      expect(answer.headers['www-authenticate']).toBe('Basic realm="stellwerk"');
    }
    const token = await tokenFor('owner', '');
    expect((await get('/v2/', token)).status).toBe(200);
    expect((await get('/v2/', bearer(owner))).status).toBe(401);
    expect((await get(`/api/v1/me`, token)).status).toBe(401);
  });

  it('gives a token for minutes, that ends with the one it was had for', async () => {
    await start();
    const token = await tokenFor('owner', pullOf('w1/diabetes'));
    const ask = async () => (await get('/v2/w1/diabetes/manifests/1', token)).status;
    expect(await ask()).toBe(200);
    rig.rig.pass(299_000);
    expect(await ask()).toBe(200);
    rig.rig.pass(2_000);
    expect(await ask()).toBe(401);
    const caller = await rig.rig.callerOf(rig.tokens.owner);
    const fresh = await tokenFor('owner', pullOf('w1/diabetes'));
    await rig.rig.access.tokens.revoke({ token: caller.tokenId }, caller);
    expect((await get('/v2/w1/diabetes/manifests/1', fresh)).status).toBe(401);
  });

  it('ends at once with the role in the workspace', async () => {
    await start();
    const token = await tokenFor('reader', pullOf('w1/diabetes'));
    expect((await get('/v2/w1/diabetes/manifests/1', token)).status).toBe(200);
    await rig.rig.access.members.remove({ workspace: 'w1', user: 'reader' });
    const answer = await get('/v2/w1/diabetes/manifests/1', token);
    expect([answer.status, codeOf(answer.body)]).toEqual([401, 'DENIED']);
  });
});

describe('an image is pulled', () => {
  it('by version, latest and digest, with its parts, by a Reader', async () => {
    await start();
    const token = await tokenFor('reader', pullOf('w1/diabetes'));
    const manifests = await Promise.all(
      ['1', 'latest', parts.manifest].map((reference) => get(`/v2/w1/diabetes/manifests/${reference}`, token)),
    );
    for (const { status, headers, body } of manifests) {
      expect([status, headers['content-type']]).toEqual([200, 'application/vnd.oci.image.manifest.v1+json']);
      expect([headers['docker-content-digest'], sha256(body)]).toEqual([parts.manifest, parts.manifest]);
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['access-control-allow-origin']).toBeUndefined();
    }
    const manifest = JSON.parse(manifests[0]!.body);
    for (const { digest, size } of [manifest.config, ...manifest.layers]) {
      const blob = await get(`/v2/w1/diabetes/blobs/${digest}`, token);
      expect([blob.status, sha256(blob.body), Number(blob.headers['content-length'])]).toEqual([200, digest, size]);
    }
    const [layer] = parts.layers;
    const range = await get(`/v2/w1/diabetes/blobs/${layer}`, { ...token, range: 'bytes=4-' });
    expect([range.status, range.body, range.headers['content-range']]).toEqual([206, 'layer', 'bytes 4-8/9']);
  });

  it('and asked about by HEAD, without its bytes', async () => {
    await start();
    const token = await tokenFor('reader', pullOf('w1/diabetes'));
    for (const path of ['manifests/1', `blobs/${parts.layers[0]}`]) {
      const [head, whole] = [
        await get(`/v2/w1/diabetes/${path}`, token, 'HEAD'),
        await get(`/v2/w1/diabetes/${path}`, token),
      ];
      expect([head.status, head.body]).toEqual([200, '']);
      for (const name of ['content-length', 'content-type', 'docker-content-digest'])
        expect(head.headers[name]).toBe(whole.headers[name]);
    }
    expect((await get('/v2/w1/diabetes/manifests/7', token, 'HEAD')).status).toBe(404);
  });

  it('with what lies in it only: not the layers of another image, nor of another workspace', async () => {
    await start();
    const other = await rig.images.put('w1', 'other', 1, 'other layer');
    const foreign = await rig.images.put('w2', 'secret', 1, 'secret layer');
    const token = await tokenFor('owner', pullOf('w1/diabetes'));
    for (const { layers, config, manifest } of [other, foreign]) {
      for (const digest of [...layers, config, manifest]) {
        const answer = await get(`/v2/w1/diabetes/blobs/${digest}`, token);
        expect([answer.status, codeOf(answer.body)]).toEqual([404, 'BLOB_UNKNOWN']);
      }
      const answer = await get(`/v2/w1/diabetes/manifests/${manifest}`, token);
      expect([answer.status, codeOf(answer.body)]).toEqual([404, 'MANIFEST_UNKNOWN']);
    }
  });

  it('from no workspace without a role in it, which is not told from one that is not there', async () => {
    await start();
    const answers = [];
    for (const workspace of ['w1', 'absent']) {
      const token = await tokenFor('outsider', pullOf(`${workspace}/diabetes`));
      for (const path of ['manifests/1', `blobs/${parts.layers[0]}`, 'tags/list']) {
        const { status, body } = await get(`/v2/${workspace}/diabetes/${path}`, token);
        answers.push([status, codeOf(body)].join(' '));
      }
    }
    expect(answers).toEqual(Array(6).fill('401 DENIED'));
  });

  it('with a token for that repository only', async () => {
    await start();
    await rig.images.put('w1', 'other', 1, 'other layer');
    const token = await tokenFor('owner', pullOf('w1/diabetes'));
    const answer = await get('/v2/w1/other/manifests/1', token);
    expect([answer.status, codeOf(answer.body)]).toEqual([401, 'DENIED']);
    expect(answer.headers['www-authenticate']).toMatch(/scope="repository:w1\/other:pull",error="insufficient_scope"$/);
    for (const query of ['scope=repository:w1/diabetes:push', 'scope=repository:w1/*:pull', 'scope=*', ''])
      expect((await get('/v2/w1/diabetes/manifests/1', await tokenFor('owner', query))).status).toBe(401);
    const both = await tokenFor('owner', `${pullOf('w1/diabetes')}&${pullOf('w1/other')}`);
    expect((await get('/v2/w1/other/manifests/1', both)).status).toBe(200);
  });

  it('by addresses that are what they seem', async () => {
    await start();
    const token = await tokenFor('owner', pullOf('w1/diabetes'));
    for (const [path, status] of [
      ['/v2/w1/diabetes/blobs/..%2f..%2fmaster.key', 400],
      ['/v2/w1/diabetes/blobs/sha256:..%2f..%2f..%2fmaster.key', 400],
      ['/v2/w1/diabetes/blobs/sha512:00', 400],
      ['/v2/w1/diabetes/manifests/..%2f1', 404],
      ['/v2/w1/diabetes/manifests/01', 404],
      ['/v2/w1/diabetes/manifests/1%00', 404],
      ['/v2/w2%2f..%2fw1/diabetes/manifests/1', 401],
      ['/v2/w1%2fdiabetes/manifests/1', 404],
      ['/v2/W1/diabetes/manifests/1', 401],
      ['/v2/w1%22,x=%22/diabetes/manifests/1', 401],
      ['/v2/w1/a%0d%0ax:y/manifests/1', 401],
    ] as const) {
      const answer = await get(path, token);
      expect([path, answer.status]).toEqual([path, status]);
      expect(codeOf(answer.body)).toBeTypeOf('string');
      expect(answer.headers['www-authenticate'] ?? '').not.toMatch(/x=|scope="repository:(?!w1\/diabetes|w2)/i);
    }
  });
});

describe('an image that was made for a run', () => {
  async function made() {
    await start();
    const run = { workspace: 'w1', run: 'r1', attempt: 2, user: 'owner', digest: parts.manifest };
    rig.attemptsOn.add('r1 2');
    const { name, signIn } = rig.registry.pullOf(run)!;
    const [, repository] = /^stellwerk\.test\/(.*)@sha256:\w+$/.exec(name)!;
    const ask = (query: string) => get(`/v2/token?${query}`, basic(signIn.user, signIn.password));
    const token = async (query = pullOf(repository!)) => bearer(JSON.parse((await ask(query)).body).token);
    return { repository: repository!, signIn, ask, token, run };
  }

  it('is pulled whole with the sign-in of that run, and nothing else is', async () => {
    const { repository, token } = await made();
    const other = await rig.images.put('w1', 'other', 1, 'other layer');
    const own = await token();
    const manifest = await get(`/v2/${repository}/manifests/${parts.manifest}`, own);
    expect([manifest.status, sha256(manifest.body)]).toEqual([200, parts.manifest]);
    for (const digest of [parts.config, ...parts.layers])
      expect(sha256((await get(`/v2/${repository}/blobs/${digest}`, own)).body)).toBe(digest);
    const status = async (path: string, headers = own) => (await get(`/v2/${path}`, headers)).status;
    expect(await status(`${repository}/manifests/latest`)).toBe(404);
    expect(await status(`${repository}/manifests/${other.manifest}`)).toBe(404);
    expect(await status(`${repository}/blobs/${other.layers[0]}`)).toBe(404);
    const theirs = `w1/x--made${other.manifest.slice('sha256:'.length)}`;
    const wide = await token(
      `${pullOf('w1/diabetes')}&${pullOf(theirs)}&${pullOf(repository.replace('w1', 'w2'))}&scope=registry:catalog:*`,
    );
    expect(await status('w1/diabetes/manifests/1', wide)).toBe(401);
    expect(await status(`${theirs}/manifests/${other.manifest}`, wide)).toBe(401);
    expect(await status(`${repository.replace('w1', 'w2')}/manifests/${parts.manifest}`, wide)).toBe(401);
    expect(await status('_catalog', wide)).toBe(403);
  });

  it('is pulled no more once that attempt is over, with a token that was had before either', async () => {
    const { repository, ask, token } = await made();
    const before = await token();
    rig.attemptsOn.clear();
    rig.attemptsOn.add('r1 3');
    expect((await ask(pullOf(repository))).status).toBe(401);
    expect((await get(`/v2/${repository}/manifests/${parts.manifest}`, before)).status).toBe(401);
  });

  it('is no user’s to pull, and its sign-in is not to be had under another name', async () => {
    const { repository, signIn } = await made();
    const owner = await tokenFor('owner', pullOf(repository));
    expect((await get(`/v2/${repository}/manifests/${parts.manifest}`, owner)).status).toBe(401);
    for (const [user, password] of [
      ['owner', signIn.password],
      [signIn.user, rig.tokens.owner],
      [signIn.user, `${signIn.password.slice(0, -8)}AAAAAAA=`],
    ])
      expect((await get(`/v2/token?${pullOf(repository)}`, basic(user!, password!))).status).toBe(401);
    expect((await get('/api/v1/me', bearer(signIn.password))).status).toBe(401);
  });
});

describe('what there is to pull is listed', () => {
  it('of the workspaces that the caller sees, page by page', async () => {
    await start();
    await rig.images.put('w1', 'My Model', 1, 'mine');
    await rig.images.put('w1', 'zebra', 1, 'zebra');
    await rig.images.put('w2', 'secret', 1, 'secret');
    const token = await tokenFor('reader', 'scope=registry:catalog:*');
    const all = ['w1/x---4d-y-204d-odel', 'w1/diabetes', 'w1/zebra'];
    expect(JSON.parse((await get('/v2/_catalog', token)).body)).toEqual({ repositories: all });
    const found: string[] = [];
    for (let next: string | undefined = '/v2/_catalog?n=1'; next; ) {
      const { body, headers } = await get(next, token);
      found.push(...JSON.parse(body).repositories);
      next = /^<([^>]+)>; rel="next"$/.exec(String(headers.link ?? ''))?.[1];
    }
    expect(found).toEqual(all);
    expect(JSON.parse((await get('/v2/_catalog?last=w2/a', token)).body)).toEqual({ repositories: [] });
    expect((await get('/v2/_catalog?n=x', token)).status).toBe(400);
    expect((await get('/v2/_catalog', await tokenFor('reader', ''))).status).toBe(401);
    expect((await get('/v2/_catalog')).status).toBe(401);
  });

  it('as tags of an image, in the order of their letters', async () => {
    await start();
    for (const version of [2, 10, 9]) await rig.images.put('w1', 'diabetes', version, `layer ${version}`);
    const token = await tokenFor('reader', `${pullOf('w1/diabetes')} repository:w1/absent:pull`);
    const tags = async (query: string) => {
      const { body, headers } = await get(`/v2/w1/diabetes/tags/list${query}`, token);
      return [JSON.parse(body).tags, headers.link !== undefined];
    };
    expect(await tags('')).toEqual([['1', '10', '2', '9', 'latest'], false]);
    expect(await tags('?n=2')).toEqual([['1', '10'], true]);
    expect(await tags('?n=2&last=10')).toEqual([['2', '9'], true]);
    expect(await tags('?n=2&last=9')).toEqual([['latest'], false]);
    expect(await tags('?n=0')).toEqual([[], false]);
    expect((await get('/v2/w1/absent/tags/list', token)).status).toBe(404);
  });
});

it('nothing is taken: pushing and deleting are refused in the words of container programs', async () => {
  await start();
  const token = await tokenFor('owner', pullOf('w1/diabetes'));
  for (const [method, path, status] of [
    ['POST', '/v2/w1/diabetes/blobs/uploads/', 404],
    ['PUT', '/v2/w1/diabetes/manifests/1', 405],
    ['DELETE', `/v2/w1/diabetes/blobs/${parts.layers[0]}`, 405],
    ['POST', '/v2/token', 405],
  ] as const) {
    const answer = await get(path, token, method);
    expect([method, path, answer.status, codeOf(answer.body)]).toEqual([method, path, status, 'UNSUPPORTED']);
  }
});

it('who reaches it by another name gets nothing', async () => {
  await start();
  const answer = await get('/v2/', { host: 'evil.example' });
  expect([answer.status, codeOf(answer.body)]).toEqual([403, 'DENIED']);
});
