// One tenant floods the server with all it may send: the server's memory stays bounded, and another tenant is answered rightly meanwhile.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Client } from '@stellwerk/client/client.ts';
import { uploadFile } from '@stellwerk/client/uploads.ts';
import { limits } from '@stellwerk/contract/values.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';

const mebibyte = 1024 * 1024;
/** Much more than it ever needs, much less than what is sent. */
const memoryBytes = 1_000 * mebibyte;
const workspace = 'flooded';
let installation: Installation;
let flooder: Client;
let token: string;

beforeAll(async () => {
  installation = await Installation.start();
  const { client } = installation;
  await client.workspaces.create({ name: workspace });
  const { signIn } = await client.users.create({ name: 'flut' });
  await client.members.set({ workspace, user: 'flut', role: 'contributor' });
  ({ token } = await installation.clientWith(undefined).signIns.redeem({ code: signIn!.code }));
  flooder = installation.clientWith(token);
});
afterAll(() => installation[Symbol.asyncDispose]());

const startRun = async () => (await flooder.runs.start({ workspace, experiment: 'flood' })).id;

/** Does it while another tenant works; checks every answer of that one, and the server's memory all the time. */
async function during(flood: Promise<unknown>): Promise<void> {
  const { client, workspace: own } = installation;
  let over = false;
  const ended = flood.finally(() => {
    over = true;
  });
  ended.catch(() => {}); // seen below
  let answered = 0;
  do {
    const run = await client.runs.start({ workspace: own, experiment: 'quiet' });
    const text = `line ${answered++}\n`;
    await client.logs.append({ workspace: own, run: run.id, name: 'output.txt', offset: 0 }, Buffer.from(text));
    expect(await (await client.logs.get({ workspace: own, run: run.id })).text()).toBe(text);
    await client.runs.update({ workspace: own, run: run.id, tags: { answered: String(answered) } });
    expect((await client.runs.get({ workspace: own, run: run.id })).tags).toEqual({ answered: String(answered) });
    expect(peakBytes()).toBeLessThan(memoryBytes);
  } while (!over);
  await ended;
}

/** The most memory that the server ever had. */
function peakBytes(): number {
  const status = readFileSync(`/proc/${installation.pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}

const times = <T>(count: number, each: (index: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, index) => each(index)));

test('a flood of logs', async () => {
  const part = Buffer.alloc(limits.logPartBytes, 'what a script prints without end\n');
  const flood = times(8, async () => {
    const run = await startRun();
    for (let offset = 0; offset < 10 * part.length; offset += part.length)
      await flooder.logs.append({ workspace, run, name: 'output.txt', offset }, part);
    return run;
  });
  await during(flood);
  const { items } = await flooder.logs.list({ workspace, run: (await flood)[0]! });
  expect(items).toMatchObject([{ name: 'output.txt', sizeBytes: 10 * part.length }]);
});

test('a flood of contents in many parts', async () => {
  const sizeBytes = 300 * mebibyte;
  // None of them ever ends: they are held open, each with as much as the server takes.
  const stop = new AbortController();
  const part = randomBytes(mebibyte);
  const sent: number[] = [];
  const flood = times(6, async (index) => {
    const digest = `sha256:${String(index).repeat(64)}`;
    let bytes = 0;
    const body = new ReadableStream({
      async pull(controller) {
        if (bytes < sizeBytes - part.length) controller.enqueue(part);
        else await new Promise((resolve) => stop.signal.addEventListener('abort', resolve));
        bytes += part.length;
        sent[index] = bytes;
        if (sent.filter((one) => one >= sizeBytes - part.length).length === 6) stop.abort();
      },
    });
    const address = `${installation.url}/api/v1/workspaces/${workspace}/blobs/${digest}?offset=0&sizeBytes=${sizeBytes}`;
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' };
    const init = { method: 'PUT', headers, body, duplex: 'half', signal: stop.signal };
    await fetch(address, init as RequestInit).catch((error) => expect(String(error)).toContain('Abort'));
  });
  await during(flood);
  expect(Math.min(...sent)).toBeGreaterThan(sizeBytes - 2 * mebibyte);
});

test('a flood of small contents', async () => {
  const flood = times(20, async () => {
    for (let i = 0; i < 30; i++) await uploadFile(flooder, workspace, randomBytes(10_000));
  });
  await during(flood);
});

test('a flood of metrics', async () => {
  const flood = times(4, async (index) => {
    const run = await startRun();
    let journal = '';
    for (let step = 0; journal.length < limits.journalBytes - 200; step++)
      journal += `${JSON.stringify(['m', 'loss', step, 1_700_000_000 + step, step])}\n`;
    await flooder.journals.append({ workspace, run, journal: `j${index}`, offset: 0 }, journal);
  });
  await during(flood);
});

test('a flood of streams and of costly queries', async () => {
  const runs = await times(20, startRun);
  const stop = new AbortController();
  const follow = async () => {
    const address = `${installation.url}/api/v1/workspaces/${workspace}/activity-events`;
    const answer = await fetch(address, { headers: { authorization: `Bearer ${token}` }, signal: stop.signal });
    return answer.status;
  };
  const statuses = await times(limits.openStreams + 50, follow);
  expect(statuses.filter((status) => status === 200)).toHaveLength(limits.openStreams);
  expect(statuses.filter((status) => status === 429)).toHaveLength(50);
  const flood = times(8, async () => {
    for (let i = 0; i < 20; i++) {
      const { items } = await flooder.runs.query({ workspace, experiment: 'flood', pageSize: limits.pageSize });
      expect(items.length).toBeGreaterThanOrEqual(runs.length);
    }
  });
  await during(flood);
  stop.abort();
});
