import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { createServer as createTlsServer } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { configOf } from './config.ts';
import { connectTo, ownPlace } from './installation.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-installation-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function certificate(name: string): { cert: string; key: string } {
  const [cert, key] = [join(folder, `${name}.pem`), join(folder, `${name}.key`)];
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const args = [...request, '-subj', `/CN=${name}.example`, '-keyout', key, '-out', cert];
  execFileSync('openssl', args, { stdio: 'ignore' });
  return { cert, key };
}

test('an installation has a word of its own, and keeps it', () => {
  const data = mkdtempSync(join(folder, 'data-'));
  const other = mkdtempSync(join(folder, 'data-'));
  const of = (place: string) => ownPlace(configOf({ data: place }), () => '').installation;
  expect(of(data)).toMatch(/^[0-9a-f]{12}$/);
  expect(of(data)).toBe(of(data));
  expect(of(other)).not.toBe(of(data));
  expect(readdirSync(data)).toEqual(['installation']);
});

test('a server reaches itself, in the clear', async () => {
  const server = createServer((socket) => socket.end('itself')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  expect(await text(connectTo(`http://127.0.0.1:${port}`))).toBe('itself');
  server.close();
});

test('a server that speaks TLS reaches itself, whatever name its certificate has, and nobody else in its place', async () => {
  const [own, foreign] = [certificate('own'), certificate('foreign')];
  const options = { cert: readFileSync(own.cert), key: readFileSync(own.key) };
  const server = createTlsServer(options, (socket) => socket.end('itself')).listen(0, '127.0.0.1');
  server.on('tlsClientError', () => {});
  await once(server, 'listening');
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  expect(await text(connectTo(url, own.cert))).toBe('itself');
  await expect(text(connectTo(url, foreign.cert))).rejects.toThrow(/certificate/);
  await expect(text(connectTo(url))).rejects.toThrow(/certificate/);
  server.close();
});
