import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { ActivityEvent } from '@stellwerk/contract/activity.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type ActivityRig, activityRig, ada, watchFrom, workspace } from './activity.fixture.ts';
import { activityTransactions } from './store.ts';

let rig: ActivityRig;
beforeAll(async () => {
  rig = await activityRig();
});
afterAll(() => rig[Symbol.asyncDispose]());
beforeEach(() => rig.scratch.clear());

const change = (id: string, message: string) => {
  const at = new Date().toISOString();
  return rig.scratch.db.transact(activityTransactions.change, { id, change: { message, at } });
};
const end = (id: string) => {
  const at = new Date().toISOString();
  return rig.scratch.db.transact(activityTransactions.change, { id, change: { state: 'succeeded', at } });
};

describe('the list', () => {
  it('has the newest first, in pages, by state, kind and subject', async () => {
    const begun = [];
    for (let n = 0; n < 5; n++) {
      const at = new Date(Date.now() + n).toISOString();
      begun.push(await rig.begin(n % 2 ? 'image.build' : 'run', { subject: `s${n}`, at }));
    }
    await rig.begin('run', { workspace: 'other' });
    await end(begun[0]!.id);
    const first = await rig.activities.list({ workspace, pageSize: 3 });
    const rest = await rig.activities.list({ workspace, pageSize: 3, page: first.nextPage });
    expect([...first.items, ...rest.items].map(({ subject }) => subject)).toEqual(['s4', 's3', 's2', 's1', 's0']);
    const some = async (by: object) =>
      (await rig.activities.list({ workspace, ...by })).items.map(({ subject }) => subject);
    expect(await some({ kind: 'image.build' })).toEqual(['s3', 's1']);
    expect(await some({ state: 'succeeded' })).toEqual(['s0']);
    expect(await some({ subject: 's2' })).toEqual(['s2']);
  });

  it('does not show what is in another workspace', async () => {
    const { id } = await rig.begin('run', { workspace: 'other' });
    await expect(rig.get(id)).rejects.toMatchObject({ reason: 'activity.not-found', status: 404 });
    await expect(rig.activities.cancel({ workspace, activity: id }, ada)).rejects.toMatchObject({
      reason: 'activity.not-found',
    });
  });
});

describe('watching', () => {
  async function take(events: AsyncGenerator<ActivityEvent>, count: number): Promise<ActivityEvent[]> {
    const taken: ActivityEvent[] = [];
    for await (const event of events) if (taken.push(event) === count) break;
    return taken;
  }

  it('tells every change in its order, to several at once', async () => {
    const both = [take(watchFrom(rig.activities, 0), 11), take(watchFrom(rig.activities, 0), 11)];
    const { id } = await rig.begin();
    for (let n = 0; n < 10; n++) await change(id, `m${n}`);
    const [one, two] = await Promise.all(both);
    expect(one!.map(({ activity }) => activity.progress.message)).toEqual([
      'Waiting.',
      ...Array.from({ length: 10 }, (_, n) => `m${n}`),
    ]);
    expect(two).toEqual(one);
    expect(one!.map(({ id }) => id)).toEqual([...one!.map(({ id }) => id)].sort((a, b) => a - b));
  });

  it('goes on after the last event seen, with none lost and none twice, while changes go on', async () => {
    const { id } = await rig.begin();
    const total = 700; // more than are read at once
    const changing = (async () => {
      for (let n = 0; n < total; n += 10)
        await Promise.all(Array.from({ length: 10 }, (_, k) => change(id, `m${n + k}`)));
    })();
    const seen: ActivityEvent[] = [];
    while (seen.length < total + 1) {
      const after = seen.at(-1)?.id ?? 0;
      seen.push(...(await take(watchFrom(rig.activities, after), Math.min(70, total + 1 - seen.length))));
    }
    await changing;
    const messages = seen.map(({ activity }) => activity.progress.message);
    expect(messages).toEqual(['Waiting.', ...Array.from({ length: total }, (_, n) => `m${n}`)]);
    expect(new Set(seen.map(({ id }) => id)).size).toBe(total + 1);
  });

  it('begins now unless told where, and is of one activity if one is named', async () => {
    const one = await rig.begin();
    const two = await rig.begin('run', { subject: 't' });
    await rig.begin('run', { workspace: 'other' });
    const stop = new AbortController();
    const seen: string[] = [];
    const reading = (async () => {
      const input = { workspace, activity: two.id };
      for await (const { activity } of rig.activities.watch(input, undefined, stop.signal))
        seen.push(activity.progress.message);
    })();
    await pause(100);
    await change(one.id, 'not this one');
    await change(two.id, 'this one');
    await expect.poll(() => seen).toEqual(['this one']);
    stop.abort();
    await reading;
  });

  it('ends with its signal although nothing happens', async () => {
    const stop = new AbortController();
    const events = rig.activities.watch({ workspace, after: 0 }, undefined, stop.signal);
    const next = events.next();
    setTimeout(() => stop.abort(), 50);
    expect(await next).toEqual({ value: undefined, done: true });
  });

  it('keeps the newest events of an activity that has very many', async () => {
    const { id } = await rig.begin();
    for (let n = 0; n < 1_100; n += 100)
      await Promise.all(Array.from({ length: 100 }, (_, k) => change(id, `m${n + k}`)));
    const kept = await take(watchFrom(rig.activities, 0, id), 1_000);
    expect(kept.at(-1)!.activity.progress.message).toBe('m1099');
    expect(kept[0]!.activity.progress.message).toBe('m100');
  });
});

describe('the log', () => {
  const read = async (activity: string, more: object = {}) => {
    const { stream } = await rig.activities.getLog({ workspace, activity, ...more });
    return (await stream.toArray()).join('');
  };

  it('is text from an offset, and empty before anything was logged', async () => {
    const { id } = await rig.begin();
    expect(await read(id)).toBe('');
    await rig.activities.log(id, 'first: ü');
    await rig.activities.log(id, 'second\n');
    expect(await read(id)).toBe('first: ü\nsecond\n');
    expect(await read(id, { offset: Buffer.byteLength('first: ü\n') })).toBe('second\n');
    expect(await read(id, { offset: 1_000 })).toBe('');
    await expect(rig.activities.getLog({ workspace: 'other', activity: id })).rejects.toMatchObject({
      reason: 'activity.not-found',
    });
  });

  it('is followed until the activity ends, its last line included', async () => {
    const { id } = await rig.begin();
    const worker = await rig.work({
      run: async (work) => {
        for (let n = 0; n < 5; n++) {
          work.log(`line ${n}`);
          await pause(80);
        }
        work.log('last');
        return { state: 'succeeded' };
      },
    });
    expect(await read(id, { follow: true })).toBe('line 0\nline 1\nline 2\nline 3\nline 4\nlast\n');
    await worker.stop();
  });

  it('that is followed breaks off when the server stops, so that whoever follows goes on from there', async () => {
    const { id } = await rig.begin();
    await rig.activities.log(id, 'only');
    const stop = new AbortController();
    const asked = { signal: stop.signal };
    const { stream } = await rig.activities.getLog({ workspace, activity: id, follow: true }, undefined, asked);
    setTimeout(() => stop.abort(), 100);
    let text = '';
    stream.on('data', (data) => {
      text += data;
    });
    await expect(finished(stream)).rejects.toMatchObject({ reason: 'server.stopping' });
    expect(text).toBe('only\n');
  });

  it('goes when its activity has gone', async () => {
    const folder = join(rig.scratch.folder, 'activities');
    const { id } = await rig.begin();
    await rig.activities.log(id, 'x');
    await rig.activities.sweepLogs();
    expect(readdirSync(folder)).toContain(`${id}.log`);
    rig.scratch.clear();
    await rig.activities.sweepLogs();
    expect(readdirSync(folder)).toEqual([]);
  });
});
