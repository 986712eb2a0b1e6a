// Logs of runs: append-only files that grow while the script prints, and can be followed.
// Invariants: what was answered as durable is on the disk; appending the same bytes again is harmless; a reader at an offset
// sees the same bytes whenever it asks; who follows is woken by the append and does not poll; what a run prints beyond its limit is
// taken and not kept, and its log says so.
import { EventEmitter } from 'node:events';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath } from '@stellwerk/contract/paths.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import type { Caller } from '../access/access.ts';
import type { Database } from '../db/database.ts';
import { readings, sql, type Transaction, transactions } from '../db/transactions.ts';
import { readWhole } from './journals.ts';
import { appendAt, logFile, partOf, readBetween, sizeOf } from './log-file.ts';
import type { MetricNeeds, RunPlace } from './metrics.ts';

export { logFile } from './log-file.ts';

export interface LogNeeds extends Pick<MetricNeeds, 'placeOf'> {
  db: Database;
  /** One folder per workspace is made in it. */
  folder: string;
  /** Refuses an attempt that another has superseded. */
  fence(of: { workspace: string; run: string; attempt?: number | undefined }, caller: Caller): Promise<void>;
  /** Calls back whenever the run's state has changed; returns how to stop that. */
  onChange(runKey: number, listener: () => void): () => void;
  /** Of all logs of a run together; the contract's limit unless given. */
  limitBytes?: number;
}

const mainLog = 'output.txt';
const logsPerRun = 1_000;

interface OfLog {
  runKey: number;
  name: string;
}

interface Registration extends OfLog {
  complete: boolean;
  /** So much of it is on the disk. */
  sizeBytes: number;
}

const logTransactions = transactions('log', {
  /** Whether it was cut. */
  register(tx: Transaction, { runKey, name, complete, sizeBytes }: Registration): boolean {
    const known = tx.first(
      sql.selectFrom('run_log').select('cut').where('run_key', '=', runKey).where('name', '=', name),
    );
    const { count } = tx.first(
      sql
        .selectFrom('run_log')
        .select((e) => e.fn.countAll<number>().as('count'))
        .where('run_key', '=', runKey),
    )!;
    if (!known && count >= logsPerRun)
      throw new ServiceError('resource-exhausted', 'request.too-many', `The run has ${logsPerRun} logs already.`);
    tx.statement(
      `INSERT INTO run_log (run_key, name, complete, size_bytes) VALUES (?, ?, ?, ?) ON CONFLICT (run_key, name)
         DO UPDATE SET complete = max(complete, excluded.complete), size_bytes = max(size_bytes, excluded.size_bytes)`,
    ).run(runKey, name, complete, sizeBytes);
    return known?.cut === 1;
  },

  cut(tx: Transaction, { runKey, name }: OfLog): void {
    tx.run(sql.updateTable('run_log').set({ cut: 1 }).where('run_key', '=', runKey).where('name', '=', name));
  },
});

export interface LogName {
  workspace: string;
  run: string;
  name: string;
}

interface LogPlace {
  run_key: number;
  name: string;
  workspace?: string;
  run?: string;
}

const logReadings = readings('log', {
  names(tx: Transaction, { after, limit }: { after: LogPlace; limit: number }): LogPlace[] {
    return tx
      .statement<LogPlace>(
        `SELECT l.run_key, l.name, r.workspace, r.id AS run FROM run_log l JOIN run r ON r.key = l.run_key
         WHERE (l.run_key, l.name) > (?, ?) ORDER BY l.run_key, l.name LIMIT ?`,
      )
      .all(after.run_key, after.name, limit);
  },
});

interface KnownLog {
  isCut: boolean;
  /** As the database has it. */
  sizeBytes: number;
}

/** The length of a log is written down whenever it has grown by so much, and at its end: a part is acknowledged without waiting for the database. */
const notedEveryBytes = 64 * 1024;

export class Logs {
  readonly #needs: LogNeeds;
  readonly #grown = new EventEmitter().setMaxListeners(0);
  /** The end of each log's queue of appends: one at a time. */
  readonly #appending = new Map<string, Promise<unknown>>();
  /** Logs that the database knows, so that most appends need not ask. */
  readonly #known = new Map<string, KnownLog>();
  /** How much the logs of runs take together, as far as that was asked for. */
  readonly #totals = new Map<number, number>();

  constructor(needs: LogNeeds) {
    this.#needs = needs;
  }

  async append(
    input: CheckedOf<'logs', 'append'>,
    caller: Caller,
    body: Readable,
  ): Promise<OutputOf<'logs', 'append'>> {
    const { workspace, run, offset, complete = false } = input;
    const name = checkPath(input.name);
    await this.#needs.fence(input, caller);
    const { key } = await this.#needs.placeOf(workspace, run);
    const bytes = await readWhole(body, limits.logPartBytes, 'A part of a log');
    const file = this.#file(workspace, run, name);
    let known = this.#known.get(file);
    if (!known) {
      const of = { runKey: key, name, complete: false, sizeBytes: await sizeOf(file) };
      known = { isCut: await this.#needs.db.transact(logTransactions.register, of), sizeBytes: of.sizeBytes };
      if (this.#known.size > remembered) this.#known.clear();
      this.#known.set(file, known);
    }
    const sizeBytes = known.isCut
      ? offset + bytes.length
      : await this.#alone(file, () => this.#keep({ file, key, name, workspace, run }, known, offset, bytes));
    const written = known.isCut ? await sizeOf(file) : sizeBytes;
    await this.#note({ runKey: key, name, complete, sizeBytes: written }, known);
    this.#grown.emit(file);
    const isComplete = complete || (await this.#isComplete(key, name));
    return { name, sizeBytes, complete: isComplete, ...(known.isCut && { cut: true }) };
  }

  /** Gives how much has arrived; of a log that is cut, that is what its sender has. */
  async #keep(
    { file, key, name, ...of }: { file: string; key: number; name: string; workspace: string; run: string },
    known: KnownLog,
    offset: number,
    bytes: Uint8Array,
  ): Promise<number> {
    const limit = this.#needs.limitBytes ?? limits.runLogBytes;
    const total = this.#totals.get(key) ?? (await this.#totalOf(key, of));
    const room = Math.max(0, limit - total);
    const before = await sizeOf(file);
    const size = await appendAt(file, offset, bytes, before + room);
    if (this.#totals.size > remembered) this.#totals.clear();
    this.#totals.set(key, total + size - before);
    if (size >= offset + bytes.length) return size;
    await appendAt(file, size, Buffer.from(cutNotice(limit)));
    await this.#needs.db.transact(logTransactions.cut, { runKey: key, name });
    known.isCut = true;
    return offset + bytes.length;
  }

  async #note(log: Registration, known: KnownLog): Promise<void> {
    if (!log.complete && log.sizeBytes - known.sizeBytes < notedEveryBytes) return;
    await this.#needs.db.transact(logTransactions.register, log);
    known.sizeBytes = Math.max(known.sizeBytes, log.sizeBytes);
  }

  async #totalOf(runKey: number, { workspace, run }: { workspace: string; run: string }): Promise<number> {
    const rows = await this.#needs.db.all(sql.selectFrom('run_log').select('name').where('run_key', '=', runKey));
    const sizes = await Promise.all(rows.map(({ name }) => sizeOf(this.#file(workspace, run, name))));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  /** Removes the logs of runs that are about to be gone. Safe to repeat. */
  async remove(all: readonly LogName[]): Promise<void> {
    for (const { workspace, run, name } of all) {
      const file = this.#file(workspace, run, name);
      await rm(file, { force: true });
      this.#known.delete(file);
    }
  }

  /** How large the logs of these runs are. */
  async sizeOf(all: readonly LogName[]): Promise<number> {
    const sizes = await Promise.all(all.map(({ workspace, run, name }) => sizeOf(this.#file(workspace, run, name))));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  /** Removes the logs of runs that are gone: what was appended to while its run was removed. */
  async sweep(dryRun: boolean): Promise<{ count: number; sizeBytes: number }> {
    const freed = { count: 0, sizeBytes: 0 };
    const found = await readdir(this.#needs.folder, { recursive: true, withFileTypes: true }).catch(() => []);
    const files = found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    const wanted = await this.#wanted(); // after the folder was read: what is begun meanwhile is not among the files
    for (const file of files.filter((one) => !wanted.has(one))) {
      freed.count++;
      freed.sizeBytes += await sizeOf(file);
      if (!dryRun) await rm(file, { force: true });
    }
    return freed;
  }

  async #wanted(): Promise<Set<string>> {
    const wanted = new Set<string>();
    let after: LogPlace = { run_key: 0, name: '' };
    for (let rows: LogPlace[] = [after]; rows.length > 0; after = rows.at(-1) ?? after) {
      rows = await this.#needs.db.transact(logReadings.names, { after, limit: 5_000 });
      for (const { workspace, run, name } of rows) wanted.add(this.#file(workspace!, run!, name));
    }
    return wanted;
  }

  /** Removes the logs of a workspace that is gone. Safe to repeat. */
  async clear(workspace: string): Promise<void> {
    await rm(join(this.#needs.folder, workspace.toLowerCase()), { recursive: true, force: true });
    this.#known.clear();
    this.#totals.clear();
  }

  async list({ workspace, run }: CheckedOf<'logs', 'list'>): Promise<OutputOf<'logs', 'list'>> {
    const { key } = await this.#needs.placeOf(workspace, run);
    const rows = await this.#needs.db.all(
      sql.selectFrom('run_log').select(['name', 'complete', 'cut']).where('run_key', '=', key).orderBy('name'),
    );
    const items = rows.map(async ({ name, complete, cut }) => ({
      name,
      sizeBytes: await sizeOf(this.#file(workspace, run, name)),
      complete: complete === 1,
      ...(cut === 1 && { cut: true }),
    }));
    return { items: await Promise.all(items) };
  }

  async get(
    input: CheckedOf<'logs', 'get'>,
    _caller: Caller,
    asked: { range?: string; signal?: AbortSignal } = {},
  ): Promise<{
    stream: Readable;
    contentType: string;
    sizeBytes?: number;
    filename?: string;
    range?: { start: number; end: number; total: number };
  }> {
    const { workspace, run, offset = 0, follow = false } = input;
    const name = checkPath(input.name ?? mainLog);
    const place = await this.#needs.placeOf(workspace, run);
    if (input.name !== undefined && !follow) await this.#require(place, run, name);
    const file = this.#file(workspace, run, name);
    const contentType = 'text/plain; charset=utf-8';
    const filename = name.slice(name.lastIndexOf('/') + 1);
    if (follow) {
      const parts = this.#follow(file, offset, { workspace, run, name, runKey: place.key }, asked.signal);
      return { stream: Readable.from(parts, { objectMode: false }), contentType };
    }
    const total = await sizeOf(file);
    const wanted = offset === 0 ? partOf(asked.range, total) : undefined;
    const start = Math.min(wanted?.start ?? offset, total);
    const end = wanted?.end ?? total;
    const stream = Readable.from(readBetween(file, start, end), { objectMode: false });
    return { stream, contentType, filename, sizeBytes: end - start, ...(wanted && { range: { ...wanted, total } }) };
  }

  /** Goes on until the run has ended or the log is complete, and everything of it was read. */
  async *#follow(
    file: string,
    offset: number,
    of: { workspace: string; run: string; name: string; runKey: number },
    signal?: AbortSignal,
  ): AsyncGenerator<Buffer> {
    let woken = Promise.withResolvers<void>();
    const wake = () => woken.resolve();
    this.#grown.on(file, wake);
    const stopListening = this.#needs.onChange(of.runKey, wake);
    signal?.addEventListener('abort', wake);
    try {
      let at = offset;
      while (!signal?.aborted) {
        woken = Promise.withResolvers();
        const ended =
          (await this.#needs.placeOf(of.workspace, of.run)).ended || (await this.#isComplete(of.runKey, of.name));
        const size = await sizeOf(file);
        for await (const part of readBetween(file, at, size)) {
          at += part.length;
          yield part;
        }
        if (ended) return;
        await woken.promise;
      }
      // Not the end of the log: whoever follows must see that it was cut, and go on where it was.
      throw new ServiceError('unavailable', 'server.stopping', 'The server stops; the log goes on when it is back.');
    } finally {
      this.#grown.off(file, wake);
      stopListening();
      signal?.removeEventListener('abort', wake);
    }
  }

  async #isComplete(runKey: number, name: string): Promise<boolean> {
    const row = await this.#needs.db.first(
      sql.selectFrom('run_log').select('complete').where('run_key', '=', runKey).where('name', '=', name),
    );
    return row?.complete === 1;
  }

  async #require({ key }: RunPlace, run: string, name: string): Promise<void> {
    const row = await this.#needs.db.first(
      sql.selectFrom('run_log').select('name').where('run_key', '=', key).where('name', '=', name),
    );
    if (!row)
      throw new ServiceError('not-found', 'run.file-not-found', `The run ${run} has no log ${JSON.stringify(name)}.`);
  }

  #file(workspace: string, run: string, name: string): string {
    return logFile(this.#needs.folder, workspace, run, name);
  }

  #alone<T>(file: string, act: () => Promise<T>): Promise<T> {
    const before = this.#appending.get(file) ?? Promise.resolve();
    const mine = before.then(act, act);
    this.#appending.set(file, mine);
    const forget = () => {
      if (this.#appending.get(file) === mine) this.#appending.delete(file);
    };
    mine.then(forget, forget);
    return mine;
  }
}

const remembered = 100_000;

function cutNotice(limitBytes: number): string {
  return `\n[The logs of this run have reached ${limitBytes.toLocaleString('en')} bytes: what follows is not kept. The run goes on.]\n`;
}
