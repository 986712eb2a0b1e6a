// Item 7: a private package index with a password is set once for all, and the password stays where it was put.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { expect, test } from 'vitest';
import { makeWheel, servePackages } from '../server/src/environment/package-index.fixture.ts';
import { serveProxy } from '../server/src/oci/registry.fixture.ts';
import { execute, Installation } from './installation.ts';
import { runOf, submit } from './submission.ts';
import { asked, typed } from './typing.ts';
import { untilEnded } from './waiting.ts';
import { workFolder, writeFiles } from './work-folder.ts';

const password = 'gehe1m-Pa55wort-nirgends-zu-sehen';
const user = { name: 'hausbote', password };

test('a private index is set once, and holds for resolving, for runs on host and local and for images; its password is nowhere', async () => {
  const cache = mkdtempSync(join(tmpdir(), 'stellwerk-cache-'));
  using removed = new DisposableStack();
  removed.defer(() => rmSync(cache, { recursive: true, force: true }));
  await using installation = await Installation.start([], { XDG_CACHE_HOME: cache });
  const seen: string[] = [];
  const wheel = await makeWheel('haus_eigen', '1.4', { 'haus_eigen.py': "greeting = 'aus dem Haus'\n" });
  await using index = await servePackages([wheel], user, () => {
    seen.push(...commandLines().filter((line) => line.includes(password)));
  });
  const settings = workFolder(installation.folder, {
    'credentials.json': JSON.stringify([{ url: index.url, username: user.name, password }]),
  });
  const credentials = `@${join(settings, 'credentials.json')}`;
  await typed(installation, 'package-index', 'set', '--extra-index-urls', index.url, '--credentials', credentials);
  rmSync(settings, { recursive: true });

  const { client, workspace } = installation;
  const submission = {
    environment: { requirements: ['haus-eigen==1.4'] },
    code: 'import haus_eigen; print(haus_eigen.greeting)',
  };
  // Two at once: their environment is new, and one of them alone builds it.
  const both = await Promise.all([submit(installation, submission), submit(installation, submission)]);
  const ended = await Promise.all(both.map(({ id }) => untilEnded({ client, workspace, run: id })));
  expect(ended.map(({ state, reason }) => reason ?? state)).toEqual(['completed', 'completed']);
  expect(index.asked.filter((path) => path.startsWith('/files/')).length).toBeGreaterThan(0);
  const told = await Promise.all(both.map(({ id }) => preparation(installation, id)));
  expect(
    told.filter((text) => text.includes('The environment was built')),
    told.join('\n'),
  ).toHaveLength(1);

  // Another environment, so that the local runner has to install it by itself.
  const local = await runOf(installation, {
    ...submission,
    target: 'local',
    environment: { requirements: ['haus-eigen==1.4', 'six==1.16.0'] },
  });
  expect(local.state, local.reason).toBe('completed');
  expect(local.printed).toContain('aus dem Haus');
  for (const { environment } of [...ended, local])
    expect(environment?.lock).toContain('haus-eigen==1.4 --hash=sha256:');

  const scoring = workFolder(installation.folder, {
    'score.py': 'import haus_eigen\ndef init(): pass\ndef run(data): return haus_eigen.greeting\n',
  });
  await typed(
    installation,
    'image',
    'create',
    scoring,
    '--name',
    'haus',
    '--environment.requirements',
    'haus-eigen==1.4',
  );
  await typed(installation, 'image', 'export', 'haus', '--format', 'oci', '--output', 'haus.tar');
  const layers = workFolder(installation.folder, {});
  const unpack = 'tar -xf ../haus.tar && for layer in blobs/sha256/*; do gzip -dcf $layer > $layer.plain; done';
  const unpacked = await execute('sh', ['-c', unpack], { cwd: layers, env: installation.environment });
  expect(unpacked.code, unpacked.stderr).toBe(0);
  expect(await filesWith('aus dem Haus', layers)).not.toEqual([]);

  expect(seen, 'on a command line').toEqual([]);
  // Database, contents, logs, environments, folders of runs, layers, caches: all that there is.
  expect(await filesWith(password, installation.folder)).toEqual([]);
  expect(await filesWith(password, cache)).toEqual([]);
  expect(await asked(installation, 'package-index', 'get')).toMatchObject({
    extraIndexUrls: [index.url],
    signIns: [{ username: user.name }],
  });
});

test("pip's own configuration is honoured as well, and the password in it stays there", async () => {
  const home = mkdtempSync(join(tmpdir(), 'stellwerk-pip-'));
  using removed = new DisposableStack();
  removed.defer(() => rmSync(home, { recursive: true, force: true }));
  const wheel = await makeWheel('haus_pip', '2.0', { 'haus_pip.py': "greeting = 'wie bei pip'\n" });
  await using index = await servePackages([wheel], user);
  const address = index.url.replace('http://', `http://${user.name}:${password}@`);
  writeFiles(home, { 'pip.conf': `[global]\nextra-index-url = ${address}\n` });
  const env = { PIP_CONFIG_FILE: join(home, 'pip.conf'), XDG_CACHE_HOME: join(home, 'cache') };
  await using installation = await Installation.start([], env);
  for (const target of ['host', 'local']) {
    const ran = await runOf(installation, {
      target,
      environment: { requirements: ['haus-pip==2.0', ...(target === 'local' ? ['six==1.16.0'] : [])] },
      code: 'import haus_pip; print(haus_pip.greeting)',
    });
    expect(ran.state, ran.reason).toBe('completed');
    expect(ran.printed).toContain('wie bei pip');
    expect(ran.environment?.lock).toContain('haus-pip==2.0 --hash=sha256:');
  }
  expect(await filesWith(password, installation.folder)).toEqual([]);
  expect(await filesWith(password, home)).toEqual(['./pip.conf']);
});

test('an index whose certificate only our own authority has signed is trusted once its certificate is set', async () => {
  const cache = mkdtempSync(join(tmpdir(), 'stellwerk-cache-'));
  using removed = new DisposableStack();
  removed.defer(() => rmSync(cache, { recursive: true, force: true }));
  // The other packages still come from the public index, though no folder of certificates is named.
  const env = { XDG_CACHE_HOME: cache, SSL_CERT_DIR: join(cache, 'none') };
  await using installation = await Installation.start([], env);
  const wheel = await makeWheel('haus_tls', '3.0', { 'haus_tls.py': "greeting = 'verschlüsselt'\n" });
  await using index = await servePackages([wheel], user);
  await using secure = await encrypted(installation, index.port);
  const submission = {
    environment: { requirements: ['haus-tls==3.0', 'six==1.16.0'] },
    code: 'import haus_tls; print(haus_tls.greeting)',
  };
  const credentials = JSON.stringify([{ url: secure.url, username: user.name, password }]);
  const set = (...more: string[]) =>
    typed(
      installation,
      'package-index',
      'set',
      '--extra-index-urls',
      secure.url,
      '--credentials',
      credentials,
      ...more,
    );

  await set();
  const refused = await runOf(installation, submission);
  expect(refused).toMatchObject({ state: 'failed', reason: expect.stringMatching(/certificate/i) });
  await set('--ca-bundle', `@${secure.authority}`);
  const ran = await runOf(installation, submission);
  expect(ran.state, ran.reason).toBe('completed');
  expect(ran.printed).toContain('verschlüsselt');
});

test('a proxy is set once, and holds for resolving, for runs on host and local and for images', async () => {
  const cache = mkdtempSync(join(tmpdir(), 'stellwerk-cache-'));
  using removed = new DisposableStack();
  removed.defer(() => rmSync(cache, { recursive: true, force: true }));
  await using installation = await Installation.start([], { XDG_CACHE_HOME: cache });
  const wheelOf = (version: string) =>
    makeWheel('haus_umweg', version, { 'haus_umweg.py': "greeting = 'auf dem Umweg'\n" });
  await using index = await servePackages([await wheelOf('1.0'), await wheelOf('2.0')], user);
  // Only the proxy knows where that is: no name of the kind is ever resolved.
  const url = 'http://haus.invalid/simple';
  await using proxy = await serveProxy({ 'haus.invalid': index.port });
  const fetched = `${new URL(url).origin}/files`;
  const credentials = JSON.stringify([{ url, username: user.name, password }]);
  const settings = ['--extra-index-urls', url, '--http-proxy', proxy.url, '--credentials', credentials];
  await typed(installation, 'package-index', 'set', ...settings);
  for (const target of ['host', 'local']) {
    // Another environment each, so that each installs by itself.
    const ran = await runOf(installation, {
      target,
      environment: { requirements: ['haus-umweg==1.0', ...(target === 'local' ? ['six==1.16.0'] : [])] },
      code: 'import haus_umweg; print(haus_umweg.greeting)',
    });
    expect(ran.state, ran.reason).toBe('completed');
    expect(ran.printed).toContain('auf dem Umweg');
  }
  expect(proxy.asked).toContain(`${fetched}/haus_umweg-1.0-py3-none-any.whl`);
  const score = 'import haus_umweg\ndef init(): pass\ndef run(data): return haus_umweg.greeting\n';
  const folder = workFolder(installation.folder, { 'score.py': score });
  const environment = ['--environment.requirements', 'haus-umweg==2.0'];
  await typed(installation, 'image', 'create', folder, '--name', 'umweg', ...environment);
  expect(proxy.asked).toContain(`${fetched}/haus_umweg-2.0-py3-none-any.whl`);
});

/** TLS before a port of this machine, with a certificate that nobody trusts yet. */
async function encrypted(installation: Installation, port: number) {
  const folder = workFolder(installation.folder, {});
  const openssl = async (line: string) => {
    const made = await execute('openssl', line.split(' '), { cwd: folder, env: installation.environment });
    expect(made.code, made.stderr).toBe(0);
  };
  writeFiles(folder, { extensions: 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' });
  await openssl('req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca-key.pem -out ca.pem -subj /CN=our-authority');
  await openssl('req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost');
  await openssl(
    'x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -set_serial 7 -days 2 -out cert.pem -extfile extensions',
  );
  const server = createServer(
    { key: readFileSync(join(folder, 'key.pem')), cert: readFileSync(join(folder, 'cert.pem')) },
    (socket) => {
      const inner = connect(port, '127.0.0.1');
      for (const end of [socket, inner]) end.on('error', () => end.destroy());
      socket.pipe(inner).pipe(socket);
    },
  );
  server.on('tlsClientError', () => {}); // whoever does not trust us
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const url = `https://localhost:${(server.address() as AddressInfo).port}/simple`;
  return {
    url,
    authority: join(folder, 'ca.pem'),
    async [Symbol.asyncDispose]() {
      await new Promise((closed) => server.close(closed));
    },
  };
}

/** What was told while the run was made ready. */
async function preparation(place: Installation, run: string): Promise<string> {
  return (await place.client.logs.get({ workspace: place.workspace, run, name: 'preparation.txt' })).text();
}

function commandLines(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      } catch {
        return ''; // it has ended
      }
    });
}

async function filesWith(text: string, folder: string): Promise<string[]> {
  const args = ['--recursive', '--files-with-matches', '--binary-files=text', '--fixed-strings', text, '.'];
  const found = await execute('grep', args, { cwd: folder, env: {} });
  expect(found.code, found.stderr).toBeLessThan(2);
  return found.stdout.split('\n').filter((line) => line !== '');
}
