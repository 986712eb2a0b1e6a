// The embedded database, seen from the service: one writer and one reader, each in a worker thread, on one SQLite file.
// Invariants: what `transact` returned is on the disk; a reader sees every commit that was answered before it asked;
// one server at a time owns a data folder; the schema is brought up to date before anything else happens.
import { EventEmitter } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, type ErrorReason, ServiceError } from '@stellwerk/contract/errors.ts';
import { type Migration, migrate } from './migrations.ts';
import type { Answer, Call, Committed, Failure, Opening } from './protocol.ts';
import type { Named, Query } from './transactions.ts';

/** `Omit` over each member of a union. */
type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never;

export class FolderInUse extends Error {}

/** SQLITE_BUSY. */
const busyCode = 5;

export class Database {
  readonly #writer: Connection;
  readonly #reader: Connection;
  readonly #lock: DatabaseSync;
  readonly #topics: EventEmitter;

  private constructor(writer: Connection, reader: Connection, lock: DatabaseSync, topics: EventEmitter) {
    this.#writer = writer;
    this.#reader = reader;
    this.#lock = lock;
    this.#topics = topics;
  }

  static async open(
    folder: string,
    worker: string,
    migrations: readonly Migration[],
    onBroken: (error: Error) => void,
  ): Promise<Database> {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const lock = takeFolder(folder);
    const file = join(folder, 'stellwerk.db');
    try {
      await migrate(file, migrations);
    } catch (error) {
      lock.close(); // a refused start leaves the folder to the next one
      throw error;
    }
    const topics = new EventEmitter().setMaxListeners(0);
    const writer = new Connection(worker, { file, mode: 'writer' }, topics, onBroken);
    const reader = new Connection(worker, { file, mode: 'reader' }, topics, onBroken);
    return new Database(writer, reader, lock, topics);
  }

  all<Row>(query: Query<Row>): Promise<Row[]> {
    const { sql, parameters } = query.compile();
    return this.#reader.call({ sql, parameters }) as Promise<Row[]>;
  }

  async first<Row>(query: Query<Row>): Promise<Row | undefined> {
    return (await this.all(query))[0];
  }

  /** Runs a declared transaction, or a declared reading on the reader. */
  transact<Input, Result>(named: Named<Input, Result>, input: Input, transfer: ArrayBuffer[] = []): Promise<Result> {
    const connection = named.readOnly ? this.#reader : this.#writer;
    return connection.call({ name: named.name, input }, transfer) as Promise<Result>;
  }

  /** Calls back after each commit that notified the topic. Returns how to stop listening. */
  listen(topic: string, listener: () => void): () => void {
    this.#topics.on(topic, listener);
    return () => this.#topics.off(topic, listener);
  }

  async close(): Promise<void> {
    await Promise.all([this.#reader.close(), this.#writer.close()]);
    if (this.#lock.isOpen) this.#lock.close();
  }
}

/** Held until the process ends, however it ends: the kernel frees it. */
function takeFolder(folder: string): DatabaseSync {
  const lock = new DatabaseSync(join(folder, 'lock.db'));
  try {
    lock.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE');
  } catch (error) {
    lock.close();
    if ((error as { errcode?: number }).errcode !== busyCode) throw error;
    throw new FolderInUse(
      `Another Stellwerk server is using the data folder ${folder}. Stop it first, or start this one with another --data folder.`,
    );
  }
  return lock;
}

class Connection {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  readonly #ended: Promise<void>;
  #calls = 0;
  #closing = false;
  #broken: Error | undefined;

  constructor(worker: string, opening: Opening, topics: EventEmitter, onBroken: (error: Error) => void) {
    this.#worker = new Worker(worker, { workerData: opening, execArgv: ['--disable-warning=ExperimentalWarning'] });
    this.#worker.on('message', ({ answers, topics: notified }: Committed) => {
      for (const answer of answers) this.#settle(answer);
      for (const topic of notified) topics.emit(topic);
    });
    const broken = (error: Error) => {
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
      if (this.#closing || this.#broken) return;
      this.#broken = error; // whoever calls from now on hears it at once, instead of waiting for ever
      onBroken(error);
    };
    this.#worker.on('error', broken);
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        broken(new Error('The database worker has ended.'));
        resolve();
      });
    });
  }

  call(call: WithoutId<Call>, transfer: ArrayBuffer[] = []): Promise<unknown> {
    if (this.#closing)
      return Promise.reject(new ServiceError('unavailable', 'server.stopping', 'The server is stopping.'));
    if (this.#broken) return Promise.reject(this.#broken);
    const id = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#worker.postMessage({ id, ...call }, transfer);
      this.#waiting.set(id, { resolve, reject });
    });
  }

  #settle(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ('failure' in answer) waiting?.reject(errorOf(answer.failure));
    else waiting?.resolve(answer.value);
  }

  close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = true;
      this.#worker.postMessage('close');
    }
    return this.#ended;
  }
}

function errorOf(failure: Failure): Error {
  if (failure.service) {
    const { code, reason, details } = failure.service;
    return new ServiceError(code as ErrorCode, reason as ErrorReason, failure.message, details);
  }
  const error = new Error(failure.message);
  error.name = failure.name;
  if (failure.stack) error.stack = failure.stack;
  return error;
}
