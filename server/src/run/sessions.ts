// Sessions: somebody looks in on a running script, with a program beside it or a connection to a port of its machine.
// Invariants: a session is good for whoever opened it only; what was opened and is not attended to is closed after a minute; it ends with
// whoever receives from it, and with its run.
import type { Duplex, Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { asUser, type Caller } from '../access/access.ts';
import type { Download } from '../blob/download.ts';
import type { Computes, JobHandle } from '../compute/computes.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';

export interface SessionNeeds {
  db: Database;
  newId(): string;
  computes: Pick<Computes, 'find'>;
}

interface Open {
  workspace: string;
  run: string;
  user: string;
  stream: Duplex;
  /** Until somebody receives from it. */
  unattended: NodeJS.Timeout | undefined;
}

const attendedWithinMs = 60_000;
/** Of one user: each is a process or a connection over there. */
const openAtOnce = 100;

export class Sessions {
  readonly #needs: SessionNeeds;
  readonly #open = new Map<string, Open>();

  constructor(needs: SessionNeeds) {
    this.#needs = needs;
  }

  exec({ workspace, run, command }: CheckedOf<'sessions', 'exec'>, caller: Caller): Promise<{ session: string }> {
    return this.#begin(workspace, run, ['exec', '--', ...command], caller);
  }

  connect({ workspace, run, port }: CheckedOf<'sessions', 'connect'>, caller: Caller): Promise<{ session: string }> {
    return this.#begin(workspace, run, ['connect', String(port)], caller);
  }

  async receive(input: CheckedOf<'sessions', 'receive'>, caller: Caller): Promise<Download> {
    const open = this.#of(input, caller);
    if (open.unattended === undefined) throw noSession(input.session);
    clearTimeout(open.unattended);
    open.unattended = undefined;
    return { stream: open.stream as Readable, contentType: 'application/octet-stream' };
  }

  async send(
    input: CheckedOf<'sessions', 'send'>,
    caller: Caller,
    body: Readable,
  ): Promise<OutputOf<'sessions', 'send'>> {
    const { stream } = this.#of(input, caller);
    try {
      for await (const chunk of body) {
        if (stream.destroyed || stream.writableEnded) break; // it reads no more
        if (!stream.write(chunk)) await untilRoom(stream);
      }
    } catch {
      return {}; // whoever sends is gone
    }
    if (input.end) stream.end();
    return {};
  }

  async #begin(workspace: string, run: string, words: string[], caller: Caller): Promise<{ session: string }> {
    const { user } = asUser(caller);
    if ([...this.#open.values()].filter((one) => one.user === user).length >= openAtOnce)
      throw new ServiceError(
        'resource-exhausted',
        'request.too-many',
        `${user} has ${openAtOnce} sessions open already.`,
      );
    const stream = await this.#streamTo(workspace, run, words);
    const session = this.#needs.newId();
    const unattended = setTimeout(() => stream.destroy(), attendedWithinMs).unref();
    this.#open.set(session, { workspace, run, user, stream, unattended });
    stream.on('error', () => {}); // it is closed, too
    stream.on('close', () => {
      clearTimeout(this.#open.get(session)?.unattended);
      this.#open.delete(session);
    });
    return { session };
  }

  async #streamTo(workspace: string, id: string, words: string[]): Promise<Duplex> {
    const { db, computes } = this.#needs;
    const row = await db.first(
      sql
        .selectFrom('run')
        .innerJoin('run_private', 'run_private.run_key', 'run.key')
        .select(['run.state', 'run.target', 'run.trash', 'run_private.handle'])
        .where('run.workspace', '=', workspace)
        .where('run.id', '=', id),
    );
    if (!row || row.trash !== null)
      throw new ServiceError(
        'not-found',
        'run.not-found',
        `There is no run ${JSON.stringify(id)} in the workspace ${workspace}.`,
      );
    if (row.state !== 'running' || row.handle === null || row.target === null)
      throw unable(`The script of the run ${id} does not run on a target of the server; the run is ${row.state}.`);
    const { driver, target } = await computes.find(workspace, row.target);
    if (!driver.jobs?.beside)
      throw unable(`The kind ${driver.kind} of the compute target ${row.target} lets nobody look in.`);
    return driver.jobs.beside(target, JSON.parse(row.handle) as JobHandle, words);
  }

  #of({ workspace, run, session }: { workspace: string; run: string; session: string }, caller: Caller): Open {
    const open = this.#open.get(session);
    if (open?.workspace !== workspace || open.run !== run || open.user !== asUser(caller).user)
      throw noSession(session);
    return open;
  }
}

function unable(message: string): ServiceError {
  return new ServiceError('failed-precondition', 'run.not-open', message);
}

function noSession(session: string): ServiceError {
  return new ServiceError('not-found', 'run.session-not-found', `There is no session ${session}, or it has ended.`);
}

async function untilRoom(stream: Duplex): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  stream.once('drain', resolve);
  stream.once('close', resolve);
  await promise;
  stream.removeListener('drain', resolve);
  stream.removeListener('close', resolve);
}
