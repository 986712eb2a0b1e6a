// How many answers without a near end one caller may have open: each holds a connection, a timer and perhaps a file.
import type { ServerResponse } from 'node:http';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { Caller } from '../access/access.ts';

export class OpenStreams {
  readonly #open = new Map<string, number>();

  /** Counts until the answer has ended, or refuses one more. */
  open(caller: Caller, answer: ServerResponse): void {
    const who = nameOf(caller);
    const open = this.#open.get(who) ?? 0;
    if (open >= limits.openStreams)
      throw new ServiceError(
        'resource-exhausted',
        'request.too-many',
        `There are ${limits.openStreams} downloads and streams open already.`,
        { retryAfterSeconds: 1 },
      );
    this.#open.set(who, open + 1);
    answer.once('close', () => this.#closed(who));
  }

  #closed(who: string): void {
    const open = this.#open.get(who)! - 1;
    if (open > 0) this.#open.set(who, open);
    else this.#open.delete(who);
  }
}

function nameOf(caller: Caller): string {
  if (caller.kind === 'run') return `run ${caller.workspace}/${caller.run}`;
  return caller.kind === 'user' ? `user ${caller.user}` : 'nobody';
}
