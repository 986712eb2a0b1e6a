import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { rawTar } from './hostile-tar.ts';
import { LayoutBytes, OciImages } from './oci-images.ts';
import { isPublicAddress } from './outbound.ts';

/** A registry over real bytes: token sign-in, a list of manifests for two platforms, blobs behind a redirect. */
const layerTar = rawTar({ name: 'hello', content: 'world' });
const blobs = new Map<string, Buffer>();
const put = (content: Buffer | string) => {
  const bytes = Buffer.from(content);
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  blobs.set(digest, bytes);
  return { digest, size: bytes.length };
};
const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const manifestFor = (architecture: string) => {
  const document = {
    architecture,
    os: 'linux',
    config: { Env: [`ARCH=${architecture}`] },
    rootfs: { diff_ids: [sha256(layerTar)] },
  };
  const config = { ...put(JSON.stringify(document)), mediaType: 'application/vnd.docker.container.image.v1+json' };
  const layer = { ...put(gzipSync(layerTar)), mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' };
  const manifest = put(JSON.stringify({ schemaVersion: 2, config, layers: [layer] }));
  return {
    ...manifest,
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    platform: { os: 'linux', architecture },
  };
};
const list = put(JSON.stringify({ schemaVersion: 2, manifests: [manifestFor('arm64'), manifestFor('amd64')] }));

let dir: string;
let host: string;
let requests: { url: string; authorization: string | undefined }[];
let connections: number;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
const server = createServer((request, response) => {
  requests.push({ url: request.url ?? '', authorization: request.headers.authorization });
  answer(request, response);
}).on('connection', () => {
  connections++;
});

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'oci-'));
  requests = [];
  connections = 0;
  answer = registry;
  server.listen(0); // on each address: whatever the machine is called, it would be reached
  await once(server, 'listening');
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(dir, { recursive: true, force: true });
});

const basic = `Basic ${Buffer.from('anna:secret word').toString('base64')}`;

function registry(request: IncomingMessage, response: ServerResponse): void {
  const url = request.url ?? '';
  if (url.startsWith('/token')) {
    const known = request.headers.authorization === basic;
    response.writeHead(known ? 200 : 401).end(known ? '{"token":"t0ken"}' : 'who are you?');
  } else if (url.startsWith('/storage/')) {
    response.end(blobs.get(url.slice('/storage/'.length)));
  } else if (request.headers.authorization !== 'Bearer t0ken') {
    const challenge = `Bearer realm="http://${host}/token",service="here",scope="whatever"`;
    response.writeHead(401, { 'www-authenticate': challenge }).end('internal words');
  } else if (url.startsWith('/v2/team/python/blobs/')) {
    response
      .writeHead(307, { location: `http://localhost:${host.split(':')[1]}/storage/${url.split('/').at(-1)}` })
      .end();
  } else {
    const name = url.replace('/v2/team/python/manifests/', '');
    const content = blobs.get(name === '3.11' ? list.digest : name);
    response.writeHead(content ? 200 : 404).end(content ?? 'internal words');
  }
}

const credentials = { user: 'anna', password: 'secret word' };

function pull(reference: string, options: { credentials?: typeof credentials; allowed?: string[] } = { credentials }) {
  const port = host.split(':')[1];
  const allowedHosts = options.allowed ?? [`http://${host}`, `http://localhost:${port}`];
  const bytes = new LayoutBytes(dir);
  const platform = { os: 'linux', architecture: 'amd64' };
  const reaching = { outbound: () => ({ allowedHosts }), registries: () => [] };
  const oci = new OciImages({ bytes, cacheDir: join(dir, 'cache'), platform, ...reaching });
  return oci.import({ from: 'registry', reference, credentials: options.credentials }, { log: () => {} });
}

test('an image is pulled for the platform at hand, with a token, its layers unpacked and checked', async () => {
  const image = await pull(`${host}/team/python:3.11`);
  expect(image.config.env).toEqual({ ARCH: 'amd64' });
  expect(await readFile(new LayoutBytes(dir).path(image.layers[0]!.digest))).toEqual(layerTar);
});

test('the token goes to the registry only, and the password to its sign-in only', async () => {
  await pull(`${host}/team/python:3.11`);
  for (const { url, authorization } of requests) {
    if (url.startsWith('/storage/')) expect(authorization).toBeUndefined();
    else if (!url.startsWith('/token')) expect(authorization).not.toBe(basic);
  }
  expect(requests.find(({ url }) => url.startsWith('/token'))?.url).toContain(
    'scope=repository%3Ateam%2Fpython%3Apull',
  );
});

test('an image is pulled by digest, and refused if the registry gives another', async () => {
  expect((await pull(`${host}/team/python@${list.digest}`)).layers).toHaveLength(1);
  const other = `sha256:${'1'.repeat(64)}`;
  blobs.set(other, blobs.get(list.digest)!);
  await expect(pull(`${host}/team/python@${other}`)).rejects.toThrow(/was promised/);
});

test('without the right credentials there is a clear refusal that repeats nothing of the answer', async () => {
  const refusal = await pull(`${host}/team/python:3.11`, {}).catch((error: Error) => error);
  expect(refusal).toMatchObject({ code: 'failed-precondition', reason: 'image.base-unavailable' });
  expect((refusal as Error).message).toMatch(/does not give out team\/python:3.11 with these credentials/);
  expect((refusal as Error).message).not.toMatch(/internal|who are you/);
});

test('an image that is not there is named', async () => {
  await expect(pull(`${host}/team/python:9`)).rejects.toThrow(/has no image team\/python:9/);
});

test('changed bytes on the way are refused', async () => {
  answer = (request, response) => {
    if (!request.url?.startsWith('/storage/')) return registry(request, response);
    const bytes = Buffer.from(blobs.get(request.url.slice('/storage/'.length))!);
    bytes[bytes.length - 1]! ^= 1;
    response.end(bytes);
  };
  await expect(pull(`${host}/team/python:3.11`)).rejects.toThrow(/was promised/);
});

test('a manifest without end is cut off', async () => {
  answer = (request, response) => {
    if (!request.url?.includes('/manifests/')) return registry(request, response);
    const more = () => {
      while (response.write(Buffer.alloc(64 * 1024, ' ')));
    };
    response.on('drain', more);
    more();
  };
  await expect(pull(`${host}/team/python:3.11`)).rejects.toThrow(/larger than 4 MiB/);
});

test('a manifest that is larger than any of ours is refused', async () => {
  answer = (request, response) => {
    if (!request.url?.includes('/manifests/3.11')) return registry(request, response);
    const end = response.end.bind(response) as (content?: unknown) => ServerResponse;
    response.end = ((content: unknown) => {
      if (response.statusCode === 200) response.write(Buffer.alloc(5 * 1024 * 1024, ' '));
      return end(content);
    }) as typeof response.end;
    registry(request, response);
  };
  await expect(pull(`${host}/team/python:3.11`)).rejects.toThrow(/larger than 4 MiB/);
});

test('a redirect without end is given up', async () => {
  answer = (_, response) => void response.writeHead(302, { location: '/round' }).end();
  await expect(pull(`${host}/team/python:3.11`)).rejects.toMatchObject({ code: 'unavailable' });
  expect(requests.length).toBeLessThan(10);
});

test('a registry that is not there counts as unavailable', async () => {
  await expect(pull('127.0.0.1:1/a/b:c', { allowed: ['http://127.0.0.1:1'] })).rejects.toMatchObject({
    code: 'unavailable',
  });
});

test.each([
  '127.0.0.1',
  '127.1',
  '2130706433',
  '0177.0.0.1',
  '0x7f.0.0.1',
  '0x7f000001',
  'localhost',
  'localhost.',
  '[::1]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[::127.0.0.1]',
  '0.0.0.0',
  '[::]',
  '2130706433.localhost',
])('the server does not connect to itself as %s unless the host is allowed', async (name) => {
  const refusal = await pull(`${name}:${host.split(':')[1]}/team/python:3.11`, { allowed: [] }).catch(
    (error: Error) => error,
  );
  expect(refusal).toMatchObject({ reason: expect.stringMatching(/^image\.base-/) });
  expect(connections).toBe(0);
});

test.each([
  ['https://169.254.169.254/latest/meta-data', /its address is not public/],
  ['https://[::1]:1/x', /its address is not public/],
  ['http://[::1]:1/x', /speaks only HTTPS/],
  ['ftp://[::1]:1/x', /speaks only HTTPS/],
  ['file:///etc/passwd', /speaks only HTTPS/],
])('a redirect to %s is not followed', async (location, why) => {
  answer = (request, response) => {
    if (!request.url?.includes('/blobs/')) return registry(request, response);
    if (request.headers.authorization !== 'Bearer t0ken') return registry(request, response);
    response.writeHead(307, { location }).end();
  };
  await expect(pull(`${host}/team/python:3.11`)).rejects.toThrow(why);
});

test.each([
  ['nothing', ''],
  ['null', 'null'],
  ['no object', '[]'],
  ['a number', '{"token":7}'],
  ['text that no header can hold', '{"token":"a b"}'],
  ['half of it', '{"token":'],
  ['beside arrays without end', `{"token":"t0ken","x":${'['.repeat(2_000)}${']'.repeat(2_000)}}`],
])('a token that is %s is refused', async (_, token) => {
  answer = (request, response) => {
    if (!request.url?.startsWith('/token')) return registry(request, response);
    response.end(token);
  };
  await expect(pull(`${host}/team/python:3.11`)).rejects.toThrow("The registry's token is none.");
});

test('a sign-in page in the private network does not get the password', async () => {
  answer = (_, response) => {
    response.writeHead(401, { 'www-authenticate': 'Bearer realm="https://10.0.0.1/token"' }).end();
  };
  await expect(pull(`${host}/team/python:3.11`)).rejects.toThrow(/its address is not public/);
});

test.each([
  '127.0.0.1',
  '10.1.2.3',
  '100.64.0.1',
  '169.254.169.254',
  '172.31.0.1',
  '192.168.1.1',
  '0.0.0.0',
  '255.255.255.255',
  '224.0.0.1',
  '::',
  '::1',
  'fe80::1',
  'fd00::1',
  '::ffff:10.0.0.1',
  '64:ff9b::a00:1',
  '64:ff9b:1::a00:1',
  '::7f00:1',
  '2002:7f00:1::',
  '2001::1',
  'fec0::1',
  '100::1',
  'no address',
])('%s is no public address', (address) => expect(isPublicAddress(address)).toBe(false));

test.each(['1.1.1.1', '172.32.0.1', '2606:4700::1111'])('%s is a public address', (address) =>
  expect(isPublicAddress(address)).toBe(true),
);
