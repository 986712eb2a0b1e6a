import { limits } from '@stellwerk/contract/values.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { bearer, type HttpRig, httpRig, raw } from './http.fixture.ts';

let rig: HttpRig;
beforeAll(async () => {
  rig = await httpRig({});
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(() => void rig.calls.splice(0));

const json = { 'content-type': 'application/json' };
async function ask(method: string, path: string, body?: string, headers: Record<string, string> = json) {
  const answer = await raw(`${rig.url}/api/v1${path}`, {
    method,
    headers: { ...bearer(rig.tokens.owner), ...(body === undefined ? {} : headers) },
    ...(body !== undefined && { body }),
  });
  return { status: answer.status, headers: answer.headers, ...JSON.parse(answer.body) };
}
const given = () => rig.calls.at(-1)?.input;

describe('a query', () => {
  it('becomes numbers, truth values and lists where the contract says so', async () => {
    await ask('GET', '/workspaces/w1/images?pageSize=7&tag=stage%3Dprod&name=12');
    expect(given()).toEqual({ workspace: 'w1', pageSize: 7, tag: ['stage=prod'], name: '12' });
    await ask('GET', '/workspaces/w1/images?tag=a&tag=b');
    expect(given()).toMatchObject({ tag: ['a', 'b'] });
    const log = `${rig.url}/api/v1/workspaces/w1/activities/a1/log?offset=10&follow=true`;
    expect((await raw(log, { headers: bearer(rig.tokens.owner) })).body).toBe('text');
    expect(given()).toMatchObject({ activity: 'a1', offset: 10, follow: true });
  });

  it('is refused with the field’s name when a value does not fit', async () => {
    for (const [query, field] of [
      ['pageSize=many', 'pageSize'],
      ['pageSize=1.5', 'pageSize'],
      ['pageSize=0', 'pageSize'],
      ['pageSize=1000000000', 'pageSize'],
      ['pageSize=', 'pageSize'],
      ['pageSize=1&pageSize=2', 'pageSize'],
      ['tga=x', 'tga'],
      ['__proto__=x', '__proto__'],
      ['workspace=w2', 'workspace'],
    ] as const) {
      const answer = await ask('GET', `/workspaces/w1/images?${query}`);
      expect(answer).toMatchObject({ status: 400, code: 'invalid-argument', reason: 'request.invalid' });
      expect(answer.message).toContain(field);
    }
    expect(rig.calls).toEqual([]);
  });

  it('has room for the longest path of a file', async () => {
    const path = 'ü/'.repeat(limits.pathLength / 2 - 1);
    await ask('DELETE', `/workspaces/w1/datastores/store/files?path=${encodeURIComponent(`${path}x`)}`);
    expect(given()).toMatchObject({ path: `${path}x` });
  });
});

describe('a body', () => {
  it('gets the defaults of the contract and the fields of the path', async () => {
    await ask('POST', '/workspaces/w1/services', '{"name":"s1","image":"i"}');
    expect(given()).toEqual({
      workspace: 'w1',
      name: 's1',
      image: 'i',
      target: 'host',
      replicas: 1,
      authentication: 'key',
      timeoutSeconds: 60,
    });
  });

  it('is refused with the names of unknown, missing and wrong fields, as a program can read them', async () => {
    const answer = await ask('POST', '/workspaces/w1/services', '{"name":"-","colour":"red","replicas":"2"}');
    expect(answer.status).toBe(400);
    for (const field of ['name', 'image', 'replicas', 'colour']) expect(answer.message).toContain(field);
    expect(answer.details.issues.map((issue: { path: string[] }) => issue.path.join('.'))).toEqual(
      expect.arrayContaining(['name', 'image', 'replicas']),
    );
    expect(answer.hint).toContain('/openapi.json');
  });

  it('with more tags, or longer lists, than the contract allows is refused', async () => {
    const tags = Object.fromEntries(Array.from({ length: limits.tags + 1 }, (_, at) => [`t${at}`, 'x']));
    const answer = await ask('POST', '/workspaces/w1/services', JSON.stringify({ name: 's1', image: 'i', tags }));
    expect(answer).toMatchObject({ status: 400, message: expect.stringContaining('at most 50 entries') });
    expect(rig.calls).toEqual([]);
  });

  it('may not say otherwise than the path', async () => {
    const answer = await ask('POST', '/workspaces/w1/services', '{"name":"s1","image":"i","workspace":"w2"}');
    expect(answer).toMatchObject({ status: 400, message: expect.stringContaining('workspace') });
  });

  it('that is no JSON object is refused', async () => {
    for (const body of ['{', '', 'null', '[]', '"x"', '1', '{"a":1}}', '\u0000']) {
      const answer = await ask('POST', '/workspaces/w1/services', body);
      expect(answer).toMatchObject({ status: 400, reason: 'request.invalid' });
    }
    expect(rig.calls).toEqual([]);
  });

  it('is refused before anybody looks at it if it is nested without end or has keys without end, with a short answer', async () => {
    const send = (body: string) => ask('PATCH', '/workspaces/w1', body);
    for (const [open, close] of [
      ['[', ']'],
      ['{"a":', '}'],
    ] as const)
      expect(await send(`{"tags":${open.repeat(200_000)}1${close.repeat(200_000)}}`)).toMatchObject({
        status: 400,
        message: 'The request is not valid: it is nested more than 100 levels deep.',
      });
    for (const body of ['{"tags":'.repeat(30_000), `${'["a",'.repeat(30_000)}"b"]`]) // V8 breaks on the like of these
      expect((await send(body)).message).toContain('nested more than 100 levels deep');
    const keys = Array.from({ length: 500_000 }, (_, i) => `"k${i}":1`).join();
    for (const body of [`{${keys}}`, `{"tags":{${keys}}}`])
      expect(await send(body)).toMatchObject({
        status: 400,
        message: 'The request is not valid: an object in it has more than 10000 keys.',
      });
    const long = await send(`{"${'x'.repeat(100_000)}":1,${keys.slice(0, 50_000)}"z":1}`);
    expect(long.status).toBe(400);
    expect(JSON.stringify(long).length).toBeLessThan(20_000);
  });

  it('with a key that would reach into every object is refused', async () => {
    for (const body of [
      '{"name":"s1","image":"i","__proto__":{"administrator":true}}',
      '{"name":"s1","image":"i","tags":{"__proto__":{"x":"y"}}}',
      '{"name":"s1","image":"i","constructor":{"prototype":{"x":1}}}',
    ]) {
      const answer = await ask('POST', '/workspaces/w1/services', body);
      expect(answer).toMatchObject({ status: 400, reason: 'request.invalid' });
    }
    expect(Object.prototype).not.toHaveProperty('administrator');
    expect(rig.calls).toEqual([]);
  });

  it('of another media type is refused, for JSON and for bytes', async () => {
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    const text = { 'content-type': 'text/plain' };
    for (const headers of [form, text, {}, { 'content-type': 'application/octet-stream' }])
      expect(await ask('POST', '/workspaces/w1/services', '{}', headers)).toMatchObject({
        status: 415,
        reason: 'request.media-type',
      });
    const upload = rig.calls.length;
    const snapshots = '/workspaces/w1/snapshots/s/files';
    expect(await ask('POST', snapshots, '{}', json)).toMatchObject({ status: expect.any(Number) });
    expect(rig.calls).toHaveLength(upload);
  });

  it('that is too large is refused, from strangers sooner', async () => {
    const large = JSON.stringify({ name: 's1', image: 'i', description: 'x'.repeat(limits.jsonBodyBytes) });
    expect(await ask('POST', '/workspaces/w1/services', large)).toMatchObject({
      status: 413,
      code: 'too-large',
      reason: 'request.too-large',
    });
    const body = JSON.stringify({ user: 'x', password: 'y'.repeat(100_000) });
    const answer = await raw(`${rig.url}/api/v1/sign-in`, { method: 'POST', headers: json, body });
    expect(answer.status).toBe(413);
  });

  it('is not read before it is known who sends it', async () => {
    const large = 'x'.repeat(limits.jsonBodyBytes + 1); // no JSON either: both would be said of whoever may send
    const by = (headers: Record<string, string>) =>
      raw(`${rig.url}/api/v1/workspaces/w1/services`, { method: 'POST', headers: { ...json, ...headers }, body: large })
        .then(({ status }) => status)
        .catch((error: NodeJS.ErrnoException) => error.code); // turned away while it was still sending
    expect([401, 'EPIPE', 'ECONNRESET']).toContain(await by({}));
    expect([403, 'EPIPE', 'ECONNRESET']).toContain(await by(bearer(rig.tokens.reader)));
    expect(rig.calls).toEqual([]);
  });
});

describe('an address', () => {
  it('names the workspace in any case; the room gets its true name', async () => {
    await ask('GET', '/workspaces/W1/images');
    expect(given()).toEqual({ workspace: 'w1' });
  });

  it('that leads nowhere is answered in our words, also when it cannot be read at all', async () => {
    for (const path of ['/nothing', '/workspaces/w1/images/a/b/c/d', '/../../etc/passwd', '//'])
      expect(await ask('GET', path)).toMatchObject({ status: 404, reason: 'request.unknown-route' });
    expect(await ask('PUT', '/server')).toMatchObject({ status: 405, reason: 'request.unknown-route' });
    const bad = await ask('GET', '/workspaces/w1/images/%ff/1');
    expect(bad).toMatchObject({ status: 400, reason: 'request.invalid' });
    expect(bad.headers['x-content-type-options']).toBe('nosniff');
  });

  it('with an escaped slash in a name is refused by the name, not taken for another address', async () => {
    const answer = await ask('GET', '/workspaces/w1/images/a%2f..%2fb/1');
    expect(answer).toMatchObject({ status: 400, message: expect.stringContaining('name') });
  });
});
