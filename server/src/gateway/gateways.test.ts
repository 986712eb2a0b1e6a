import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { knownHosts } from '@stellwerk/contract/hosts.ts';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { identify, isAlive, killProcess } from '../exec/processes.ts';
import { Gateway, type GatewayNeeds, type GatewayStatus, type ServiceRoute } from './gateways.ts';

const folder = mkdtempSync(join(tmpdir(), 'stellwerk-gateway-'));
const needs: GatewayNeeds = {
  folder: join(folder, 'gateway'),
  settings: { host: '127.0.0.1', port: 0, accessLog: true, version: '1' },
  program: { command: process.execPath, args: [join(import.meta.dirname, 'main.ts')] },
};
const gateway = new Gateway(needs);
let status: GatewayStatus;
const servers: Server[] = [];

beforeAll(async () => {
  status = await gateway.ensureRunning();
});
afterAll(async () => {
  await gateway.stop();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(async () => {
  await gateway.writeRoutes([]);
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

type RequestBody = NonNullable<RequestInit['body']>;

interface Seen {
  id: string;
  address: { socketPath: string };
  requests: IncomingMessage[];
  bodies: string[];
  server: Server;
}

let count = 0;

/** A replica: a real HTTP server on a Unix socket. The handler answers all but `/ready`. */
async function replica(
  handler: (request: IncomingMessage, response: ServerResponse, body: string) => void = (_, response) =>
    void response.end('ok'),
  isReady = () => true,
  notReady = '{"reason": "init() has not ended yet."}',
): Promise<Seen> {
  const id = `r${++count}`;
  const seen: Seen = {
    id,
    address: { socketPath: join(folder, `${id}.sock`) },
    requests: [],
    bodies: [],
    server: undefined as unknown as Server,
  };
  const listener: RequestListener = async (request, response) => {
    if (request.url === '/ready') return void response.writeHead(isReady() ? 200 : 503).end(notReady);
    seen.requests.push(request);
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return; // the caller left
    }
    seen.bodies.push(Buffer.concat(chunks).toString());
    handler(request, response, seen.bodies.at(-1)!);
  };
  seen.server = createServer(listener);
  servers.push(seen.server);
  await new Promise<void>((listening) => void seen.server.listen(seen.address.socketPath, listening));
  return seen;
}

const key = 'a-good-key';
const hashOf = (text: string) => createHash('sha256').update(text).digest('hex');

function route(
  replicas: Pick<Seen, 'id' | 'address'>[],
  more: Partial<ServiceRoute> = {},
  limits: Partial<ServiceRoute['limits']> = {},
): ServiceRoute {
  return {
    workspace: 'ws',
    service: 'svc',
    replicas: replicas.map(({ id, address }) => ({ id, address })),
    authentication: 'key',
    keyHashes: [hashOf(key), hashOf('second')],
    limits: { bodyBytes: 100_000, timeoutMs: 10_000, inFlight: 1_000, ...limits },
    ...more,
  };
}

/** Writes the routes and waits until all their replicas are ready. */
async function serve(...routes: ServiceRoute[]): Promise<void> {
  await gateway.writeRoutes(routes);
  const allReady = async () =>
    (await gateway.status())!.services.every((service) => service.replicas.every(({ ready }) => ready));
  await expect.poll(allReady, { timeout: 10_000, interval: 20 }).toBe(true);
}

const url = (path = '/services/ws/svc/score') => `http://127.0.0.1:${status.port}${path}`;
function score(
  body: RequestBody | null = '{}',
  headers: Record<string, string> = {},
  path?: string,
): Promise<Response> {
  return fetch(url(path), {
    method: 'POST',
    body,
    headers: { authorization: `Bearer ${key}`, ...headers },
    duplex: 'half',
  } as RequestInit);
}

/** Sends bytes as they are and collects what comes back until the connection ends. */
function raw(text: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect(status.port, '127.0.0.1', () => socket.write(text));
  let answer = '';
  socket.on('data', (data) => {
    answer += data;
  });
  socket.on('error', () => {}).on('close', () => resolve(answer));
  socket.setTimeout(2_000, () => socket.destroy());
  return promise;
}

const serviceStatus = async () => (await gateway.status())!.services[0]!;

describe('who may ask', () => {
  it('either key is good, and nothing else', async () => {
    const one = await replica();
    await serve(route([one]));
    for (const good of [key, 'second'])
      expect((await score('{}', { authorization: `Bearer ${good}` })).status).toBe(200);
    for (const bad of [
      'Bearer wrong',
      'Bearer',
      `Basic ${key}`,
      key,
      `Bearer ${key} x`,
      `Bearer ${hashOf(key)}`,
      'Bearer ',
    ]) {
      const answer = await score('{}', { authorization: bad });
      expect([bad, answer.status]).toEqual([bad, 401]);
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
      expect(await answer.json()).toMatchObject({ code: 'unauthenticated', reason: 'web-service.key-needed' });
    }
    expect((await fetch(url('/services/ws/svc/'))).status).toBe(401);
    expect(one.requests).toHaveLength(2);
  });

  it('a key that only a browser keeps is none, and no page of another site may read what the gateway answers', async () => {
    const one = await replica();
    await serve(route([one]));
    for (const method of ['POST', 'OPTIONS']) {
      const cookie = `authorization=Bearer ${key}; key=${key}`;
      const answer = await fetch(url(), { method, headers: { origin: 'https://evil.example', cookie } });
      expect([method, answer.status]).toEqual([method, 401]);
      expect([...answer.headers.keys()].filter((name) => /^access-control|^set-cookie/.test(name))).toEqual([]);
      expect(answer.headers.get('x-frame-options')).toBe('DENY');
    }
    expect(one.requests).toEqual([]);
  });

  it('a service without a key needs one if its authentication says so', async () => {
    const one = await replica();
    await serve(
      route([one], { keyHashes: [] }),
      route([one], { service: 'open', authentication: 'none', keyHashes: [] }),
    );
    expect((await score('{}', { authorization: 'Bearer ' })).status).toBe(401);
    expect((await fetch(url('/services/ws/open/score'), { method: 'POST', body: '{}' })).status).toBe(200);
  });

  it('a key replaced in the routes is good from then on, the old one no more', async () => {
    const one = await replica();
    await serve(route([one]));
    await gateway.writeRoutes([route([one], { keyHashes: [hashOf('new')] })]);
    expect((await score()).status).toBe(401);
    expect((await score('{}', { authorization: 'Bearer new' })).status).toBe(200);
  });

  it('what is not there is not found', async () => {
    await serve(route([await replica()]));
    for (const path of [
      '/',
      '/services',
      '/services/ws',
      '/services/ws/',
      '/ws/svc/score',
      '/services/ws/other/score',
      '/services/other/svc/score',
      '/services//svc/score',
    ]) {
      expect([path, (await score('{}', {}, path)).status]).toEqual([path, 404]);
    }
  });

  it('paths cannot climb out of a service, however they are spelled', async () => {
    const one = await replica();
    await serve(route([one]));
    for (const path of [
      '/services/ws/svc/../other',
      '/services/ws/svc/%2e%2E/x',
      '/services/ws/svc/..%2fx',
      '/services/ws/svc/a%5c..%5cb',
      '/services/ws/svc/.',
      'http://elsewhere/services/ws/svc/score',
    ]) {
      expect([
        path,
        await raw(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nConnection: close\r\n\r\n`),
      ]).toEqual([path, expect.stringMatching(/^HTTP\/1.1 400 /)]);
    }
    expect(one.requests).toEqual([]);
  });
});

describe('what is passed on', () => {
  it('path, query, body, status and headers of both sides', async () => {
    const one = await replica(
      (_, response, body) =>
        void response.writeHead(201, { 'x-mine': 'yes', 'content-type': 'text/html' }).end(`<b>${body}</b>`),
    );
    await serve(route([one]));
    const answer = await score('däta', { 'x-ours': '1' }, '/services/ws/svc/score/deep?x=%2F..&y');
    expect([answer.status, answer.headers.get('x-mine'), await answer.text()]).toEqual([201, 'yes', '<b>däta</b>']);
    expect([one.requests[0]!.url, one.requests[0]!.headers['x-ours'], one.requests[0]!.method]).toEqual([
      '/score/deep?x=%2F..&y',
      '1',
      'POST',
    ]);
    await score('', {}, '/services/ws/svc');
    expect(one.requests[1]!.url).toBe('/');
  });

  const ofTheWholeHost = [
    'accept-ch',
    'alt-svc',
    'clear-site-data',
    'content-security-policy-report-only',
    'nel',
    'origin-agent-cluster',
    'public-key-pins',
    'report-to',
    'reporting-endpoints',
    'server',
    'service-worker-allowed',
    'set-cookie',
    'set-cookie2',
    'strict-transport-security',
    'www-authenticate',
  ];

  it('but neither the key, nor cookies, nor anything that concerns one connection only', async () => {
    const one = await replica((_, response) => {
      response
        .writeHead(200, {
          ...Object.fromEntries(ofTheWholeHost.map((name) => [name, 'x'])),
          connection: 'x-hop, close',
          'x-hop': '1',
          'proxy-authenticate': 'Basic',
          'proxy-connection': 'keep-alive',
          'content-security-policy': 'none',
          'referrer-policy': 'unsafe-url',
          'x-frame-options': 'ALLOW',
          'access-control-allow-origin': 'https://app.example',
          'content-type': 'text/html',
        })
        .end('ok');
    });
    await serve(route([one]));
    const { promise, resolve } = Promise.withResolvers<IncomingMessage>();
    const headers = {
      authorization: `Bearer ${key}`,
      cookie: 'session=1',
      connection: 'x-hop, keep-alive',
      'x-hop': '1',
      'x-forwarded-for': '1.2.3.4',
      te: 'trailers',
      upgrade: 'h2c',
      'proxy-authorization': 'x',
    };
    request(url(), { method: 'POST', headers }, resolve).end('{}');
    const answer = await promise;
    answer.resume();
    for (const name of ['authorization', 'cookie', 'x-hop', 'x-forwarded-for', 'te', 'upgrade', 'proxy-authorization'])
      expect(one.requests[0]!.headers).not.toHaveProperty(name);
    for (const name of [...ofTheWholeHost, 'x-hop', 'proxy-authenticate', 'proxy-connection'])
      expect(answer.headers).not.toHaveProperty(name);
    expect(answer.headers).toMatchObject({
      'content-security-policy': 'sandbox',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'x-frame-options': 'DENY',
      // The author's to say: who may call from where, and what it is.
      'access-control-allow-origin': 'https://app.example',
      'content-type': 'text/html',
    });
  });

  it('bodies stream both ways', async () => {
    const one = await replica();
    one.server.removeAllListeners('request');
    one.server.on('request', (request, response) =>
      request.url === '/ready' ? response.end() : void request.pipe(response),
    );
    await serve(route([one], {}, { bodyBytes: 50_000_000 }));
    const chunk = Buffer.alloc(1_000_000, 'x');
    const answer = await score(Readable.toWeb(Readable.from(Array.from({ length: 20 }, () => chunk))) as RequestBody);
    let size = 0;
    for await (const part of answer.body!) size += part.length;
    expect(size).toBe(20_000_000);
    expect((await gateway.status())!.services[0]!.inFlight).toBe(0);
  });

  it('a caller who expects to be told to go on is told', async () => {
    const one = await replica((_, response, body) => void response.end(body));
    await serve(route([one]));
    const answer = await raw(
      `POST /services/ws/svc/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/);
  });
});

it('a host that it was not told of is refused, a page of another site’s among them; what a page could be framed in, too', async () => {
  const strict = new Gateway({
    ...needs,
    folder: join(folder, 'strict'),
    settings: { ...needs.settings, hosts: knownHosts('127.0.0.1', 'https://ml.example.org', 'machine') },
  });
  const { port } = await strict.ensureRunning();
  const one = await replica();
  await strict.writeRoutes([route([one], { authentication: 'none' })]);
  const ask = async (host: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    request(`http://127.0.0.1:${port}/services/ws/svc/score`, { headers: { host } }, resolve).on('error', reject).end();
    const answer = (await promise).resume();
    expect(answer.headers).toMatchObject({ 'x-frame-options': 'DENY', 'x-content-type-options': 'nosniff' });
    return answer.statusCode;
  };
  try {
    await expect.poll(() => ask('localhost'), { timeout: 10_000 }).toBe(200);
    for (const host of [`127.0.0.1:${port}`, 'ML.example.org:8443', 'machine'])
      expect([host, await ask(host)]).toEqual([host, 200]);
    for (const host of ['evil.example', `evil.example:${port}`, '10.0.0.1', 'localhost.evil.example'])
      expect([host, await ask(host)]).toEqual([host, 403]);
  } finally {
    await strict.stop();
  }
});

describe('two ways to read a request', () => {
  const attack = (headers: string, body: string) =>
    `POST /services/ws/svc/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\n${headers}\r\n\r\n${body}`;
  const hidden = 'GET /services/ws/svc/hidden HTTP/1.1\r\nHost: x\r\n\r\n';
  const attacks: Record<string, string> = {
    'length and chunks': attack(
      `Content-Length: ${hidden.length + 5}\r\nTransfer-Encoding: chunked`,
      `0\r\n\r\n${hidden}`,
    ),
    'chunks and length': attack('Transfer-Encoding: chunked\r\nContent-Length: 4', `0\r\n\r\n${hidden}`),
    'two lengths': attack(`Content-Length: 0\r\nContent-Length: ${hidden.length}`, hidden),
    'a list of lengths': attack('Content-Length: 0, 5', hidden),
    'a length with a sign': attack('Content-Length: +0', hidden),
    'an unknown encoding': attack('Transfer-Encoding: xchunked', `0\r\n\r\n${hidden}`),
    'chunked twice': attack('Transfer-Encoding: chunked, chunked', `0\r\n\r\n${hidden}`),
    'chunked and identity': attack('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity', `0\r\n\r\n${hidden}`),
    'a space before the colon': attack('Transfer-Encoding : chunked\r\nContent-Length: 4', `0\r\n\r\n${hidden}`),
    'a folded header': attack('X: y\r\n Transfer-Encoding: chunked', `0\r\n\r\n${hidden}`),
    'a chunk size with garbage': attack('Transfer-Encoding: chunked', `5x\r\nhello\r\n0\r\n\r\n${hidden}`),
    'a chunk longer than it says': attack('Transfer-Encoding: chunked', `2\r\nhello\r\n0\r\n\r\n${hidden}`),
    'a bare line feed in a chunk size': attack('Transfer-Encoding: chunked', `5\nhello\r\n0\r\n\r\n${hidden}`),
  };

  it.each(Object.entries(attacks))('%s: the hidden request never arrives', async (_, bytes) => {
    const one = await replica();
    await serve(route([one], { authentication: 'none' }));
    const answer = await raw(bytes);
    expect(one.requests.map(({ url }) => url)).not.toContain('/hidden');
    expect(one.bodies.join()).not.toContain('HTTP/1.1');
    expect(answer).toMatch(/^HTTP\/1.1 400 /);
    expect((await score()).status).toBe(200);
  });

  it('headers over the limit and broken requests are refused, and the gateway goes on', async () => {
    await serve(route([await replica()]));
    expect(await raw(attack(`X: ${'x'.repeat(20_000)}\r\nContent-Length: 0`, ''))).toMatch(/^HTTP\/1.1 431 /);
    expect(await raw('nonsense\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw('GET /services/ws/svc/ HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw('CONNECT ws:80 HTTP/1.1\r\nHost: x\r\n\r\n')).toBe('');
    expect((await score()).status).toBe(200);
  });

  it('an answer that no HTTP answer may be costs its request only', async () => {
    const one = await replica(
      (_, response) =>
        void response.socket!.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello'),
    );
    await serve(route([one]));
    expect((await score()).status).toBe(502);
    expect((await serviceStatus()).replicas[0]!.inFlight).toBe(0);
  });
});

describe('limits', () => {
  it('a body over the limit is refused, with a length at once and without one when it gets there', async () => {
    const one = await replica();
    await serve(route([one]));
    const large = await score('x'.repeat(100_001));
    expect([large.status, await large.json()]).toMatchObject([413, { reason: 'web-service.body-too-large' }]);
    expect(one.requests).toEqual([]);
    const chunks = Readable.from(Array.from({ length: 30 }, () => Buffer.alloc(10_000)));
    expect((await score(Readable.toWeb(chunks) as RequestBody)).status).toBe(413);
    expect((await score('x'.repeat(100_000))).status).toBe(200);
  });

  it('an answer that takes too long is given up', async () => {
    const one = await replica(() => {});
    await serve(route([one], {}, { timeoutMs: 200 }));
    const answer = await score();
    expect([answer.status, await answer.json()]).toMatchObject([
      504,
      { code: 'deadline-exceeded', reason: 'web-service.timeout' },
    ]);
    await expect.poll(async () => (await serviceStatus()).replicas[0]!.inFlight).toBe(0);
  });

  it('more requests at once than allowed are refused, and other services are not concerned', async () => {
    const waiting: ServerResponse[] = [];
    const slow = await replica((_, response) => void waiting.push(response));
    const other = await replica();
    await serve(route([slow], {}, { inFlight: 2 }), route([other], { service: 'other' }));
    const accepted = [score(), score()];
    await expect.poll(() => waiting.length).toBe(2);
    const refused = await score();
    expect([refused.status, refused.headers.get('retry-after'), await refused.json()]).toMatchObject([
      503,
      '1',
      { reason: 'web-service.overloaded' },
    ]);
    expect((await score('{}', {}, '/services/ws/other/score')).status).toBe(200);
    for (const response of waiting) response.end('ok');
    expect((await Promise.all(accepted)).map((answer) => answer.status)).toEqual([200, 200]);
  });
});

describe('replicas', () => {
  it('the one with the fewest requests is asked', async () => {
    const waiting: ServerResponse[] = [];
    const slow = await replica((_, response) => void waiting.push(response));
    const fast = await replica();
    await serve(route([slow, fast]));
    const answers = [score(), score()];
    await expect.poll(() => waiting.length).toBe(1);
    for (let i = 0; i < 20; i++) expect((await score()).status).toBe(200);
    expect(slow.requests).toHaveLength(1);
    for (const response of waiting) response.end('ok');
    await Promise.all(answers);
  });

  it('share what is asked evenly', async () => {
    const three = [await replica(), await replica(), await replica()];
    await serve(route(three));
    for (let i = 0; i < 30; i++) await (await score()).text();
    expect(three.map(({ requests }) => requests.length)).toEqual([10, 10, 10]);
  });

  it('may say anything of why they are not ready', async () => {
    const deep = `{"reason":"deep","x":${'['.repeat(2_000)}${']'.repeat(2_000)}}`;
    for (const text of ['', 'null', '[]', '{"reason":7}', deep, `${'["prop",'.repeat(30_000)}"key","value"]`]) {
      const unready = await replica(undefined, () => false, text);
      await gateway.writeRoutes([route([unready])]);
      await expect
        .poll(async () => (await serviceStatus()).replicas[0])
        .toMatchObject({ id: unready.id, ready: false, reason: 'It answers that it is not ready.' });
    }
  });

  it('without one that is ready the service is unavailable, and back when one is', async () => {
    let ready = false;
    const one = await replica(undefined, () => ready);
    await gateway.writeRoutes([route([one])]);
    await expect
      .poll(async () => (await serviceStatus()).replicas[0])
      .toMatchObject({ ready: false, reason: 'init() has not ended yet.' });
    const answer = await score();
    expect([answer.status, await answer.json()]).toMatchObject([503, { reason: 'web-service.no-replica' }]);
    ready = true;
    await expect.poll(async () => (await score()).status).toBe(200);
  });

  it('one that cannot be connected to costs no request', async () => {
    const [dead, alive] = [await replica(), await replica()];
    await serve(route([dead, alive]));
    dead.server.closeAllConnections();
    dead.server.close();
    const statuses = [];
    for (let i = 0; i < 10; i++)
      statuses.push((await score(Readable.toWeb(Readable.from([Buffer.from('streamed')])) as RequestBody)).status);
    expect(statuses).toEqual(new Array(10).fill(200));
    expect(alive.bodies).toEqual(new Array(10).fill('streamed'));
    expect((await serviceStatus()).replicas.find(({ id }) => id === dead.id)!.ready).toBe(false);
  });

  it('a request that one may have processed is never sent to another', async () => {
    const dying = await replica((request) => void request.socket.destroy());
    const other = await replica();
    await serve(route([dying, other]));
    const statuses = [];
    for (let i = 0; i < 10; i++) statuses.push((await score()).status);
    expect(statuses.filter((status) => status === 502)).toHaveLength(dying.requests.length);
    expect(dying.requests.length + other.requests.length).toBe(10);
    expect(dying.requests.length).toBeGreaterThan(0);
  });

  it('one whose socket is a link to something else is not connected to', async () => {
    const victim = await replica();
    const link = join(folder, `link-${++count}.sock`);
    symlinkSync(victim.address.socketPath, link);
    await gateway.writeRoutes([route([{ id: 'linked', address: { socketPath: link } }])]);
    await pause(300);
    expect((await score()).status).toBe(503);
    expect((await serviceStatus()).replicas[0]!.ready).toBe(false);
    expect(victim.requests).toEqual([]);
  });

  it('at a host and port are served too', async () => {
    const one = await replica();
    const server = createServer(one.server.listeners('request')[0] as RequestListener);
    servers.push(server);
    await new Promise<void>((listening) => void server.listen(0, '127.0.0.1', listening));
    await serve(
      route([], {
        replicas: [{ id: 'tcp', address: { host: '127.0.0.1', port: (server.address() as { port: number }).port } }],
      }),
    );
    expect((await score()).status).toBe(200);
  });

  it('a caller who leaves ends the request at the replica', async () => {
    const left = Promise.withResolvers<void>();
    const one = await replica((_, response) => void response.once('close', () => left.resolve()));
    await serve(route([one]));
    const abort = new AbortController();
    const asked = fetch(url(), {
      method: 'POST',
      body: '{}',
      headers: { authorization: `Bearer ${key}` },
      signal: abort.signal,
    });
    await expect.poll(() => one.requests.length).toBe(1);
    abort.abort();
    await expect(asked).rejects.toThrow('abort');
    await left.promise;
    await expect.poll(async () => (await serviceStatus()).inFlight).toBe(0);
  });
});

describe('new routes', () => {
  it('lose no request while replicas are exchanged again and again, and an old replica is asked nothing after that', async () => {
    const answer = (_: IncomingMessage, response: ServerResponse, body: string) =>
      void setTimeout(() => response.end(body), 5);
    let current = [await replica(answer), await replica(answer)];
    await serve(route(current));
    let done = false;
    const statuses: number[] = [];
    const callers = Array.from({ length: 8 }, async (_, caller) => {
      for (let i = 0; !done; i++) {
        const response = await score(`${caller}-${i}`);
        statuses.push(response.status);
        expect(await response.text()).toBe(`${caller}-${i}`);
      }
    });
    const all = [...current];
    for (let round = 0; round < 6; round++) {
      const next = [await replica(answer), await replica(answer)];
      all.push(...next);
      await serve(route([...current, ...next]));
      await gateway.writeRoutes([route(next)]);
      const drained = async () =>
        (await gateway.status())!.draining.filter(({ id }) => current.some((old) => old.id === id));
      await expect.poll(drained, { timeout: 5_000 }).toEqual([]);
      const asked = current.map(({ requests }) => requests.length);
      for (const old of current) {
        old.server.closeAllConnections();
        old.server.close();
      }
      await pause(50);
      expect(current.map(({ requests }) => requests.length)).toEqual(asked);
      current = next;
    }
    await expect.poll(() => statuses.length, { timeout: 20_000 }).toBeGreaterThan(200);
    done = true;
    await Promise.all(callers);
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect(all.reduce((sum, { requests }) => sum + requests.length, 0)).toBe(statuses.length);
  });

  it('leave a replica its requests until they have ended, and tell of them', async () => {
    const waiting: ServerResponse[] = [];
    const old = await replica((_, response) => void waiting.push(response));
    await serve(route([old]));
    const asked = score();
    await expect.poll(() => waiting.length).toBe(1);
    const next = await replica();
    await serve(route([next]));
    expect((await gateway.status())!.draining).toEqual([{ id: old.id, inFlight: 1 }]);
    expect((await score()).status).toBe(200);
    waiting[0]!.end('late');
    expect(await (await asked).text()).toBe('late');
    await expect.poll(async () => (await gateway.status())!.draining).toEqual([]);
  });

  it('that cannot be read leave the old ones in force and are told of', async () => {
    const one = await replica();
    await serve(route([one]));
    const file = join(needs.folder, 'routes.json');
    const good = readFileSync(file, 'utf8');
    writeFileSync(`${file}.x`, '{"format": 2}');
    renameSync(`${file}.x`, file);
    await expect.poll(async () => (await gateway.status())!.routesError, { timeout: 5_000 }).toContain('format');
    expect((await score()).status).toBe(200);
    writeFileSync(`${file}.x`, good);
    renameSync(`${file}.x`, file);
    await expect.poll(async () => (await gateway.status())!.routesError, { timeout: 5_000 }).toBeUndefined();
  });
});

describe('the process', () => {
  it('counts requests and failures of each service and tells how long they took', async () => {
    const one = await replica((_, response, body) => void response.writeHead(Number(body)).end());
    const before = new Gateway(needs);
    await serve(route([one], { service: 'counted' }));
    for (const code of [200, 200, 404, 500]) await score(String(code), {}, '/services/ws/counted/score');
    const told = (await before.status())!.services.find(({ service }) => service === 'counted')!;
    expect(told).toMatchObject({ requests: 4, failures: 1, inFlight: 0 });
    expect(told.p50Ms).toBeGreaterThan(0);
    expect(told.p95Ms).toBeGreaterThanOrEqual(told.p50Ms!);
    const lastLine = () =>
      JSON.parse(readFileSync(join(needs.folder, 'access.log'), 'utf8').trim().split('\n').at(-1)!);
    await expect.poll(lastLine).toMatchObject({ method: 'POST', path: '/services/ws/counted/score', status: 500 });
  });

  it('is adopted by a later server, with its services and what it counted', async () => {
    await serve(route([await replica()]));
    await score();
    const later = new Gateway({ ...needs });
    const adopted = await later.ensureRunning();
    expect(adopted.pid).toBe(status.pid);
    expect(adopted.services[0]!.requests).toBeGreaterThan(0);
    const { generation } = (await later.writeRoutes([]))!;
    expect(generation).toBeGreaterThan(adopted.generation);
    await gateway.writeRoutes([]).catch(() => gateway.writeRoutes([])); // this one learns of it by its own writing
  });

  it('of another folder says who holds its port', async () => {
    const other = new Gateway({
      ...needs,
      folder: join(folder, 'other'),
      settings: { ...needs.settings, port: status.port },
    });
    await expect(other.ensureRunning()).rejects.toThrow(`Another program listens on 127.0.0.1:${status.port}`);
    expect(await other.status()).toBeUndefined();
  });

  it('that was killed is started again with its routes, in a folder of any depth', async () => {
    const deep = join(folder, 'd'.repeat(100), 'gateway');
    const one = await replica();
    const own = new Gateway({ ...needs, folder: deep });
    const first = await own.ensureRunning();
    await own.writeRoutes([route([one], { authentication: 'none' })]);
    killProcess(first.pid, 'SIGKILL');
    await expect.poll(() => own.status()).toBeUndefined();
    const second = await own.ensureRunning();
    expect(second.pid).not.toBe(first.pid);
    const asked = async () =>
      (await fetch(`http://127.0.0.1:${second.port}/services/ws/svc/score`, { method: 'POST', body: '{}' })).status;
    await expect.poll(asked, { timeout: 5_000 }).toBe(200);
    await own.stop();
    await own.stop();
    expect(identify(second.pid) && isAlive(identify(second.pid)!)).toBeFalsy();
  });

  it('of another version is replaced, and requests in flight end first', async () => {
    const waiting: ServerResponse[] = [];
    const one = await replica((_, response) => void waiting.push(response));
    const own = new Gateway({ ...needs, folder: join(folder, 'versions') });
    const first = await own.ensureRunning();
    await own.writeRoutes([route([one], { authentication: 'none' })]);
    const ask = () => fetch(`http://127.0.0.1:${first.port}/services/ws/svc/score`, { method: 'POST', body: '{}' });
    await expect.poll(async () => (await own.status())!.services[0]!.replicas[0]!.ready).toBe(true);
    const asked = ask();
    await expect.poll(() => waiting.length).toBe(1);
    const newer = new Gateway({
      ...needs,
      folder: join(folder, 'versions'),
      settings: { ...needs.settings, version: '2' },
    });
    const replacing = newer.ensureRunning();
    await pause(200);
    waiting[0]!.end('ended');
    expect(await (await asked).text()).toBe('ended');
    expect(await replacing).toMatchObject({ version: '2' });
    await newer.stop();
  });
});
