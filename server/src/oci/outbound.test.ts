import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rawTar } from './hostile-tar.ts';
import { LayoutBytes, OciImages, type Outbound } from './oci-images.ts';
import { type LocalProxy, type SecureRegistry, serveProxy, serveRegistry } from './registry.fixture.ts';

const platform = { os: 'linux', architecture: 'amd64' };
const blobs = new Map<string, Uint8Array>();
function put(content: Buffer | string) {
  const bytes = Buffer.from(content);
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  blobs.set(digest, bytes);
  return { digest, size: bytes.length };
}
const layer = put(rawTar({ name: 'hello', content: 'world' }));
const config = put(JSON.stringify({ ...platform, config: {}, rootfs: { diff_ids: [layer.digest] } }));
const manifest = put(
  JSON.stringify({
    schemaVersion: 2,
    config: { ...config, mediaType: 'application/vnd.oci.image.config.v1+json' },
    layers: [{ ...layer, mediaType: 'application/vnd.oci.image.layer.v1.tar' }],
  }),
);
const names = {
  'library/python:3.11': manifest.digest,
  'mirror/team/app:1': manifest.digest,
  'app:1': manifest.digest,
};

/** No name of the kind is ever resolved: only the proxy knows where it is. */
const host = 'registry.invalid';
const password = 'pr0xy-w0rd';
let dir: string;
let registry: SecureRegistry;
let proxy: LocalProxy;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'outbound-'));
  registry = await serveRegistry(host, { blobs, names });
  proxy = await serveProxy({ [host]: registry.port, 'second.invalid': registry.port }, password);
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

async function pull(reference: string, outbound: Partial<Outbound>, registries: string[] = []) {
  const log: string[] = [];
  const bytes = new LayoutBytes(await mkdtemp(join(dir, 'bytes-')));
  const complete = { allowedHosts: [], ...outbound };
  const needs = {
    bytes,
    cacheDir: join(dir, 'cache'),
    platform,
    outbound: () => complete,
    registries: () => registries,
  };
  const source = { from: 'registry', reference } as const;
  const image = await new OciImages(needs).import(source, { log: (line) => log.push(line) });
  return { digests: image.layers.map(({ digest }) => digest), log };
}

/** As it is set when all is right. */
const right = () => ({ proxies: { httpsProxy: proxy.url }, caBundle: registry.authority });

test('a registry behind a proxy, with an authority of its own, is reached once both are set, and not before', async () => {
  const reference = `${host}/app:1`;
  await expect(pull(reference, { caBundle: registry.authority })).rejects.toThrow(/could not be reached/);
  await expect(pull(reference, { proxies: { httpsProxy: proxy.url } })).rejects.toThrow(
    /certificate is not trusted.*package-index set --ca-bundle/,
  );
  expect(registry.asked).toEqual([]);
  expect((await pull(reference, right())).digests).toEqual([layer.digest]);
  expect(new Set(proxy.asked)).toEqual(new Set([`${host}:443`]));
});

test('a host that needs no proxy is reached without, and one proxy does not stand in for the other', async () => {
  const before = proxy.asked.length;
  const around = { ...right(), proxies: { httpsProxy: proxy.url, noProxy: `other.example.org,.invalid` } };
  await expect(pull(`${host}/app:1`, around)).rejects.toThrow(/could not be reached/);
  const onlyHttp = { ...right(), proxies: { httpProxy: proxy.url } };
  await expect(pull(`${host}/app:1`, onlyHttp)).rejects.toThrow(/could not be reached/);
  expect(proxy.asked).toHaveLength(before);
});

test('a proxy that refuses is told of, without its password', async () => {
  const wrong = { ...right(), proxies: { httpsProxy: proxy.url.replace(password, 'wr0ng-w0rd') } };
  const refusal = (await pull(`${host}/app:1`, wrong).catch((error: unknown) => error)) as Error;
  expect(refusal.message).toMatch(/could not be reached.*407/);
  expect(refusal.message).not.toMatch(/w0rd/);
});

test.each(['127.0.0.1:8470', '[::1]', '2130706433.localhost', 'localhost', '169.254.169.254'])(
  'a proxy is not asked to reach %s, which is closed here as well',
  async (closed) => {
    const before = proxy.asked.length;
    await expect(pull(`${closed}/team/app:1`, right())).rejects.toMatchObject({ reason: 'image.base-unavailable' });
    expect(proxy.asked).toHaveLength(before);
  },
);

test('a name without a host is looked for at the registry that is set, and below library if it has one part', async () => {
  const { digests, log } = await pull('python:3.11', right(), [host]);
  expect(digests).toEqual([layer.digest]);
  expect(log).toContain(`Found python:3.11 at ${host}/library/python.`);
  expect((await pull('team/app:1', right(), [`${host}/mirror`])).digests).toEqual([layer.digest]);
  await expect(pull('team/app:1', right(), [host])).rejects.toThrow(`${host} has no image team/app:1`);
});

test('of several registries the first that has the image gives it; one that cannot be reached is not passed over', async () => {
  const { log } = await pull('team/app:1', right(), [host, `${host}/mirror`]);
  expect(log).toContain(`Found team/app:1 at ${host}/mirror/team/app.`);
  await expect(pull('app:1', right(), ['second.invalid', host])).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('second.invalid'),
  });
  await expect(pull('nothing:1', right(), [host])).rejects.toThrow(/no image nothing:1.*no image library\/nothing:1/);
});

test('a name without a host, where no registry is set, is an error that says what to do', async () => {
  await expect(pull('python:3.11', right())).rejects.toMatchObject({
    code: 'failed-precondition',
    reason: 'image.base-unavailable',
    message: expect.stringMatching(
      /registry.example.org\/python:3.11.*--image-registry.*unqualified-search-registries/,
    ),
  });
});
