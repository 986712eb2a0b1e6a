// Long operations: each has a state, progress, a log, can be canceled, and tells whoever watches of every change.
// Invariants: an activity is moved on only by the worker that holds its lease (or by the run it belongs to); what a
// restart interrupts is taken up again; every change is an event with a growing number, so that a stream resumes without loss.
import { createReadStream, mkdirSync } from 'node:fs';
import { appendFile, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import type { Activity, ActivityEvent, ActivityKind } from '@stellwerk/contract/activity.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { type Caller, nameOf } from '../access/access.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import { activityOf, activityTransactions, changedTopic } from './store.ts';

export type { Executor, Executors, Outcome, Work } from './step.ts';
export {
  type ActivityRow,
  activityOf,
  type Beginning,
  beginActivity,
  type Change,
  changeActivity,
  hasEnded,
  isHeld,
} from './store.ts';
export { ActivityWorker } from './worker.ts';

export interface ActivityNeeds {
  db: Database;
  now(): number;
  /** Where the logs lie. */
  folder: string;
}

/** Where cancelling is more than asking the worker: the run of an activity is canceled with its descendants. */
export type Cancelers = Partial<Record<ActivityKind, (activity: Activity, by: string) => Promise<void>>>;

const eventsAtOnce = 500;
const followEveryMs = 300;

export class Activities {
  readonly #needs: ActivityNeeds;
  #cancelers: Cancelers = {};

  constructor(needs: ActivityNeeds) {
    this.#needs = needs;
    mkdirSync(needs.folder, { recursive: true, mode: 0o700 });
  }

  /** Handed down by main, since those who can do it live in higher rooms. */
  cancelWith(cancelers: Cancelers): void {
    this.#cancelers = cancelers;
  }

  async list(input: CheckedOf<'activities', 'list'>): Promise<OutputOf<'activities', 'list'>> {
    const before = keyOf(input, 2);
    let query = sql
      .selectFrom('activity')
      .selectAll()
      .where('workspace', '=', input.workspace)
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
      .limit(rowsFor(input));
    if (input.state) query = query.where('state', '=', input.state);
    if (input.kind) query = query.where('kind', '=', input.kind);
    if (input.subject) query = query.where('subject', '=', input.subject);
    if (before) {
      const [at, id] = [String(before[0]), String(before[1])];
      query = query.where((e) => e.or([e('created_at', '<', at), e.and([e('created_at', '=', at), e('id', '<', id)])]));
    }
    return pageFrom(await this.#needs.db.all(query), input, activityOf, (row) => [row.created_at, row.id]);
  }

  async get({ workspace, activity }: CheckedOf<'activities', 'get'>): Promise<Activity> {
    const row = await this.#needs.db.first(
      sql.selectFrom('activity').selectAll().where('id', '=', activity).where('workspace', '=', workspace),
    );
    if (!row)
      throw new ServiceError(
        'not-found',
        'activity.not-found',
        `There is no activity ${activity} in the workspace ${workspace}.`,
      );
    return activityOf(row);
  }

  /** As it is when it has ended, or after that time. */
  async settled(of: CheckedOf<'activities', 'get'>, withinMs: number): Promise<Activity> {
    let wake = Promise.withResolvers<void>();
    const unlisten = this.#needs.db.listen(changedTopic, () => wake.resolve());
    const late = pause(withinMs, 'late' as const, { ref: false });
    try {
      for (;;) {
        const activity = await this.get(of);
        if (activity.endedAt || (await Promise.race([wake.promise, late])) === 'late') return activity;
        wake = Promise.withResolvers<void>();
      }
    } finally {
      unlisten();
    }
  }

  async cancel(input: CheckedOf<'activities', 'cancel'>, caller: Caller): Promise<Activity> {
    const activity = await this.get(input);
    const canceler = this.#cancelers[activity.kind];
    if (canceler && !activity.endedAt) {
      await canceler(activity, nameOf(caller));
      return this.get(input);
    }
    const now = this.#needs.now();
    return this.#needs.db.transact(activityTransactions.requestCancel, {
      workspace: input.workspace,
      id: input.activity,
      now,
      at: new Date(now).toISOString(),
    });
  }

  /** Adds lines to an activity's log. */
  async log(activity: string, text: string): Promise<void> {
    await appendFile(this.#logFile(activity), text.endsWith('\n') ? text : `${text}\n`);
  }

  async getLog(
    input: CheckedOf<'activities', 'getLog'>,
    _caller?: unknown,
    asked?: { signal?: AbortSignal },
  ): Promise<{ stream: Readable; contentType: string }> {
    await this.get(input);
    const parts = this.#logParts(input, asked?.signal);
    return { stream: Readable.from(parts, { objectMode: false }), contentType: 'text/plain; charset=utf-8' };
  }

  async *#logParts(input: CheckedOf<'activities', 'getLog'>, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const file = this.#logFile(input.activity);
    let offset = input.offset ?? 0;
    for (;;) {
      const ended = (await this.get(input)).endedAt !== undefined;
      const size = await stat(file).then(
        (found) => found.size,
        () => 0,
      );
      if (size > offset) {
        for await (const chunk of createReadStream(file, { start: offset, end: size - 1 })) {
          offset += (chunk as Buffer).length;
          yield chunk as Buffer;
        }
      }
      if (!input.follow || ended) return;
      if (signal?.aborted)
        throw new ServiceError('unavailable', 'server.stopping', 'The server stops; the log goes on when it is back.');
      await pause(followEveryMs, undefined, signal && { signal }).catch(() => {}); // aborted: seen above
    }
  }

  #logFile(activity: string): string {
    return join(this.#needs.folder, `${activity.replace(/[^\w-]/g, '_')}.log`);
  }

  /** Removes the logs of activities that are gone, with their run or workspace; in a dry run, tells what that would be. */
  async sweepLogs(dryRun = false): Promise<{ count: number; sizeBytes: number }> {
    const freed = { count: 0, sizeBytes: 0 };
    const files = (await readdir(this.#needs.folder)).map((name) => join(this.#needs.folder, name));
    const rows = await this.#needs.db.all(sql.selectFrom('activity').select('id'));
    const wanted = new Set(rows.map(({ id }) => this.#logFile(id)));
    for (const file of files.filter((one) => !wanted.has(one))) {
      freed.count++;
      freed.sizeBytes += (await stat(file).catch(() => undefined))?.size ?? 0;
      if (!dryRun) await rm(file, { force: true });
    }
    return freed;
  }

  /** Every change after the given event, and then each new one until the signal. */
  async *watch(
    input: CheckedOf<'activities', 'watch'>,
    _caller: unknown,
    signal: AbortSignal,
  ): AsyncGenerator<ActivityEvent> {
    let after = input.after ?? (await this.#lastEvent());
    let changed = Promise.withResolvers<void>();
    const wake = () => changed.resolve();
    const stop = this.#needs.db.listen(changedTopic, wake);
    signal.addEventListener('abort', wake);
    try {
      while (!signal.aborted) {
        changed = Promise.withResolvers();
        let events: ActivityEvent[];
        do {
          events = await this.#eventsAfter(input, after);
          yield* events;
          after = events.at(-1)?.id ?? after;
        } while (events.length === eventsAtOnce);
        await changed.promise;
      }
    } finally {
      stop();
      signal.removeEventListener('abort', wake);
    }
  }

  async #lastEvent(): Promise<number> {
    const row = await this.#needs.db.first(sql.selectFrom('activity_event').select((e) => e.fn.max('id').as('id')));
    return Number(row?.id ?? 0);
  }

  async #eventsAfter(
    { workspace, activity }: CheckedOf<'activities', 'watch'>,
    after: number,
  ): Promise<ActivityEvent[]> {
    let query = sql
      .selectFrom('activity_event')
      .select(['id', 'record'])
      .where('id', '>', after)
      .orderBy('id')
      .limit(eventsAtOnce);
    query =
      activity === undefined
        ? query.where('workspace', '=', workspace)
        : query.where('activity', '=', activity).where('workspace', '=', workspace);
    return (await this.#needs.db.all(query)).map(({ id, record }) => ({
      id,
      activity: JSON.parse(record) as Activity,
    }));
  }
}
