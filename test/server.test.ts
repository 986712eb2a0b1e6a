// The server's own life: the first sign-in, one server per folder, TLS, a public address, stopping, and going on after a kill.
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempDisposableSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { waitForActivity } from '@stellwerk/client/activities.ts';
import { createClient } from '@stellwerk/client/client.ts';
import { uploadFile } from '@stellwerk/client/uploads.ts';
import { expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { freePort } from './ports.ts';
import { isAlive, processesWith } from './processes.ts';
import { until } from './waiting.ts';

test('the first sign-in is a link that is good once, made anew at each start until it was used; no password opens the door', async () => {
  await using installation = Installation.prepare();
  const first = await installation.up();
  expect(first.signIn).toContain('#');
  const stranger = installation.clientWith(undefined);
  for (const password of ['', 'admin', 'stellwerk', 'password'])
    await expect(stranger.signIns.create({ user: 'admin', password })).rejects.toMatchObject({
      reason: 'access.password-wrong',
    });
  await installation.stop();
  const second = await installation.up();
  expect(second.signIn).not.toBe(first.signIn);
  await installation.signIn(second.signIn!);
  expect((await installation.client.me.get()).user).toMatchObject({ name: 'admin', administrator: true });
  for (const link of [second.signIn!, first.signIn!]) {
    const again = await installation.cli(['login', link]);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('A sign-in link is good once');
  }
  await installation.stop();
  expect((await installation.up()).signIn).toBeUndefined();
  expect((await installation.client.me.get()).user.name).toBe('admin');
});

test('it listens on the loopback alone, and what it keeps is for its user alone', async () => {
  await using installation = await Installation.start();
  expect(new URL(installation.url).hostname).toBe('127.0.0.1');
  const others = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const { port } = new URL(installation.url);
  for (const { address } of others.filter(({ internal, family }) => !internal && family === 'IPv4'))
    await expect(fetch(`http://${address}:${port}/healthz`)).rejects.toThrow();
  const data = join(installation.folder, 'data');
  expect(statSync(data).mode & 0o777).toBe(0o700);
  expect(statSync(join(data, 'master.key')).mode & 0o777).toBe(0o600);
  await installation.stop();
  chmodSync(data, 0o755); // as a folder that was made beforehand
  await installation.up();
  expect(statSync(data).mode & 0o777).toBe(0o700);
});

test('a second server on the same folder, or on a port that is taken, is refused with what to do; the first goes on', async () => {
  await using installation = await Installation.start();
  const data = join(installation.folder, 'data');
  const sameFolder = await installation.cli(['up', '--data', data, '--port', '0']);
  expect(sameFolder.code).not.toBe(0);
  expect(sameFolder.stderr).toContain(data);
  expect(sameFolder.stderr).toContain('Another Stellwerk server');
  const { port } = new URL(installation.url);
  const samePort = await installation.cli(['up', '--data', join(installation.folder, 'other'), '--port', port]);
  expect(samePort.code).not.toBe(0);
  expect(samePort.stderr).toContain(port);
  expect(samePort.stderr).toContain('--port');
  for (const { stderr } of [sameFolder, samePort]) expect(stderr).not.toMatch(/^\s+at /m);
  expect((await installation.client.me.get()).user.name).toBe('admin');
  const killed = await installation.stop('SIGKILL');
  expect(killed).toBeNull();
  await installation.up(); // nothing of the killed server holds the folder
  expect((await installation.client.me.get()).user.name).toBe('admin');
});

test('with a certificate it speaks TLS only, under its public address, to the client, the command line, Python and runs', async () => {
  using material = mkdtempDisposableSync(join(tmpdir(), 'stellwerk-certificate-'));
  const [certificate, key] = [join(material.path, 'certificate.pem'), join(material.path, 'key.pem')];
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
  const request = [
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=localhost',
    '-addext',
    names,
  ];
  execFileSync('openssl', [...request, '-keyout', key, '-out', certificate], { stdio: 'ignore' });
  const tls = ['--tls-certificate', certificate, '--tls-key', key];
  await using installation = await Installation.start(tls, { STELLWERK_CA_BUNDLE: certificate });
  expect(installation.url).toMatch(/^https:/);
  expect((await installation.client.server.get()).product).toBe('stellwerk');
  await expect(createClient({ url: installation.url, retries: 0 }).server.get()).rejects.toThrow();
  await expect(
    createClient({ url: installation.url.replace('https:', 'http:'), retries: 0 }).server.get(),
  ).rejects.toThrow();
  const me = await installation.python([
    '-c',
    'from stellwerk.core import Workspace; print(Workspace.get("story").name)',
  ]);
  expect(me).toMatchObject({ code: 0, stdout: 'story\n' });
  const folder = join(installation.folder, 'script');
  mkdirSync(folder);
  writeFileSync(join(folder, 'hello.py'), 'print("over TLS")\n');
  const submit = ['run', 'submit', folder, '--script', 'hello.py', '--environment.user-managed', '--follow'];
  for (const target of ['local', 'host']) {
    const run = await installation.cli([...submit, '--target', target]);
    expect(run, run.stderr).toMatchObject({ code: 0 });
    expect(run.stdout).toContain('over TLS');
  }
  const half = await installation.cli([
    'up',
    '--data',
    join(installation.folder, 'half'),
    '--port',
    '0',
    '--tls-key',
    key,
  ]);
  expect(half.code).not.toBe(0);
  expect(half.stderr).toContain('--tls-certificate');
});

test('with a public address its links lead there and it answers to that name, but to no other', async () => {
  const port = await freePort();
  await using installation = Installation.prepare(['--public-url', 'https://ml.example.org/', '--port', port]);
  const { signIn, url } = await installation.up();
  expect(url).toBe('https://ml.example.org');
  expect(signIn).toMatch(/^https:\/\/ml\.example\.org\/sign-in#/);
  const asked = async (host: string) => (await answer({ port, path: '/api/v1/server', headers: { host } })).status;
  expect(await asked('ml.example.org')).toBe(200);
  expect(await asked('127.0.0.1:8470')).toBe(200);
  expect(await asked('evil.example.com')).toBe(403);
  const wrong = await installation.cli(['up', '--data', join(installation.folder, 'x'), '--public-url', 'ftp://x']);
  expect(wrong.code).not.toBe(0);
  expect(wrong.stderr).toContain('--public-url');
});

test('base images come from the private network only from hosts that were allowed when the server was started', async () => {
  const asked: string[] = [];
  await using registry = createServer((request, response) => {
    asked.push(request.url!);
    response.writeHead(404).end();
  }).listen(0, '127.0.0.1');
  await once(registry, 'listening');
  const host = `127.0.0.1:${(registry.address() as AddressInfo).port}`;
  const failureOf = async (options: string[]) => {
    await using installation = await Installation.start(options);
    const { client, workspace } = installation;
    const { digest } = await uploadFile(
      client,
      workspace,
      Buffer.from('def init(): pass\ndef run(data): return data\n'),
    );
    const files = [{ path: 'score.py', digest }];
    const baseImage = `${host}/team/base:1`;
    const image = { workspace, name: 'based', scoringScript: 'score.py', files, baseImage };
    const { activity } = await client.images.create(image);
    return (await waitForActivity(client, { workspace, activity })).error?.message;
  };
  expect(await failureOf([])).toContain('does not connect');
  expect(asked).toEqual([]);
  expect(await failureOf(['--allow-host', 'other.example.org', '--allow-host', `http://${host}`])).toContain(host);
  expect(asked).toContain('/v2/team/base/manifests/1');
});

test('SIGTERM finishes the request in flight, ends open streams, and the server ends with 0', async () => {
  await using installation = await Installation.start();
  const { client, workspace } = installation;
  const { port } = new URL(installation.url);
  const authorization = `Bearer ${installation.token}`;
  const path = `/api/v1/workspaces/${workspace}`;

  const events = await answer({ port, path: `${path}/activity-events`, headers: { authorization } });
  const run = await client.runs.start({ workspace, experiment: 'open' });
  const body = Buffer.from('it goes on\n');
  await client.logs.append({ workspace, run: run.id, name: 'output.txt', offset: 0 }, body);
  const log = await answer({ port, path: `${path}/runs/${run.id}/log?follow=true`, headers: { authorization } });
  const ended = [allOf(events.stream), allOf(log.stream)];

  const bytes = randomBytes(4_000_000); // so much that the server does not gather all of the first half in memory
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const slow = httpRequest({
    port,
    method: 'PUT',
    path: `${path}/blobs/${digest}?sizeBytes=${bytes.length}`,
    headers: { authorization, 'content-type': 'application/octet-stream', 'content-length': bytes.length },
  });
  slow.write(bytes.subarray(0, 2_000_000));
  const answered = once(slow, 'response') as Promise<[IncomingMessage]>;
  await until('the first half is arriving', async () => {
    const files = readdirSync(join(installation.folder, 'data', 'uploads'), { recursive: true, withFileTypes: true });
    return files.some((file) => file.isFile() && statSync(join(file.parentPath, file.name)).size >= 1_000_000);
  });

  const stopped = installation.stop('SIGTERM');
  const [eventsSeen, logSeen] = await Promise.all(ended);
  expect(eventsSeen!.text).toContain(': open');
  expect(logSeen).toEqual({ text: 'it goes on\n', cut: true }); // or it would look like the end of the run's output
  expect(isAlive(installation.pid)).toBe(true);
  slow.end(bytes.subarray(2_000_000));
  const [response] = await answered;
  expect(response.statusCode).toBe(200);
  expect(JSON.parse(await text(response))).toMatchObject({ digest, complete: true });
  expect(await stopped).toBe(0);
  await installation.up();
  expect(await client.blobs.get({ workspace, digest })).toMatchObject({ complete: true });
  await client.runs.report({ workspace, run: run.id, attempt: 1, state: 'completed' });
});

test('an image build and a rollout that a kill -9 of the server interrupted go on after its restart, and nothing is left at the end', async () => {
  const installation = await Installation.start();
  {
    await using _ = installation;
    const { client, workspace } = installation;
    const source = Buffer.from('def init():\n    pass\n\n\ndef run(data):\n    return {"heard": data}\n');
    const { digest } = await uploadFile(client, workspace, source);
    const image = await client.images.create({
      workspace,
      name: 'echo',
      scoringScript: 'score.py',
      files: [{ path: 'score.py', digest }],
    });
    const build = { workspace, activity: image.activity };
    await until('the build has begun', async () => (await client.activities.get(build)).state !== 'queued');
    await installation.restart('SIGKILL');
    const built = await waitForActivity(client, build);
    expect(built, JSON.stringify(built.error)).toMatchObject({ state: 'succeeded' });

    const service = await client.services.deploy({
      workspace,
      name: 'echo',
      image: image.id,
      target: 'host',
      replicas: 2,
    });
    const rollout = { workspace, activity: service.activity! };
    await until('the rollout has begun', async () => (await client.activities.get(rollout)).state !== 'queued');
    await installation.restart('SIGKILL');
    const rolled = await waitForActivity(client, rollout);
    expect(rolled, JSON.stringify(rolled.error)).toMatchObject({ state: 'succeeded' });
    const scored = await installation.cli(['service', 'run', 'echo', '--data', '"hello"', '--json']);
    expect(scored, scored.stderr).toMatchObject({ code: 0 });
    expect(scored.stdout).toContain('heard');
    expect((await client.services.get({ workspace, service: 'echo' })).replicas).toBe(2);
  }
  await until('all processes have ended', () => processesWith(installation.folder).length === 0);
  expect(() => readdirSync(installation.folder)).toThrow('ENOENT');
});

async function answer(options: { port: string; path: string; headers: Record<string, string> }) {
  const request = httpRequest({ host: '127.0.0.1', ...options }).end();
  const [stream] = (await once(request, 'response')) as [IncomingMessage];
  return { status: stream.statusCode, stream };
}

/** Until its end, or until it is cut. */
async function allOf(stream: AsyncIterable<Buffer>): Promise<{ text: string; cut: boolean }> {
  let text = '';
  try {
    for await (const chunk of stream) text += chunk;
    return { text, cut: false };
  } catch {
    return { text, cut: true };
  }
}
