import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { accessOf, masked, mergeSettings, secretsOf, withoutCredential } from './index-settings.ts';
import { parseConfiguration, pipConfiguration } from './pip-configuration.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'settings-'));
});
afterEach(() => rm(folder, { recursive: true }));

test('takes a host that is longer than any address for none', () => {
  const text = `https://,NaN${'}'.repeat(17_000)}`;
  expect(withoutCredential(text)).toEqual({ url: text });
});

test('takes user name and password out of an address', () => {
  expect(withoutCredential('https://me:p%40ss@host:8443/simple')).toEqual({
    url: 'https://host:8443/simple',
    credential: { url: 'https://host:8443/simple', username: 'me', password: 'p@ss' },
  });
  expect(withoutCredential('https://token@host/simple').credential).toEqual({
    url: 'https://host/simple',
    username: 'token',
    password: '',
  });
  expect(withoutCredential('https://host/simple')).toEqual({ url: 'https://host/simple' });
  expect(withoutCredential('/srv/wheels')).toEqual({ url: '/srv/wheels' });
});

test('says the settings in uv’s variables, credentials beside the addresses and in a netrc', () => {
  const { environment, netrc, caBundle } = accessOf({
    indexUrl: 'https://one/simple',
    extraIndexUrls: ['https://two/simple/', 'https://three/simple'],
    findLinks: ['/srv/wheels', 'https://four/links'],
    credentials: [
      { url: 'https://two/simple', username: 'me', password: 'geheim' },
      { url: 'https://four/links', username: 'you', password: 'secret' },
    ],
    trustedHosts: ['one'],
    httpsProxy: 'http://proxy:3128',
    noProxy: 'localhost',
    caBundle: 'PEM',
    strategy: 'unsafe-best-match',
    timeoutSeconds: 9,
  });
  expect(environment).toEqual({
    UV_DEFAULT_INDEX: 'stellwerk0=https://one/simple',
    UV_INDEX: 'stellwerk1=https://two/simple/ stellwerk2=https://three/simple',
    UV_INDEX_STELLWERK1_USERNAME: 'me',
    UV_INDEX_STELLWERK1_PASSWORD: 'geheim',
    UV_FIND_LINKS: '/srv/wheels,https://four/links',
    UV_INSECURE_HOST: 'one',
    UV_INDEX_STRATEGY: 'unsafe-best-match',
    UV_HTTP_TIMEOUT: '9',
    HTTPS_PROXY: 'http://proxy:3128',
    https_proxy: 'http://proxy:3128',
    NO_PROXY: 'localhost',
    no_proxy: 'localhost',
  });
  expect(netrc).toBe('machine two login me password geheim\nmachine four login you password secret\n');
  expect(caBundle).toBe('PEM');
});

test('of two settings the upper one’s values win and come first', () => {
  const merged = mergeSettings(
    { indexUrl: 'https://a', extraIndexUrls: ['https://b'], noIndex: true },
    { indexUrl: 'https://c', extraIndexUrls: ['https://d', 'https://b'] },
  );
  expect(merged).toEqual({ indexUrl: 'https://c', extraIndexUrls: ['https://d', 'https://b'], noIndex: true });
});

test('masks passwords in whatever a program prints', () => {
  const secrets = secretsOf(
    { credentials: [{ url: 'https://a', username: 'me', password: 'p/ss' }] },
    { HTTPS_PROXY: 'http://u:pr0xy@p:1', UV_INDEX_X_PASSWORD: 'zzz' },
  );
  expect(masked('p/ss p%2Fss pr0xy zzz https://me:any@host/x', secrets)).toBe(
    '**** **** **** **** https://****@host/x',
  );
});

test('reads pip’s files in pip’s order, and its variables over them', async () => {
  const home = join(folder, 'home');
  await mkdir(join(home, '.config', 'pip'), { recursive: true });
  await mkdir(join(home, '.pip'));
  await writeFile(join(home, '.pip', 'pip.conf'), '[global]\nindex-url = https://old/simple\nproxy = http://proxy:1\n');
  await writeFile(join(folder, 'ca.pem'), 'CERTIFICATE');
  const lists =
    '# ours\n[global]\nindex_url: https://me:s3cret@host/simple\ntimeout = 7.5\ncert = CA\n[install]\nextra-index-url =\n    https://one/simple\n    https://two/simple\nfind-links = /srv/wheels\ntrusted-host = host\n';
  await writeFile(join(home, '.config', 'pip', 'pip.conf'), lists.replace('CA', join(folder, 'ca.pem')));
  const read = await pipConfiguration({
    HOME: home,
    XDG_CONFIG_DIRS: folder,
    PIP_FIND_LINKS: '/opt/a /opt/b',
    PIP_NO_INDEX: 'no',
    PIP_PRE: '1',
  });
  expect(read).toMatchObject({
    indexUrl: 'https://host/simple',
    extraIndexUrls: ['https://one/simple', 'https://two/simple'],
    findLinks: ['/opt/a', '/opt/b'],
    trustedHosts: ['host'],
    credentials: [{ url: 'https://host/simple', username: 'me', password: 's3cret' }],
    httpProxy: 'http://proxy:1',
    httpsProxy: 'http://proxy:1',
    timeoutSeconds: 8,
    preReleases: true,
    caBundle: 'CERTIFICATE',
  });
  expect(read.noIndex).toBeUndefined();
});

test('PIP_CONFIG_FILE is read last; /dev/null switches all files off', async () => {
  await writeFile(join(folder, 'my.conf'), '[global]\nindex-url = https://mine/simple\n');
  expect(await pipConfiguration({ PIP_CONFIG_FILE: join(folder, 'my.conf') })).toMatchObject({
    indexUrl: 'https://mine/simple',
  });
  expect(await pipConfiguration({ PIP_CONFIG_FILE: '/dev/null' })).toEqual({});
});

test('understands comments, continued values and both separators', () => {
  expect(parseConfiguration('; c\n[global]\nA_B = 1\n  2\n# x\nc: d\n[freeze]\nc = no\n')).toEqual(
    new Map([
      ['a-b', '1 2'],
      ['c', 'd'],
    ]),
  );
});
