import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ada, type RunRooms, runRooms, workspace } from '../run/run-rooms.fixture.ts';
import { Logs } from './logs.ts';

let rooms: RunRooms;
let run: string;
beforeAll(async () => {
  rooms = await runRooms();
});
afterAll(() => rooms[Symbol.asyncDispose]());
beforeEach(async () => {
  run = (await rooms.start({ experiment: 'logs' })).id;
});

const name = 'output.txt';
const append = (content: string, offset: number, more: object = {}) =>
  rooms.logs.append(
    { workspace, run, name, offset, ...more },
    ada,
    Readable.from(content === '' ? [] : [Buffer.from(content)], { objectMode: false }),
  );
const get = (more: object = {}, asked: object = {}) => rooms.logs.get({ workspace, run, ...more }, ada, asked);
const read = async (more: object = {}) => text((await get(more)).stream);
async function refusal(act: Promise<unknown>): Promise<ServiceError> {
  const error = await act.then(
    () => undefined,
    (failed) => failed,
  );
  if (!(error instanceof ServiceError)) throw error ?? new Error('was not refused');
  return error;
}

test('what is appended twice is there once; a gap is refused with the offset to go on from', async () => {
  expect(await append('one\n', 0)).toEqual({ name, sizeBytes: 4, complete: false });
  expect(await append('one\n', 0)).toMatchObject({ sizeBytes: 4 });
  expect(await append('one\ntwo\n', 0)).toMatchObject({ sizeBytes: 8 });
  expect(await refusal(append('four\n', 14))).toMatchObject({ reason: 'run.log-offset', details: { offset: 8 } });
  expect(await append('', 8, { complete: true })).toEqual({ name, sizeBytes: 8, complete: true });
  expect(await append('two\n', 4)).toEqual({ name, sizeBytes: 8, complete: true });
  expect(await read()).toBe('one\ntwo\n');
  expect((await rooms.logs.list({ workspace, run })).items).toEqual([{ name, sizeBytes: 8, complete: true }]);
});

test('parts that come at the same time are put one after another', async () => {
  const whole = Array.from({ length: 50 }, (_, i) => `line ${i}\n`).join('');
  const parts = Array.from({ length: 30 }, (_, i) => append(whole.slice(0, (i + 1) * 10), 0));
  await Promise.all([...parts, append(whole, 0)]);
  expect(await read()).toBe(whole);
});

test('a log is read from an offset and in parts', async () => {
  await append('0123456789', 0);
  expect(await read({ offset: 7 })).toBe('789');
  expect(await read({ offset: 70 })).toBe('');
  const part = await get({}, { range: 'bytes=2-4' });
  expect(part).toMatchObject({
    sizeBytes: 3,
    range: { start: 2, end: 5, total: 10 },
    contentType: 'text/plain; charset=utf-8',
  });
  expect(await text(part.stream)).toBe('234');
});

test('a log that does not exist yet is empty if it is the output, and else is not found', async () => {
  expect(await read()).toBe('');
  expect((await refusal(get({ name: 'other.txt' }))).reason).toBe('run.file-not-found');
});

test('names and ids are free text and never leave the folder', async () => {
  for (const bad of ['../x', '/etc/passwd', 'a/../../b', 'a\\b', 'a\0b'])
    expect((await refusal(append('x', 0, { name: bad }))).reason).toBe('path.invalid');
  const odd = await rooms.start({ experiment: 'logs', id: '..%2f..%2fodd ü' });
  await rooms.logs.append(
    { workspace, run: odd.id, name: 'rank/0 \r\n.log', offset: 0 },
    ada,
    Readable.from([Buffer.from('x')], { objectMode: false }),
  );
  expect(await text((await rooms.logs.get({ workspace, run: odd.id, name: 'rank/0 \r\n.log' }, ada)).stream)).toBe('x');
  const files = readdirSync(join(rooms.scratch.folder, 'logs', workspace), { recursive: true, encoding: 'utf8' });
  for (const file of files) expect(file).toMatch(/^[0-9a-f]{2}(\/[0-9a-f]{64}\.log)?$/);
});

test('what a run prints beyond its limit is taken and not kept, its log says so, and other runs print on', async () => {
  const { runs, scratch } = rooms;
  const limited = () =>
    new Logs({
      db: scratch.db,
      folder: join(scratch.folder, 'limited'),
      placeOf: (of, id) => runs.placeOf(of, id),
      fence: async () => {},
      onChange: () => () => {},
      limitBytes: 100,
    });
  let logs = limited();
  const print = (of: string, log: string, text: string, offset: number) =>
    logs.append(
      { workspace, run: of, name: log, offset },
      ada,
      Readable.from([Buffer.from(text)], { objectMode: false }),
    );
  const printed = async (of: string, log: string) =>
    text((await logs.get({ workspace, run: of, name: log }, ada)).stream);
  await print(run, 'a', 'x'.repeat(60), 0);
  expect(await print(run, 'b', 'y'.repeat(60), 0)).toEqual({ name: 'b', sizeBytes: 60, complete: false, cut: true });
  expect(await printed(run, 'b')).toMatch(/^y{40}\n\[The logs of this run have reached 100 bytes: .*goes on\.\]\n$/);
  logs = limited(); // after a restart, too
  expect(await print(run, 'b', 'z'.repeat(1_000), 5_000)).toMatchObject({ sizeBytes: 6_000, cut: true });
  expect(await print(run, 'a', 'z'.repeat(1_000), 60)).toMatchObject({ sizeBytes: 1_060, cut: true });
  expect(await printed(run, 'b')).not.toContain('z');
  expect((await logs.list({ workspace, run })).items).toMatchObject([
    { name: 'a', cut: true },
    { name: 'b', cut: true },
  ]);
  const another = (await rooms.start({ experiment: 'logs' })).id;
  expect(await print(another, 'a', 'fits', 0)).toEqual({ name: 'a', sizeBytes: 4, complete: false });
});

test('a part that is too large is refused', async () => {
  expect((await refusal(append('x'.repeat(4 * 1024 * 1024 + 1), 0))).reason).toBe('request.too-large');
});

/** Follows and notes when each part came. */
async function follow(offset = 0, signal?: AbortSignal) {
  const { stream } = await get({ follow: true, offset }, { signal });
  let got = '';
  const done = (async () => {
    for await (const part of stream) got += part;
  })();
  return { done, got: () => got };
}

test('whoever follows sees each part as soon as it is there, and the end with the run', async () => {
  const following = await follow();
  await pause(50);
  let offset = 0;
  for (const part of ['one\n', 'two\n', 'three\n']) {
    offset = (await append(part, offset)).sizeBytes;
    while (!following.got().endsWith(part)) await pause(1);
  }
  await append('last\n', offset);
  await rooms.runs.report({ workspace, run, attempt: 1, state: 'completed' }, ada);
  await following.done;
  expect(following.got()).toBe('one\ntwo\nthree\nlast\n');
});

test('who follows goes on from an offset, and is let go when the log is complete', async () => {
  await append('one\ntwo\n', 0);
  const following = await follow(4);
  while (following.got() === '') await pause(1);
  await append('three\n', 8, { complete: true });
  await following.done;
  expect(following.got()).toBe('two\nthree\n');
  expect(await read({ follow: true })).toBe('one\ntwo\nthree\n');
});

test('who follows a log that stays silent is let go at the signal, and can tell that this is not its end', async () => {
  const ended = new AbortController();
  const following = await follow(0, ended.signal);
  await pause(50);
  ended.abort();
  expect((await refusal(following.done)).reason).toBe('server.stopping');
  expect(following.got()).toBe('');
});

test('the logs of a workspace go with it', async () => {
  await append('one\n', 0);
  await rooms.logs.clear(workspace);
  expect(await read()).toBe('');
});
