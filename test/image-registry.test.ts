// Items 7 and 12: the registry that base images come from is set, not known; it is reached through the proxy and with the
// authority that were set once.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Image } from '@stellwerk/contract/image.ts';
import { expect, test } from 'vitest';
import { type RegistryContent, serveProxy, serveRegistry } from '../server/src/oci/registry.fixture.ts';
import { execute, Installation, node, repository } from './installation.ts';
import { asked, typed } from './typing.ts';
import { workFolder, writeFiles } from './work-folder.ts';

const score = 'def init(): pass\ndef run(data): return data\n';
/** No name of the kind is ever resolved: only the proxy knows where that is. */
const host = 'registry.invalid';

test('a registry is set, the way to it is set once, and bases come from there: by default, by name, or not at all', async () => {
  const cache = mkdtempSync(join(tmpdir(), 'stellwerk-cache-'));
  using removed = new DisposableStack();
  removed.defer(() => rmSync(cache, { recursive: true, force: true }));
  await using installation = await Installation.start([], {
    XDG_CACHE_HOME: cache,
    STELLWERK_IMAGE_REGISTRY: host,
  });
  await using registry = await serveRegistry(host, await pythonBase(installation));
  await using proxy = await serveProxy({ [host]: registry.port });
  const folder = workFolder(installation.folder, { 'score.py': score, 'authority.pem': registry.authority });
  const built = (...args: string[]) => builtIn(installation, folder, ...args);
  const failed = (...args: string[]) => failureIn(installation, folder, ...args);

  const before = await built();
  expect(before.log).toMatch(/could not be reached.*Taking a base image made of Debian's packages instead/);
  expect(await failed('--base-image', 'team/base:1')).toMatch(/registry\.invalid could not be reached for team\/base/);
  await typed(installation, 'package-index', 'set', '--https-proxy', proxy.url);
  expect(await failed('--base-image', 'team/base:1')).toMatch(/certificate is not trusted.*--ca-bundle/s);
  expect(registry.asked).toEqual([]);

  const authority = `@${join(folder, 'authority.pem')}`;
  await typed(installation, 'package-index', 'set', '--https-proxy', proxy.url, '--ca-bundle', authority);
  const usual = await built();
  expect(usual.log).toMatch(/Found python:3\.\d+-slim at registry\.invalid\/library\/python\./);
  expect(usual.image.base).toMatch(/^python:3\.\d+-slim@sha256:/);
  const named = await built('--base-image', 'team/base:1');
  expect(named.image.base).toMatch(/^team\/base:1@sha256:/);
  expect((await built('--base-image', `${host}/team/base:1`)).image.digest).toBe(named.image.digest);
  expect(await failed('--base-image', 'team/nothing:1')).toMatch(/registry\.invalid has no image team\/nothing:1/);
  expect(proxy.asked).toContain(`${host}:443`);
});

test("where none is set, the machine's containers configuration says the registry; where that is silent, a name needs its host", async () => {
  await using installation = await Installation.start([], { STELLWERK_IMAGE_REGISTRY: '' });
  await using registry = await serveRegistry(host, await pythonBase(installation));
  await using proxy = await serveProxy({ [host]: registry.port });
  const folder = workFolder(installation.folder, { 'score.py': score, 'authority.pem': registry.authority });
  const authority = `@${join(folder, 'authority.pem')}`;
  await typed(installation, 'package-index', 'set', '--https-proxy', proxy.url, '--ca-bundle', authority);
  const configured = (text: string) => writeFiles(installation.folder, { 'config/containers/registries.conf': text });

  configured('unqualified-search-registries = []\n');
  const without = await failureIn(installation, folder, '--base-image', 'team/base:1');
  expect(without).toMatch(/"team\/base:1" names no registry.*--image-registry.*unqualified-search-registries/s);
  const usual = await builtIn(installation, folder);
  expect(usual.log).toMatch(/No registry is set.*Taking a base image made of Debian's packages instead/);
  configured(`unqualified-search-registries = ["${host}"]\n`);
  expect((await builtIn(installation, folder, '--base-image', 'team/base:1')).log).toContain(
    `Found team/base:1 at ${host}`,
  );
  configured(`unqualified-search-registries = ["${host}/empty"]\n`);
  expect((await builtIn(installation, folder)).log).toMatch(
    /no image empty\/python.*Taking a base image made of Debian's/,
  );
  configured('unqualified-search-registries = 7\n');
  expect(await failureIn(installation, folder, '--base-image', 'team/base:1')).toMatch(/registries\.conf has no list/);

  const wrong = await installation.cli(['up', '--data', 'other', '--image-registry', 'https://registry.example.org']);
  expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('--image-registry must be a host') });
});

let number = 0;

async function builtIn(installation: Installation, folder: string, ...args: string[]) {
  const image = await asked<Image>(installation, 'image', 'create', folder, '--name', `bild-${++number}`, ...args);
  return { image, log: await typed(installation, 'activity', 'get-log', image.activity) };
}

async function failureIn(installation: Installation, folder: string, ...args: string[]): Promise<string> {
  const created = await installation.cli(['image', 'create', folder, '--name', `bild-${++number}`, ...args]);
  expect(created.code).toBe(1);
  return created.stderr;
}

/** A base that web services can run on, as a registry has it. */
async function pythonBase(installation: Installation): Promise<RegistryContent> {
  const folder = workFolder(installation.folder, {});
  const output = join(folder, 'layout.tar');
  const making = [node[1], join(repository, 'tools', 'base-image.ts'), '--output', output];
  const made = await execute(node[0], making, { cwd: folder, env: installation.environment });
  expect(made.code, made.stderr).toBe(0);
  await execute('tar', ['-xf', output], { cwd: folder, env: installation.environment });
  const [{ digest }] = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')).manifests;
  const contents = join(folder, 'blobs', 'sha256');
  const blobs = new Map(readdirSync(contents).map((hex) => [`sha256:${hex}`, readFileSync(join(contents, hex))]));
  return { blobs, names: { 'library/python:3.11-slim': digest, 'team/base:1': digest } };
}
