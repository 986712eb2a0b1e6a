// The database worker: owns one SQLite connection and runs what it is sent. The writer commits many transactions at once,
// each inside a savepoint, so that one disk flush serves all that wait (group commit) and a failing one undoes only itself.
// The reader answers what waits from one state of the database, which holds every commit that was answered before.
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { diskFull, isDiskFull } from './disk-full.ts';
import type { Answer, Call, Committed, Failure, Opening } from './protocol.ts';
import { bodyOf, NotLoaded, type Query, sqlFunctions, type Transaction } from './transactions.ts';

/** Most calls that share a commit: bounds how long the first one waits. */
const callsPerCommit = 500;
const preparedStatements = 500;
/** 32 MB: a checkpoint flushes the whole database file, and many changes of the same pages between two cost one write. */
const checkpointPages = 8_192;

type Parameter = null | number | bigint | string | Uint8Array;

export function serveDatabase(): void {
  const port = parentPort as MessagePort;
  const { file, mode } = workerData as Opening;
  const database = open(file, mode);
  const notified: string[] = [];
  const tx = transactionOn(database, notified);
  const serve = (calls: Call[]) => {
    const { answers, topics } = mode === 'writer' ? write(database, tx, notified, calls) : read(database, tx, calls);
    notified.length = 0;
    port.postMessage({ answers: answers.filter((one) => !isLate(one)), topics } satisfies Committed);
    // What waits for something to be loaded has done nothing yet, and is done when it is there.
    for (const late of answers.filter(isLate))
      void late.later.then(() => database.isOpen && serve(calls.filter(({ id }) => id === late.id)));
  };
  port.on('message', (first: Call | 'close') => {
    const calls: Call[] = [];
    let next: Call | 'close' | undefined = first;
    while (next !== undefined && next !== 'close') {
      calls.push(next);
      if (calls.length >= callsPerCommit) break;
      next = receiveMessageOnPort(port)?.message;
    }
    serve(calls);
    if (next === 'close') {
      database.close();
      port.close();
    }
  });
}

function open(file: string, mode: Opening['mode']): DatabaseSync {
  const database = new DatabaseSync(file, { readOnly: mode === 'reader' });
  database.exec('PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;');
  if (mode === 'writer')
    database.exec(
      `PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = ${checkpointPages};`,
    );
  for (const [name, { act, steady }] of sqlFunctions())
    database.function(name, { deterministic: steady }, act as (...values: unknown[]) => Parameter);
  return database;
}

function write(database: DatabaseSync, tx: Transaction, notified: string[], calls: Call[]): Committed {
  try {
    database.exec('BEGIN IMMEDIATE');
    const answers = calls.map((call) => {
      const before = notified.length;
      database.exec('SAVEPOINT call');
      const result = answer(tx, call);
      database.exec('failure' in result ? 'ROLLBACK TO call; RELEASE call' : 'RELEASE call');
      if ('failure' in result) notified.length = before;
      return result;
    });
    database.exec('COMMIT');
    return { answers, topics: [...new Set(notified)] };
  } catch (error) {
    // The commit itself failed (a full disk): nothing of these calls happened, and each caller is told so.
    if (database.isTransaction) database.exec('ROLLBACK');
    return { answers: calls.map(({ id }) => ({ id, failure: failureOf(error) })), topics: [] };
  }
}

function read(database: DatabaseSync, tx: Transaction, calls: Call[]): Committed {
  database.exec('BEGIN');
  const answers = calls.map((call) => answer(tx, call));
  if (database.isTransaction) database.exec('COMMIT'); // a failed disk ends it by itself
  return { answers, topics: [] };
}

function answer(tx: Transaction, call: Call): Answer | Late {
  try {
    const value =
      'sql' in call
        ? tx.statement<unknown>(call.sql).all(...call.parameters)
        : bodyOf(call.name)(tx, call.input as never);
    return { id: call.id, value };
  } catch (error) {
    const failed = { id: call.id, failure: failureOf(error) };
    return error instanceof NotLoaded ? { ...failed, later: error.loading } : failed;
  }
}

type Late = Extract<Answer, { failure: Failure }> & { later: Promise<unknown> };

function isLate(answer: Answer | Late): answer is Late {
  return 'later' in answer;
}

function failureOf(thrown: unknown): Failure {
  const error = isDiskFull(thrown) ? diskFull() : thrown;
  if (error instanceof ServiceError) {
    return {
      name: error.name,
      message: error.message,
      service: { code: error.code, reason: error.reason, ...(error.details && { details: error.details }) },
    };
  }
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return { name, message, ...(stack && { stack }) };
}

function transactionOn(database: DatabaseSync, notified: string[]): Transaction {
  const prepare = preparing(database);
  const compiled = <Row>(query: Query<Row>) => {
    const { sql, parameters } = query.compile();
    return { statement: prepare(sql), parameters: parametersOf(parameters) };
  };
  return {
    notify: (topic) => void notified.push(topic),
    all: <Row>(query: Query<Row>) => {
      const { statement, parameters } = compiled(query);
      return statement.all(...parameters) as Row[];
    },
    first: <Row>(query: Query<Row>) => {
      const { statement, parameters } = compiled(query);
      return statement.get(...parameters) as Row | undefined;
    },
    run: (query) => {
      const { statement, parameters } = compiled(query);
      return Number(statement.run(...parameters).changes);
    },
    statement: <Row>(text: string) => {
      const statement = prepare(text);
      return {
        all: (...parameters: unknown[]) => statement.all(...parametersOf(parameters)) as Row[],
        get: (...parameters: unknown[]) => statement.get(...parametersOf(parameters)) as Row | undefined,
        run: (...parameters: unknown[]) => Number(statement.run(...parametersOf(parameters)).changes),
      };
    },
  };
}

function parametersOf(parameters: readonly unknown[]): Parameter[] {
  return parameters.map((value) =>
    value === undefined ? null : typeof value === 'boolean' ? Number(value) : value,
  ) as Parameter[];
}

/** Each text is prepared once; of many, the least recently used goes first. */
function preparing(database: DatabaseSync): (text: string) => StatementSync {
  const prepared = new Map<string, StatementSync>();
  return (text) => {
    const statement = prepared.get(text) ?? database.prepare(text);
    if (!prepared.delete(text) && prepared.size >= preparedStatements) prepared.delete(prepared.keys().next().value!);
    prepared.set(text, statement);
    return statement;
  };
}
