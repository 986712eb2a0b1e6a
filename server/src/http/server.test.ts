import { createHash } from 'node:crypto';
import { Agent, get } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { answersTo, knownHosts } from '@stellwerk/contract/hosts.ts';
import { afterEach, describe, expect, it } from 'vitest';
import { bearer, type HttpRig, httpRig, type Methods, raw } from './http.fixture.ts';
import type { HttpSettings } from './server.ts';

let rig: HttpRig | undefined;
async function start(methods: Methods = {}, settings: Partial<HttpSettings> = {}): Promise<HttpRig> {
  rig = await httpRig(methods, settings);
  return rig;
}
afterEach(async () => {
  await rig?.[Symbol.asyncDispose]();
  rig = undefined;
});

describe('the host that was asked for', () => {
  const isKnown = (listen: string, publicUrl: string | undefined, host: string | undefined) =>
    answersTo(knownHosts(listen, publicUrl, 'machine'), host);

  it('is this machine’s or the public one, with any port', () => {
    for (const host of ['127.0.0.1', '127.0.0.1:8470', 'localhost:1', 'LOCALHOST', '[::1]:8470'])
      expect([host, isKnown('127.0.0.1', undefined, host)]).toEqual([host, true]);
    expect(isKnown('127.0.0.1', 'https://ML.example.org:8443/x', 'ml.example.org')).toBe(true);
    expect(isKnown('192.168.1.5', undefined, '192.168.1.5:8470')).toBe(true);
    expect(isKnown('::', undefined, '[fe80::1]:8470')).toBe(true);
    expect(isKnown('0.0.0.0', undefined, '10.0.0.7:8470')).toBe(true);
  });

  it('is refused if another name was made to point here', () => {
    for (const host of [
      undefined,
      '',
      'evil.example',
      'localhost.evil.example',
      '127.0.0.1.evil.example:80',
      '10.0.0.7',
      'a b',
      'localhost:80:90',
    ])
      expect([host, isKnown('127.0.0.1', undefined, host)]).toEqual([host, false]);
    expect(isKnown('0.0.0.0', undefined, 'evil.example')).toBe(false);
  });

  it('is asked of every address, pages included', async () => {
    const { url, tokens } = await start();
    for (const path of ['/', '/api/v1/server', '/api/v1/me', '/docs', '/openapi.json', '/nothing']) {
      const headers = { host: 'evil.example', ...bearer(tokens.owner) };
      const answer = await raw(url + path, { headers });
      expect([path, answer.status]).toEqual([path, 403]);
      expect(JSON.parse(answer.body).reason).toBe('request.host');
      expect(answer.headers['x-frame-options']).toBe('DENY');
    }
  });
});

it('a page of another site can neither ask with what the browser keeps nor read an answer', async () => {
  const { url, tokens, calls } = await start();
  const origin = 'https://evil.example';
  for (const [method, headers, status] of [
    ['OPTIONS', { 'access-control-request-method': 'PATCH', 'access-control-request-headers': 'authorization' }, 405],
    ['GET', { cookie: `token=${tokens.owner}; authorization=Bearer ${tokens.owner}` }, 401],
    ['PATCH', { cookie: `token=${tokens.owner}`, 'content-type': 'text/plain' }, 401],
    ['PATCH', { ...bearer(tokens.owner), 'content-type': 'text/plain' }, 415],
  ] as const) {
    const body = method === 'PATCH' ? { body: '{}' } : {};
    const answer = await raw(`${url}/api/v1/workspaces/w1`, { method, headers: { origin, ...headers }, ...body });
    expect([method, headers, answer.status]).toEqual([method, headers, status]);
    expect(Object.keys(answer.headers).filter((name) => /^access-control|^set-cookie/.test(name))).toEqual([]);
    expect(answer.headers['x-frame-options']).toBe('DENY');
  }
  expect(calls).toEqual([]);
});

describe('the pages', () => {
  it('run their own script and style and nothing else', async () => {
    const { url } = await start();
    for (const path of ['/', '/sign-in', '/docs']) {
      const { status, headers, body } = await raw(url + path);
      expect([status, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
      const policy = headers['content-security-policy'] as string;
      const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
      const inside = (tag: string) => [...body.matchAll(new RegExp(`<${tag}[^>]*>([\\s\\S]*?)</${tag}>`, 'g'))];
      expect(inside('style')).toHaveLength(1);
      expect(policy).toContain(`style-src ${hash(inside('style')[0]![1]!)}`);
      const scripts = inside('script').map(([, text]) => hash(text!));
      expect(policy).toContain(`script-src ${scripts.length ? scripts.join(' ') : "'none'"};`);
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toContain('unsafe');
      expect(body).not.toMatch(/ on\w+=|javascript:|src=/);
      if (path === '/sign-in') expect(body, 'the code leaves the address').toMatch(/history\.replaceState\(/);
    }
  });

  it('show every verb of the API, and its description is OpenAPI 3.1', async () => {
    const { url } = await start();
    const docs = (await raw(`${url}/docs`)).body;
    const { body, headers } = await raw(`${url}/openapi.json`);
    expect(headers['content-type']).toBe('application/json; charset=utf-8');
    const document = JSON.parse(body);
    expect(document.openapi).toMatch(/^3\.1/);
    expect(Object.keys(document.paths).length).toBeGreaterThan(30);
    expect(docs).toContain('<h3 id="runs.submit">runs.submit</h3>');
    expect((await raw(`${url}/healthz`)).body).toBe('{"status":"ok"}');
  });
});

describe('stopping', () => {
  it('ends open streams, finishes what is in flight, and does not wait for idle connections', async () => {
    const reached = Promise.withResolvers<void>();
    const { url, http, tokens } = await start(
      {
        'workspaces.get': async (input) => {
          reached.resolve();
          await pause(400);
          return input;
        },
        'activities.watch': async function* (_input, _caller, signal: AbortSignal) {
          yield { id: 1 };
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
        },
      },
      { graceMs: 600_000 },
    ); // whoever waited for an idle connection would wait as long
    const agent = new Agent({ keepAlive: true });
    const idle = Promise.withResolvers<void>();
    get(`${url}/healthz`, { agent }, (answer) => answer.resume().on('end', idle.resolve));
    await idle.promise;
    const headers = bearer(tokens.reader);
    const events = await fetch(`${url}/api/v1/workspaces/w1/activity-events`, { headers });
    const inFlight = raw(`${url}/api/v1/workspaces/w1`, { headers });
    await reached.promise;
    const stopped = http.stop();
    expect(await events.text()).toContain('id: 1');
    expect((await inFlight).status).toBe(200);
    await stopped;
    await expect(raw(`${url}/healthz`)).rejects.toThrow('ECONNREFUSED');
    agent.destroy();
  });

  it('cuts off who does not come to an end', async () => {
    const { url, http, tokens } = await start(
      {
        'datastores.getFile': async () => ({ contentType: 'text/plain', stream: new Readable({ read() {} }) }),
      },
      { graceMs: 300 },
    );
    const headers = bearer(tokens.reader);
    const file = `${url}/api/v1/workspaces/w1/datastores/store/file?path=x`;
    const hanging = raw(file, { headers });
    const cut = expect(hanging).rejects.toThrow();
    await pause(100);
    await http.stop();
    await cut;
  });
});

it('what is no HTTP is refused, and the server goes on', async () => {
  const { url, http } = await start();
  for (const text of [
    'GET / HTTP/1.1\r\n\r\n',
    'NONSENSE\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
  ]) {
    const answer = await new Promise<string>((resolve) => {
      let said = '';
      const socket = connect(http.port, '127.0.0.1', () => socket.end(text));
      socket.on('data', (data) => {
        said += data;
      });
      socket.on('error', () => {}).on('close', () => resolve(said));
    });
    expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
  }
  expect((await raw(`${url}/healthz`)).status).toBe(200);
});
