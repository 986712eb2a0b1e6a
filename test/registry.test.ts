// Container programs pull this server's images: with one of their own, which checks every byte against its digest.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
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

async function strangersToken(installation: Installation): Promise<{ token: string }> {
  const { client } = installation;
  const { url } = await client.users.createSignIn({ user: 'fremd' });
  const code = new URL(url).hash.slice(1);
  return installation.clientWith(undefined).signIns.redeem({ code });
}
