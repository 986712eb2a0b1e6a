import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { authorityFiles } from './authority-files.ts';
import { certify } from './certificates.ts';

const day = 86_400_000;
let folder: string;
let files: ReturnType<typeof authorityFiles>;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-test-'));
  files = authorityFiles(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const text = (file: string) => readFileSync(file, 'utf8');
const certificate = (file: string) => new X509Certificate(text(file));

async function answerTo(host: string, ca: string): Promise<string> {
  const server = createServer({ cert: text(files.certificate), key: text(files.key) }, (_request, answer) =>
    answer.end('hello'),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    return await new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', port, servername: host, ca, agent: false }, (answer) => {
        answer.on('data', (data) => resolve(String(data)));
      }).on('error', reject);
    });
  } finally {
    server.close();
  }
}

it('who trusts the authority reaches the server by each of its names, and who does not does not', async () => {
  await certify({ data: folder, names: ['ml.example.org', '127.0.0.1', '::1'], now: Date.now() });
  const ca = text(files.authority);
  expect(await answerTo('ml.example.org', ca)).toBe('hello');
  await expect(answerTo('evil.example', ca)).rejects.toThrow(/altnames|does not match/i);
  await certify({ data: join(folder, 'other'), names: ['ml.example.org'], now: Date.now() });
  await expect(answerTo('ml.example.org', text(authorityFiles(join(folder, 'other')).authority))).rejects.toThrow();
  const made = certificate(files.certificate);
  expect([made.checkIP('127.0.0.1'), made.checkIP('::1'), made.ca]).toEqual(['127.0.0.1', '::1', false]);
  expect(made.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
  expect(certificate(files.authority).ca).toBe(true);
});

it('keys are for the eyes of the server’s user only', async () => {
  await certify({ data: folder, names: ['localhost'], now: Date.now() });
  for (const file of [files.key, files.authorityKey]) {
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(createPrivateKey(text(file)).asymmetricKeyType).toBe('ec');
  }
});

it('a certificate stays while it is good, and is made anew before it ends, by the same authority', async () => {
  const now = Date.now();
  await certify({ data: folder, names: ['localhost'], now });
  const [first, authority] = [text(files.certificate), text(files.authority)];
  await certify({ data: folder, names: ['localhost'], now: now + 300 * day });
  expect(text(files.certificate)).toBe(first);
  await certify({ data: folder, names: ['localhost'], now: now + 380 * day });
  expect(text(files.certificate)).not.toBe(first);
  expect(certificate(files.certificate).checkIssued(new X509Certificate(authority))).toBe(true);
  expect(text(files.authority)).toBe(authority);
});

it('a certificate is made anew for another name', async () => {
  const now = Date.now();
  await certify({ data: folder, names: ['localhost'], now });
  await certify({ data: folder, names: ['localhost', 'new.example.org'], now });
  expect(certificate(files.certificate).checkHost('new.example.org')).toBe('new.example.org');
});

it('an authority that is nearly over is made anew, and with it the certificate', async () => {
  const now = Date.now();
  await certify({ data: folder, names: ['localhost'], now });
  const before = text(files.authority);
  await certify({ data: folder, names: ['localhost'], now: now + 3_640 * day });
  expect(text(files.authority)).not.toBe(before);
  expect(certificate(files.certificate).checkIssued(certificate(files.authority))).toBe(true);
});
