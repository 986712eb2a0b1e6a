// Journals: what a run reports, as lines appended to a file beside it and shipped in parts, whenever the server can be reached.
// Invariants: what was answered as durable survives a crash of the server; sending a part again is harmless; a part that
// would leave a gap is refused with the offset to go on from.
import type { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import type { Caller } from '../access/access.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import type { MetricNeeds } from './metrics.ts';

export { appendJournal, type EntryHandler, type JournalPart, journalOffset } from './append.ts';
export { invalid as invalidEntry, type OtherEntry } from './journal-lines.ts';

export interface JournalNeeds extends Pick<MetricNeeds, 'placeOf'> {
  db: Database;
  /** The run room's transaction around `appendJournal`. The body's buffer is given away. */
  append(of: CheckedOf<'journals', 'append'>, caller: Caller, body: Uint8Array<ArrayBuffer>): Promise<number>;
}

export class Journals {
  readonly #needs: JournalNeeds;

  constructor(needs: JournalNeeds) {
    this.#needs = needs;
  }

  async append(
    input: CheckedOf<'journals', 'append'>,
    caller: Caller,
    body: Readable,
  ): Promise<OutputOf<'journals', 'append'>> {
    const bytes = await readWhole(body, limits.journalBytes, 'A part of a journal');
    return { offset: await this.#needs.append(input, caller, bytes) };
  }

  async get({ workspace, run, journal }: CheckedOf<'journals', 'get'>): Promise<OutputOf<'journals', 'get'>> {
    const { key } = await this.#needs.placeOf(workspace, run);
    const row = await this.#needs.db.first(
      sql.selectFrom('journal').select('offset').where('run_key', '=', key).where('name', '=', journal),
    );
    return { offset: row?.offset ?? 0 };
  }
}

/** A body that must be small, in a buffer of its own. */
export async function readWhole(body: Readable, limit: number, what: string): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > limit)
      throw new ServiceError('too-large', 'request.too-large', `${what} may have at most ${limit} bytes.`, { limit });
    chunks.push(chunk);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}
