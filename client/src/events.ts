// An event stream as an async iterator that goes on where it was when the connection breaks.
import type { Verb } from '@stellwerk/contract/verb.ts';
import { addressOf } from './address.ts';
import type { CallOptions } from './client.ts';
import { type Connection, pause } from './connection.ts';
import { Unreachable } from './failures.ts';

/** After so long without a server an open stream gives up. */
const patienceMs = 10 * 60_000;

export async function* eventsOf<T>(
  connection: Connection,
  verb: Verb,
  input: Record<string, unknown>,
  options: CallOptions,
): AsyncGenerator<T, void> {
  let lastId = options.lastEventId?.toString();
  let aloneSince = Date.now();
  // Breaking out of the loop must end the request too, even while nothing arrives.
  const ended = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, ended.signal]) : ended.signal;
  try {
    while (!options.signal?.aborted) {
      try {
        const response = await connection.send({
          method: verb.method,
          target: addressOf(verb, input).target,
          headers: { accept: 'text/event-stream', ...(lastId === undefined ? {} : { 'last-event-id': lastId }) },
          signal,
          repeatable: true,
        });
        aloneSince = Date.now();
        options.onOpen?.();
        for await (const event of parseEvents(response.body!)) {
          aloneSince = Date.now();
          if (event.id !== undefined) lastId = event.id;
          if (event.data !== '') yield JSON.parse(event.data) as T;
        }
      } catch (error) {
        if (options.signal?.aborted) return;
        if (!(error instanceof Unreachable) && !isBroken(error)) throw error;
        if (Date.now() - aloneSince > patienceMs) throw error;
      }
      await pause(500, options.signal).catch(() => {});
    }
  } finally {
    ended.abort();
  }
}

/** An error of the connection in the middle of a stream, not an answer. */
function isBroken(error: unknown): boolean {
  return error instanceof TypeError || (error instanceof Error && error.name === 'AbortError');
}

export interface ServerSentEvent {
  id: string | undefined;
  event: string;
  data: string;
}

/** The events of a text/event-stream body, as the HTML standard reads it. */
export async function* parseEvents(body: AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>) {
  let id: string | undefined;
  let event = '';
  let data: string[] = [];
  for await (const line of linesOf(body as AsyncIterable<Uint8Array>)) {
    if (line === '') {
      if (data.length > 0) yield { id, event: event || 'message', data: data.join('\n') } satisfies ServerSentEvent;
      event = '';
      data = [];
      continue;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') data.push(value);
    else if (field === 'event') event = value;
    else if (field === 'id' && !value.includes('\0')) id = value;
  }
}

async function* linesOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    // A carriage return at the end may be half of a CRLF: it waits for the next chunk.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    yield* lines;
  }
}
