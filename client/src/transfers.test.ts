import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { createClient } from './client.ts';
import { downloadFiles, downloadTo } from './downloads.ts';
import { hashBytes } from './file-hash.ts';
import { json, refusal, serve } from './local-server.fixture.ts';
import { uploadFile } from './uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'stellwerk client '));
afterAll(() => rmSync(folder, { recursive: true }));

it('a download that is cut goes on where it was, and is only there when it is whole', async () => {
  const content = randomBytes(3_000_000);
  const ranges: (string | undefined)[] = [];
  await using server = await serve((request, response) => {
    ranges.push(request.headers.range);
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const rest = content.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': rest.length });
    if (ranges.length < 3)
      response.write(rest.subarray(0, 1_000_000), () => setTimeout(() => request.socket.destroy(), 50));
    else response.end(rest);
  });
  const client = createClient({ url: server.url });
  const place = join(folder, 'größe & co', 'out.bin');
  const call = (options: object) =>
    client.models.getFile({ workspace: 'team', name: 'm', version: '1', path: 'a' }, options);
  await downloadTo(call, place, { digest: hashBytes(content) });
  expect(readFileSync(place).equals(content)).toBe(true);
  expect(ranges.length).toBe(3);
  expect(ranges[2]).toMatch(/^bytes=\d{6,}-$/);
  await expect(downloadTo(call, join(folder, 'other'), { digest: hashBytes('x') })).rejects.toThrow(
    /is not what the server announced/,
  );
  expect(existsSync(join(folder, 'other'))).toBe(false);
});

it('refuses a path of the server that leads out of the folder', async () => {
  const call = () => Promise.reject(new Error('must not be asked'));
  for (const path of ['../x', '/etc/passwd', 'a/../../x', 'a\\..\\x'])
    await expect(downloadFiles([{ path, sizeBytes: 1 }], call, folder)).rejects.toMatchObject({
      reason: 'path.invalid',
    });
});

it('an upload goes on after a part whose answer was lost', async () => {
  const content = randomBytes(20_000_000);
  const file = join(folder, 'weights ü.bin');
  writeFileSync(file, content);
  let received = Buffer.alloc(0);
  let cuts = 1;
  await using server = await serve((request, response, body) => {
    const state = () => ({ digest: '', complete: received.length === content.length, receivedBytes: received.length });
    if (request.method === 'GET') return json(response, 200, state());
    const offset = Number(new URL(request.url!, 'http://x').searchParams.get('offset'));
    if (offset !== received.length)
      return refusal(response, 409, 'conflict', 'blob.offset', { receivedBytes: received.length });
    received = Buffer.concat([received, body]);
    if (cuts-- > 0) return void request.socket.destroy();
    json(response, 200, state());
  });
  const progress: number[] = [];
  const uploaded = await uploadFile(createClient({ url: server.url }), 'team', file, {
    onProgress: ({ doneBytes }) => progress.push(doneBytes),
  });
  expect(uploaded).toEqual({ digest: hashBytes(content), sizeBytes: content.length });
  expect(received.equals(content)).toBe(true);
  expect(progress.at(-1)).toBe(content.length);
  expect(progress).toEqual(progress.toSorted((a, b) => a - b));
});
