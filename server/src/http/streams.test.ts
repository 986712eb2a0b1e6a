import { once } from 'node:events';
import { request } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { mutated } from '@stellwerk/contract/mutated.fixture.ts';
import { limits } from '@stellwerk/contract/values.ts';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Download, downloadOf } from '../blob/download.ts';
import { bearer, type HttpRig, httpRig, raw } from './http.fixture.ts';
import type { DownloadAsked } from './service.ts';

let rig: HttpRig;
let download: (asked: DownloadAsked) => Promise<Download>;
let watch: (input: { after?: number }, signal: AbortSignal) => AsyncIterable<{ id: number }>;
const asked: DownloadAsked[] = [];

beforeAll(async () => {
  rig = await httpRig(
    {
      'datastores.getFile': (_input, _caller, given: DownloadAsked) => {
        asked.push(given);
        return download(given);
      },
      'activities.watch': (input: { after?: number }, _caller, signal: AbortSignal) => watch(input, signal),
      'blobs.append': async (_input, _caller, body: Readable) => {
        let sizeBytes = 0;
        for await (const chunk of body) sizeBytes += (chunk as Buffer).length;
        return { sizeBytes };
      },
    },
    { recheckMs: 100 },
  );
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(() => void asked.splice(0));

const content = Buffer.from('0123456789');
const file =
  (more: Partial<Download> = {}) =>
  async (given: DownloadAsked) => ({
    ...downloadOf({ sizeBytes: content.length, filename: 'data.csv', etag: 'e1' }, given, ({ start, end }) =>
      Readable.from([content.subarray(start, end)], { objectMode: false }),
    ),
    ...more,
  });
const get = (headers: Record<string, string> = {}) =>
  raw(`${rig.url}/api/v1/workspaces/w1/datastores/store/file?path=x`, {
    headers: { ...bearer(rig.tokens.reader), ...headers },
  });

describe('a download', () => {
  it('is never shown as a page of ours, whatever it says it is', async () => {
    download = file({ contentType: 'text/html' });
    const { status, headers, body } = await get();
    expect([status, body]).toEqual([200, '0123456789']);
    expect(headers).toMatchObject({
      'content-length': '10',
      'content-disposition': expect.stringMatching(/^attachment; /),
      'content-security-policy': "sandbox; default-src 'none'",
      'x-content-type-options': 'nosniff',
      'accept-ranges': 'bytes',
      etag: '"e1"',
    });
  });

  it('gives a part, and all of it when the part is of something that has changed', async () => {
    download = file();
    const part = await get({ range: 'bytes=2-4' });
    expect([part.status, part.body, part.headers['content-range']]).toEqual([206, '234', 'bytes 2-4/10']);
    expect((await get({ range: 'bytes=7-' })).body).toBe('789');
    expect((await get({ range: 'bytes=2-4', 'if-range': '"e1"' })).body).toBe('234');
    const all = await get({ range: 'bytes=2-4', 'if-range': '"e0"' });
    expect([all.status, all.body]).toEqual([200, '0123456789']);
  });

  it('does not promise parts of what is made as it goes', async () => {
    download = async () => ({ stream: Readable.from(['a', 'b'], { objectMode: false }), contentType: 'text/plain' });
    const { headers, body } = await get();
    expect(body).toBe('ab');
    expect(headers).not.toHaveProperty('accept-ranges');
  });

  it('may have any name, and no name reaches into the headers', async () => {
    for (const filename of [
      'a b.txt',
      'ümläut 🚂.csv',
      'x"; filename="y',
      'a\r\nSet-Cookie: b=c',
      '%2e%2e',
      "it's (1)",
      '\ud800',
    ]) {
      download = file({ filename });
      const { headers, status } = await get();
      expect(status).toBe(200);
      expect(headers).not.toHaveProperty('set-cookie');
      const [, plain, encoded] = /^attachment; filename="([\x20-\x7e]*)"; filename\*=UTF-8''([\w.%~!-]*)$/.exec(
        headers['content-disposition']!,
      )!;
      expect(plain).not.toMatch(/["\\%]/);
      expect(decodeURIComponent(encoded!)).toBe(filename.toWellFormed());
    }
  });

  it('that breaks off is seen to be incomplete', async () => {
    download = async () => ({
      contentType: 'text/plain',
      stream: Readable.from(
        (async function* () {
          yield Buffer.from('half');
          await pause(50);
          throw new Error('The disk is gone.');
        })(),
        { objectMode: false },
      ),
    });
    await expect(get()).rejects.toThrow();
  });

  it('is told when its reader leaves', async () => {
    const stream = new Readable({ read() {} });
    stream.push('x');
    download = async () => ({ stream, contentType: 'text/plain' });
    const leaving = request(`${rig.url}/api/v1/workspaces/w1/datastores/store/file?path=x`, {
      headers: bearer(rig.tokens.reader),
    });
    leaving.on('error', () => {}).end();
    await expect.poll(() => asked.length).toBe(1);
    expect(asked[0]!.signal.aborted).toBe(false);
    leaving.destroy();
    await expect.poll(() => asked[0]!.signal.aborted && stream.destroyed).toBe(true);
  });

  it('that is refused is answered as JSON', async () => {
    download = async () => {
      throw new ServiceError('not-found', 'datastore.file-not-found', 'There is no file x.');
    };
    expect(JSON.parse((await get()).body)).toMatchObject({ code: 'not-found', message: 'There is no file x.' });
  });
});

describe('an upload', () => {
  it('is read as it comes, however large, and needs no length', async () => {
    const url = `${rig.url}/api/v1/workspaces/w1/blobs/sha256:${'a'.repeat(64)}?offset=0&sizeBytes=50000000`;
    const body = Readable.toWeb(
      Readable.from(
        (function* () {
          for (let n = 0; n < 50; n++) yield Buffer.alloc(1_000_000, 120);
        })(),
      ),
    );
    const headers = { ...bearer(rig.tokens.contributor), 'content-type': 'application/octet-stream' };
    const answer = await fetch(url, { method: 'PUT', headers, body, duplex: 'half' } as RequestInit);
    expect(await answer.json()).toEqual({ sizeBytes: 50_000_000 });
  });
});

describe('events', () => {
  const events = (headers: Record<string, string> = {}, query = '', token = rig.tokens.reader) =>
    fetch(`${rig.url}/api/v1/workspaces/w1/activity-events${query}`, { headers: { ...bearer(token), ...headers } });
  const counting = (until: number) =>
    async function* ({ after = 0 }: { after?: number }) {
      for (let id = after + 1; id <= until; id++) yield { id, activity: { text: 'zwei\nZeilen' } };
    };
  const idsOf = (text: string) => [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));

  it('come with an id and one line of data each', async () => {
    watch = counting(3);
    const answer = await events();
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    const text = await answer.text();
    expect(idsOf(text)).toEqual([1, 2, 3]);
    expect(text).toContain('data: {"id":1,"activity":{"text":"zwei\\nZeilen"}}\n\n');
  });

  it('go on after Last-Event-ID, which counts more than the address', async () => {
    watch = counting(5);
    expect(idsOf(await (await events({ 'last-event-id': '3' })).text())).toEqual([4, 5]);
    expect(idsOf(await (await events({}, '?after=2')).text())).toEqual([3, 4, 5]);
    expect(idsOf(await (await events({ 'last-event-id': '4' }, '?after=2')).text())).toEqual([5]);
    for (const id of ['', 'x', '-1', '1.5', '1e3'])
      expect(idsOf(await (await events({ 'last-event-id': id }, '?after=3')).text())).toEqual([4, 5]);
  });

  it('go on after Last-Event-ID if it is a number, whatever became of it, and else after what the address says', async () => {
    watch = counting(5);
    const sendable = mutated('3', '4', '12').filter((id) => /^[\x20-\x7e]{0,2000}$/.test(id));
    await fc.assert(
      fc.asyncProperty(sendable, async (id) => {
        const answer = await events({ 'last-event-id': id }, '?after=3');
        expect(answer.status).toBe(200);
        const after = /^\d{1,15}$/.test(id.trim()) ? Number(id) : 3;
        expect(idsOf(await answer.text())).toEqual([1, 2, 3, 4, 5].filter((one) => one > after));
      }),
      { numRuns: 100 },
    );
  });

  it('that are refused are answered with the reason, before the stream is open', async () => {
    // biome-ignore lint/correctness/useYield: it fails before its first event
    watch = async function* () {
      throw new ServiceError('not-found', 'activity.not-found', 'There is no activity a1.');
    };
    const answer = await events();
    expect([answer.status, await answer.json()]).toMatchObject([404, { reason: 'activity.not-found' }]);
  });

  it('that fail in the middle say so and end', async () => {
    watch = async function* () {
      yield { id: 1 };
      throw new TypeError('secret detail');
    };
    const text = await (await events()).text();
    expect(text).toMatch(/event: error\ndata: .*"incident":"i\d+"/);
    expect(text).not.toContain('secret detail');
  });

  it('are opened although nothing happens, and told when the reader leaves', async () => {
    const ended = Promise.withResolvers<void>();
    watch = async function* (_input, signal) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      ended.resolve();
      yield* [];
    };
    const leaving = new AbortController();
    const headers = bearer(rig.tokens.reader);
    const { signal } = leaving;
    const answer = await fetch(`${rig.url}/api/v1/workspaces/w1/activity-events`, { headers, signal });
    expect(answer.status).toBe(200);
    leaving.abort();
    await ended.promise;
  });

  it('wait for a slow reader instead of filling the memory', async () => {
    let made = 0;
    watch = async function* () {
      for (let id = 1; id <= 2_000; id++) {
        made = id;
        yield { id, activity: 'x'.repeat(100_000) };
      }
    };
    const answer = await events();
    await pause(500);
    const before = made;
    expect(before).toBeLessThan(500);
    const reader = answer.body!.getReader();
    for (let read = 0; read < 30_000_000; ) read += (await reader.read()).value?.length ?? 0;
    expect(made).toBeGreaterThan(before);
    await reader.cancel();
  });

  it('are limited for one caller, and others and later ones are not concerned', async () => {
    watch = async function* (_input, signal) {
      await once(signal, 'abort');
      yield* [];
    };
    const open = async (token: string) => {
      const leave = new AbortController();
      const answer = await fetch(`${rig.url}/api/v1/workspaces/w1/activity-events`, {
        headers: bearer(token),
        signal: leave.signal,
      });
      return { answer, status: answer.status, leave: () => leave.abort() }; // one that nobody holds is closed
    };
    const { reader, owner } = rig.tokens;
    const opened = await Promise.all(Array.from({ length: limits.openStreams }, () => open(reader)));
    expect(new Set(opened.map(({ status }) => status))).toEqual(new Set([200]));
    expect((await open(reader)).status).toBe(429);
    const other = await open(owner);
    expect(other.status).toBe(200);
    opened.pop()!.leave();
    await expect
      .poll(
        async () => {
          const again = await open(reader);
          opened.push(again);
          return again.status;
        },
        { timeout: 20_000 },
      )
      .toBe(200);
    for (const { leave } of [other, ...opened]) leave();
  });

  it('end when the token is revoked, or the role taken away', async () => {
    watch = async function* (_input, signal) {
      for (let id = 1; !signal.aborted; id++) {
        yield { id };
        await pause(20);
      }
    };
    const { access } = rig.rig;
    const caller = await access.authenticator.callerOf(rig.tokens.owner);
    const made = await access.tokens.create({ name: 'short' }, caller);
    const revoked = await events({}, '', made.token);
    const stays = await events({}, '', rig.tokens.owner);
    await access.tokens.revoke({ token: made.record.id }, caller);
    const ended = (stream: Response) => Promise.race([stream.text(), pause(20_000, 'It goes on.')]);
    expect(idsOf(await ended(revoked)).length).toBeGreaterThan(0);
    const removed = await events({}, '', rig.tokens.contributor);
    await access.members.remove({ workspace: 'w1', user: 'contributor' });
    expect(await ended(removed)).not.toBe('It goes on.');
    const reader = stays.body!.getReader();
    await reader.read();
    expect((await reader.read()).done).toBe(false);
    await reader.cancel();
  });
});
