// Callers of web services who never come to an end of their request are cut off, and keep no replica and no other caller waiting.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { slowCallers } from '../http/slow.fixture.ts';
import { Gateway } from './gateways.ts';

const slow = { headersMs: 1_000, requestMs: 2_000, lookEveryMs: 100 };
const many = 200;

it('slow headers and bodies are cut off without a replica having seen them, and others are answered meanwhile', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'stellwerk-gateway-'));
  await using cleanUp = new AsyncDisposableStack();
  cleanUp.defer(() => rmSync(folder, { recursive: true, force: true }));
  const seen: string[] = [];
  const replica = createServer(async (request, response) => {
    if (request.url !== '/ready') seen.push(request.headers['x-kind'] as string);
    const body = await text(request).catch(() => undefined);
    response.end(body);
  });
  const socketPath = join(folder, 'replica.sock');
  await new Promise<void>((listening) => void replica.listen(socketPath, listening));
  cleanUp.defer(() => {
    replica.closeAllConnections();
    replica.close();
  });
  const gateway = new Gateway({
    folder: join(folder, 'gateway'),
    settings: { host: '127.0.0.1', port: 0, accessLog: false, version: '1', slow },
    program: { command: process.execPath, args: [join(import.meta.dirname, 'main.ts')] },
  });
  const { port } = await gateway.ensureRunning();
  cleanUp.defer(() => gateway.stop());
  await gateway.writeRoutes([
    {
      workspace: 'ws',
      service: 'svc',
      replicas: [{ id: 'r', address: { socketPath } }],
      authentication: 'none',
      keyHashes: [],
      limits: { bodyBytes: 10_000_000, timeoutMs: 60_000, inFlight: 1_000 },
    },
  ]);
  const isReady = async () => (await gateway.status())!.services[0]!.replicas[0]!.ready;
  await expect.poll(isReady, { timeout: 30_000 }).toBe(true);

  const head = (kind: string, framing: string) =>
    `POST /services/ws/svc/score HTTP/1.1\r\nHost: localhost\r\nX-Kind: ${kind}\r\n${framing}`;
  const kinds = {
    silence: ['', ''],
    headers: [head('headers', ''), 'X: y\r\n'],
    small: [head('small', 'Content-Length: 50000\r\n\r\n'), 'x'],
    large: [head('large', 'Content-Length: 5000000\r\n\r\n'), 'x'],
    chunks: [head('chunks', 'Transfer-Encoding: chunked\r\n\r\n'), '1\r\nx\r\n'],
  } as const;
  const address = `http://127.0.0.1:${port}/services/ws/svc/score`;
  for (const [kind, [first, more]] of Object.entries(kinds)) {
    using callers = await slowCallers(port, many, first, more);
    let answered = 0;
    do {
      const answer = await fetch(address, {
        method: 'POST',
        body: `${kind}${answered}`,
        headers: { 'x-kind': 'quick' },
      });
      expect([kind, answer.status, await answer.text()]).toEqual([kind, 200, `${kind}${answered}`]);
      answered++;
    } while (callers.sending() > 0);
    expect(answered).toBeGreaterThan(1);
    for (const told of await callers.cutOff)
      expect([kind, told]).toEqual([kind, expect.stringMatching(/^HTTP\/1\.1 408 /)]);
  }
  expect(seen).not.toContain('small'); // a small body is whole before a replica is chosen
  await expect.poll(async () => (await gateway.status())!.services[0]!.inFlight, { timeout: 30_000 }).toBe(0);
});
