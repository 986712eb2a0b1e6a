// The TypeScript SDK: `createClient({ url, token }).runs.submit({ … })`, one call for every verb of the contract.
// Typed by the contract's table, with nothing generated. A refusal of the server is a ServiceError with reason and hint;
// a server that does not answer is Unreachable. Calls that may be repeated are tried again by themselves.
// Runs in browsers too; what touches files is in uploads.ts, downloads.ts and snapshots.ts.

import type { Verb } from '@stellwerk/contract/verb.ts';
import { type Noun, type VerbOf, type Verbs, verbs } from '@stellwerk/contract/verbs.ts';
import type { z } from 'zod';
import { addressOf } from './address.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import { eventsOf } from './events.ts';

export interface CallOptions {
  signal?: AbortSignal | undefined;
  /** Bytes of a download: [first, last], both included; without `last` to the end. */
  range?: [first: number, last?: number] | undefined;
  /** Where an event stream goes on: the id of the last event seen. */
  lastEventId?: number | undefined;
  /** Called whenever an event stream has been opened: the first time, and after a break. */
  onOpen?: (() => void) | undefined;
}

/** What an upload sends. A stream is sent once and never again; the others are repeated if the connection breaks. */
export type UploadBody = Uint8Array<ArrayBuffer> | string | Blob | ReadableStream<Uint8Array>;

type Given<I> = Record<never, never> extends I ? [input?: I] : [input: I];
export type CallOf<V> =
  V extends Verb<infer I, infer O, infer T>
    ? T extends 'upload'
      ? (input: z.input<I>, body: UploadBody, options?: CallOptions) => Promise<z.output<O>>
      : T extends 'download'
        ? (...args: [...Given<z.input<I>>, options?: CallOptions]) => Promise<Response>
        : T extends 'events'
          ? (...args: [...Given<z.input<I>>, options?: CallOptions]) => AsyncGenerator<z.output<O>, void>
          : (...args: [...Given<z.input<I>>, options?: CallOptions]) => Promise<z.output<O>>
    : never;

export type Client = { readonly [N in Noun]: { readonly [V in VerbOf<N>]: CallOf<Verbs[N][V]> } } & {
  readonly connection: Connection;
};

export function createClient(options: ConnectionOptions): Client {
  const connection = new Connection(options);
  const nouns = Object.entries(verbs).map(([noun, table]) => [
    noun,
    Object.fromEntries(
      Object.entries(table as Record<string, Verb>).map(([name, verb]) => [
        name,
        callOf(connection, `${noun}.${name}`, verb),
      ]),
    ),
  ]);
  return { ...Object.fromEntries(nouns), connection } as Client;
}

type Input = Record<string, unknown>;

function callOf(connection: Connection, name: string, verb: Verb): unknown {
  switch (verb.transport) {
    case 'upload':
      return async (input: Input, body: UploadBody, options: CallOptions = {}) =>
        (await upload(connection, verb, input, body, options)).json();
    case 'download':
      return (input: Input = {}, options: CallOptions = {}) => download(connection, verb, input, options);
    case 'events':
      return (input: Input = {}, options: CallOptions = {}) => eventsOf(connection, verb, input, options);
    case 'json':
      return async (input: Input = {}, options: CallOptions = {}) =>
        (await send(connection, name, verb, input, options)).json();
  }
}

function send(connection: Connection, name: string, verb: Verb, input: Input, options: CallOptions) {
  const { target, body } = addressOf(verb, input);
  return connection.send({
    method: verb.method,
    target,
    signal: options.signal,
    headers: { accept: 'application/json', ...(body ? { 'content-type': 'application/json' } : {}) },
    ...(body ? { body: JSON.stringify(body) } : {}),
    repeatable: isRepeatable(name, verb, input),
  });
}

function upload(connection: Connection, verb: Verb, input: Input, body: UploadBody, options: CallOptions) {
  return connection.send({
    method: verb.method,
    target: addressOf(verb, input).target,
    signal: options.signal,
    headers: { accept: 'application/json', 'content-type': 'application/octet-stream' },
    body,
    repeatable: !(body instanceof ReadableStream),
  });
}

function download(connection: Connection, verb: Verb, input: Input, options: CallOptions) {
  const [first, last] = options.range ?? [];
  return connection.send({
    method: verb.method,
    target: addressOf(verb, input).target,
    signal: options.signal,
    headers: first === undefined ? {} : { range: `bytes=${first}-${last ?? ''}` },
    repeatable: true,
  });
}

/** Reads, and what replaces or removes, may be sent again; so may what carries its own id or changes nothing by being repeated. */
function isRepeatable(name: string, verb: Verb, input: Input): boolean {
  if (verb.method !== 'POST' && verb.method !== 'PATCH') return true;
  if (name === 'runs.submit' || name === 'runs.resubmit' || name === 'runs.start') return input.id !== undefined;
  return harmlessTwice.has(name);
}

const harmlessTwice = new Set([
  'compute.probe',
  'experiments.archive',
  'experiments.create',
  'experiments.reactivate',
  'experiments.update',
  'models.archive',
  'models.reactivate',
  'runs.archive',
  'runs.archiveMany',
  'runs.cancel',
  'runs.deleteMany',
  'runs.query',
  'runs.reactivate',
  'runs.report',
  'runs.update',
  'server.collectGarbage',
  'snapshots.create',
  'trash.empty',
]);
