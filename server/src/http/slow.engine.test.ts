// Who takes for ever to send a request is cut off, and keeps nobody waiting until then.

import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { bearer, httpRig, raw } from './http.fixture.ts';
import { slowCallers } from './slow.fixture.ts';

const slow = { headersMs: 1_000, requestMs: 2_000, lookEveryMs: 100 };
const many = 300;

it('headers, bodies and chunks that never come to an end are cut off, and others are answered meanwhile', async () => {
  await using rig = await httpRig({ 'blobs.append': (_input: never, _caller, body: Readable) => text(body) }, { slow });
  const port = rig.http.port;
  const by = `Host: localhost\r\nAuthorization: Bearer ${rig.tokens.owner}\r\n`;
  const json = `PATCH /api/v1/workspaces/w1 HTTP/1.1\r\n${by}Content-Type: application/json\r\n`;
  const digest = `sha256:${'a'.repeat(64)}`;
  const blob = `PUT /api/v1/workspaces/w1/blobs/${digest}?offset=0&sizeBytes=1000000 HTTP/1.1\r\n${by}`;
  const kinds = {
    silence: ['', ''],
    headers: ['GET /healthz HTTP/1.1\r\nHost: localhost\r\n', 'X: y\r\n'],
    'a body': [`${json}Content-Length: 1000000\r\n\r\n{"description":"`, 'x'],
    'a body in chunks': [`${json}Transfer-Encoding: chunked\r\n\r\n`, '1\r\n \r\n'],
    'a content': [`${blob}Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n`, 'x'],
  } as const;
  for (const [kind, [head, more]] of Object.entries(kinds)) {
    using callers = await slowCallers(port, many, head, more);
    let answered = 0;
    do {
      const { status, body } = await raw(`${rig.url}/api/v1/workspaces/w1`, { headers: bearer(rig.tokens.reader) });
      expect([kind, status, JSON.parse(body)]).toEqual([kind, 200, { workspace: 'w1' }]);
      answered++;
    } while (callers.sending() > 0);
    expect(answered).toBeGreaterThan(1);
    for (const told of await callers.cutOff)
      expect([kind, told]).toEqual([kind, expect.stringMatching(/^HTTP\/1\.1 504 /)]);
  }
  expect(rig.incidents).toEqual([]);
});

it('a body in chunks of one byte is read as any other', async () => {
  await using rig = await httpRig({});
  const body = JSON.stringify({ description: 'x'.repeat(5_000) });
  const chunks = [...body].map((byte) => `1\r\n${byte}\r\n`).join('');
  const head = `PATCH /api/v1/workspaces/w1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n`;
  const headers = `Content-Type: application/json\r\nAuthorization: Bearer ${rig.tokens.owner}\r\n\r\n`;
  using caller = await slowCallers(rig.http.port, 1, `${head}${headers}${chunks}0\r\n\r\n`, '');
  expect((await caller.cutOff)[0]).toMatch(/^HTTP\/1\.1 200 [\s\S]*x{5000}/);
});
