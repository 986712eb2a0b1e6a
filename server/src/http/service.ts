// The shape of what the rooms offer together: for each verb of the contract one method. main.ts builds it; a missing or
// mistyped method does not compile.
import type { Readable } from 'node:stream';
import type { Verb } from '@stellwerk/contract/verb.ts';
import type { CheckedOf, Noun, OutputOf, VerbOf, Verbs } from '@stellwerk/contract/verbs.ts';
import type { Caller } from '../access/access.ts';
import type { Download } from '../blob/download.ts';

export interface DownloadAsked {
  /** The Range header, as it came. */
  range?: string;
  signal: AbortSignal;
}

type TransportOf<V> = V extends Verb<infer _, infer __, infer T> ? T : never;

interface Methods<I, O> {
  json(input: I, caller: Caller): Promise<O>;
  upload(input: I, caller: Caller, body: Readable): Promise<O>;
  download(input: I, caller: Caller, asked: DownloadAsked): Promise<Download>;
  events(input: I, caller: Caller, signal: AbortSignal): AsyncIterable<O>;
}

export type Service = {
  [N in Noun]: { [V in VerbOf<N>]: Methods<CheckedOf<N, V>, OutputOf<N, V>>[TransportOf<Verbs[N][V]>] };
};

export type AnyMethod = (input: never, caller: Caller, more?: unknown) => unknown;
