import fc from 'fast-check';
import { expect, it } from 'vitest';
import { waitForActivity } from './activities.ts';
import { createClient } from './client.ts';
import { parseEvents } from './events.ts';
import { json, serve } from './local-server.fixture.ts';

async function parsed(text: string, cuts: number[]): Promise<unknown[]> {
  const bytes = new TextEncoder().encode(text);
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  async function* chunks() {
    let from = 0;
    for (const place of [...places, bytes.length]) {
      yield bytes.subarray(from, place);
      from = place;
    }
  }
  const events: unknown[] = [];
  for await (const event of parseEvents(chunks())) events.push(event);
  return events;
}

it('reads events the same wherever the network cuts them', async () => {
  const text = ': open\n\nid: 1\ndata: {"a":"ä€𝄞"}\n\nevent: x\r\nid:2\r\ndata: one\r\ndata:two\r\n\r\ndata: last\n\n';
  const whole = await parsed(text, []);
  expect(whole).toEqual([
    { id: '1', event: 'message', data: '{"a":"ä€𝄞"}' },
    { id: '2', event: 'x', data: 'one\ntwo' },
    { id: '2', event: 'message', data: 'last' },
  ]);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(), { maxLength: 12 }), async (cuts) => {
      expect(await parsed(text, cuts)).toEqual(whole);
    }),
  );
});

const activity = (state: string) => ({ id: 'a1', state, kind: 'run', subject: 'r', progress: { message: state } });

it('goes on after the last event when a stream is cut', async () => {
  const resumed: unknown[] = [];
  await using server = await serve((request, response) => {
    resumed.push(request.headers['last-event-id']);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const id = resumed.length;
    response.write(`id: ${id}\ndata: ${JSON.stringify({ id, activity: activity('running') })}\n\n`, () =>
      request.socket.destroy(),
    );
  });
  const seen: number[] = [];
  for await (const event of createClient({ url: server.url }).activities.watch({ workspace: 'team' })) {
    seen.push(event.id);
    if (seen.length === 3) break;
  }
  expect(seen).toEqual([1, 2, 3]);
  expect(resumed).toEqual([undefined, '1', '2']);
});

it('waits for the end of an activity and tells every change once', async () => {
  await using server = await serve((request, response) => {
    if (!request.url!.includes('activity-events')) return json(response, 200, activity('queued'));
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    ['queued', 'running', 'running', 'succeeded'].forEach((state, id) => {
      response.write(`id: ${id}\ndata: ${JSON.stringify({ id, activity: activity(state) })}\n\n`);
    });
  });
  const states: string[] = [];
  const client = createClient({ url: server.url });
  const ended = await waitForActivity(
    client,
    { workspace: 'team', activity: 'a1' },
    { onChange: (a) => states.push(a.state) },
  );
  expect(ended.state).toBe('succeeded');
  expect(states).toEqual(['queued', 'running', 'succeeded']);
});
