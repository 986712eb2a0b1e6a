// Container programs pull this server's images: with one of their own, which checks every byte against its digest.
import { spawnSync } from 'node:child_process';
import { mkdtempDisposableSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@stellwerk/client/client.ts';
import type { Image } from '@stellwerk/contract/image.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { execute, Installation, type Printed } from './installation.ts';
import { asked, typed } from './typing.ts';
import { workFolder } from './work-folder.ts';

const hasSkopeo = spawnSync('skopeo', ['--version']).status === 0;

describe.skipIf(!hasSkopeo)('skopeo', () => {
  let installation: Installation;
  let image: Image;
  beforeAll(async () => {
    installation = await Installation.start();
    const folder = workFolder(installation.folder, { 'score.py': 'def init(): pass\ndef run(data): return data\n' });
    image = await asked<Image>(installation, 'image', 'create', folder, '--name', 'Mein Bild');
  });
  afterAll(() => installation?.[Symbol.asyncDispose]());

  const skopeo = (...args: string[]): Promise<Printed> =>
    execute('skopeo', ['--insecure-policy', ...args], { cwd: installation.folder, env: installation.environment });
  const plain = '--tls-verify=false';

  test('pulls an image from where the image says it is, digest for digest', async () => {
    expect(image.location).toBe(`${new URL(installation.url).host}/story/x---4d-ein-2042-ild:1`);
    const folder = workFolder(installation.folder, {});
    const creds = `admin:${installation.token}`;
    const reference = `docker://${image.location}`;
    const copied = await skopeo('copy', '--src-tls-verify=false', '--src-creds', creds, reference, `dir:${folder}`);
    expect(copied.code, copied.stderr).toBe(0);
    const digested = await skopeo('manifest-digest', join(folder, 'manifest.json'));
    expect(digested.stdout.trim()).toBe(image.digest);
    const { layers } = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
    for (const { digest, size } of layers as { digest: string; size: number }[])
      expect(readFileSync(join(folder, digest.replace('sha256:', ''))).length).toBe(size);
    const byDigest = `docker://${image.location!.replace(/:1$/, '')}@${image.digest}`;
    const inspected = await skopeo(
      'inspect',
      plain,
      '--creds',
      creds,
      '--format',
      '{{.Digest}} {{.RepoTags}}',
      byDigest,
    );
    expect(inspected.stdout.trim(), inspected.stderr).toBe(`${image.digest} [1 latest]`);
  });

  test('signs in once and lists what there is', async () => {
    const { host } = new URL(installation.url);
    const authfile = join(installation.folder, 'auth.json');
    const signedIn = await skopeo(
      'login',
      plain,
      '--authfile',
      authfile,
      '-u',
      'admin',
      '-p',
      installation.token,
      host,
    );
    expect(signedIn.code, signedIn.stderr).toBe(0);
    const listed = await skopeo('list-tags', plain, '--authfile', authfile, `docker://${image.location!.slice(0, -2)}`);
    expect(JSON.parse(listed.stdout).Tags).toEqual(['1', 'latest']);
  });

  test('reaches a server without TLS by the lines that are printed', async () => {
    const printed = await typed(installation, 'registry', 'trust', '--engine', 'podman');
    const root = join(installation.folder, 'plain');
    const lines = printed.replace(/^podman [\s\S]*/m, '').replaceAll("'/etc/", `'${root}/etc/`);
    const options = { cwd: installation.folder, env: installation.environment };
    expect(await execute('sh', ['-euc', lines], options)).toMatchObject({ code: 0 });
    const inspect = (registries: string) => [
      ...['--insecure-policy', '--registries-conf', registries, 'inspect', '--creds', `admin:${installation.token}`],
      ...['--format', '{{.Digest}}', `docker://${image.location}`],
    ];
    const without = await execute('skopeo', inspect('/dev/null'), options);
    expect(without.stderr).toMatch(/HTTP response to HTTPS client/);
    const file = join(root, 'etc', 'containers', 'registries.conf.d', 'stellwerk.conf');
    const { stdout, stderr } = await execute('skopeo', inspect(file), options);
    expect(stdout.trim(), stderr).toBe(image.digest);
  });

  test('is refused with a wrong password, as nobody, and as who has no role there', async () => {
    await typed(installation, 'user', 'create', 'fremd');
    const { token } = await strangersToken(installation);
    const reference = `docker://${image.location}`;
    for (const creds of [['--creds', 'admin:wrong'], ['--no-creds'], ['--creds', `fremd:${token}`]]) {
      const { code, stderr } = await skopeo('inspect', plain, ...creds, reference);
      expect([creds, code]).toEqual([creds, 1]);
      expect(stderr).toMatch(/unauthorized|denied|authentication required|needs a sign-in|not valid|not good for/i);
      expect(stderr).not.toContain(image.digest);
    }
    await installation.client.members.set({ workspace: installation.workspace, user: 'fremd', role: 'reader' });
    const { code, stderr } = await skopeo('inspect', plain, '--creds', `fremd:${token}`, reference);
    expect(code, stderr).toBe(0);
  });
});

test('with an authority of its own it speaks TLS, to whoever trusts that: the command line, runs, and engines by the lines that are printed', async () => {
  using material = mkdtempDisposableSync(join(tmpdir(), 'stellwerk-story-'));
  const data = join(material.path, 'data');
  const authority = join(data, 'authority', 'authority.pem');
  const env = { STELLWERK_CA_BUNDLE: authority };
  await using installation = await Installation.start(['--data', data, '--own-authority'], env);
  expect(installation.url).toMatch(/^https:/);
  await expect(createClient({ url: installation.url, retries: 0 }).server.get()).rejects.toThrow();
  const folder = workFolder(installation.folder, {
    'score.py': 'def init(): pass\ndef run(data): return data\n',
    'hello.py': 'print("over TLS")\n',
  });
  const submit = ['run', 'submit', folder, '--script', 'hello.py', '--environment.user-managed', '--follow'];
  expect(await typed(installation, ...submit, '--target', 'host')).toContain('over TLS');

  const { host } = new URL(installation.url);
  const rootOf = (engine: string) => join(installation.folder, 'engines', engine);
  for (const [engine, place] of [
    ['docker', `/etc/docker/certs.d/${host}/ca.crt`],
    ['podman', `/etc/containers/certs.d/${host}/ca.crt`],
    ['containerd', `/etc/containerd/certs.d/${host}/ca.crt`],
    ['kubernetes', `/etc/containerd/certs.d/${host}/ca.crt`],
  ] as const) {
    const printed = await typed(installation, 'registry', 'trust', '--engine', engine);
    const lines = printed
      .replace(/^(docker|podman|kubectl) [\s\S]*/m, '')
      .replaceAll("'/etc/", `'${rootOf(engine)}/etc/`);
    const { code, stderr } = await execute('sh', ['-euc', lines], {
      cwd: installation.folder,
      env: process.env as never,
    });
    expect(code, stderr).toBe(0);
    expect(readFileSync(join(rootOf(engine), place), 'utf8')).toBe(readFileSync(authority, 'utf8'));
    expect(printed).toContain(host);
  }
  expect(readFileSync(join(rootOf('containerd'), `/etc/containerd/certs.d/${host}/hosts.toml`), 'utf8')).toContain(
    `[host."https://${host}"]\n  capabilities = ["pull", "resolve"]\n  ca = "/etc/containerd/certs.d/${host}/ca.crt"`,
  );

  const before = readFileSync(authority, 'utf8');
  await installation.restart();
  expect(readFileSync(authority, 'utf8')).toBe(before);
  if (!hasSkopeo) return;
  const image = await asked<Image>(installation, 'image', 'create', folder, '--name', 'bild');
  const trusted = join(rootOf('docker'), 'etc', 'docker', 'certs.d', host);
  const inspect = ['--insecure-policy', 'inspect', '--creds', `admin:${installation.token}`, '--format', '{{.Digest}}'];
  const options = { cwd: installation.folder, env: installation.environment };
  const mistrusting = await execute('skopeo', [...inspect, `docker://${image.location}`], options);
  expect(mistrusting.stderr).toMatch(/certificate/);
  const { stdout, stderr } = await execute(
    'skopeo',
    [...inspect, '--cert-dir', trusted, `docker://${image.location}`],
    options,
  );
  expect(stdout.trim(), stderr).toBe(image.digest);
});

async function strangersToken(installation: Installation): Promise<{ token: string }> {
  const { client } = installation;
  const { url } = await client.users.createSignIn({ user: 'fremd' });
  const code = new URL(url).hash.slice(1);
  return installation.clientWith(undefined).signIns.redeem({ code });
}
