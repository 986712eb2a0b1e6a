// What a store may do to the database: synchronous functions that run inside the database worker, each one a transaction.
// A store declares them by name; the worker finds them by that name, because functions cannot cross to another thread.
// Invariants: no await inside; input and result are plain data; all of a function is committed, or nothing of it.
import {
  type Compilable,
  DummyDriver,
  Kysely,
  type RawBuilder,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import type { Schema } from './schema.ts';

/** Builds queries and runs none: Kysely's types and compiler without a connection. */
export const sql = new Kysely<Schema>({
  dialect: {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  },
});

/** A query that knows its rows. */
export type Query<Row> = Compilable<Row>;

/** One that is written out. */
export function written<Row>(text: RawBuilder<Row>): Query<Row> {
  return { compile: () => text.compile(sql) };
}

export interface Transaction {
  all<Row>(query: Query<Row>): Row[];
  first<Row>(query: Query<Row>): Row | undefined;
  /** Tells listeners of the topic (`Database.listen`), once this transaction is committed. */
  notify(topic: string): void;
  /** Returns how many rows changed. */
  run(query: Query<unknown>): number;
  /** For hot paths: SQL that is prepared once. `Row` is what the statement selects. */
  statement<Row = never>(
    text: string,
  ): {
    all(...parameters: unknown[]): Row[];
    get(...parameters: unknown[]): Row | undefined;
    run(...parameters: unknown[]): number;
  };
}

type Body = (tx: Transaction, input: never) => unknown;

export interface Named<Input, Result> {
  readonly name: string;
  readonly readOnly: boolean;
  /** Only types: what goes in and comes out. */
  readonly types?: { input: Input; result: Result };
}

type NamedTable<T extends Record<string, Body>> = {
  readonly [K in keyof T]: T[K] extends (tx: Transaction, input: infer I) => infer R ? Named<I, R> : never;
};

const bodies = new Map<string, Body>();

function declare<T extends Record<string, Body>>(room: string, readOnly: boolean, table: T): NamedTable<T> {
  return Object.fromEntries(
    Object.entries(table).map(([key, body]) => {
      const name = `${room}.${key}`;
      if (bodies.has(name)) throw new Error(`The transaction ${name} is declared twice.`);
      bodies.set(name, body);
      return [key, { name, readOnly }];
    }),
  ) as NamedTable<T>;
}

/** Declares a store's transactions: they write, one after another, and share a commit with whatever else waits. */
export function transactions<T extends Record<string, Body>>(room: string, table: T): NamedTable<T> {
  return declare(room, false, table);
}

/** Declares readings that need several statements on one state of the database. They run beside the writer. */
export function readings<T extends Record<string, Body>>(room: string, table: T): NamedTable<T> {
  return declare(room, true, table);
}

export function bodyOf(name: string): Body {
  const body = bodies.get(name);
  if (!body)
    throw new Error(`The database worker knows no transaction ${name}: import its store in server/src/stores.ts.`);
  return body;
}

/** Thrown by a transaction that needs what is loaded only when it is needed: it is undone, and run again once that is there. */
export class NotLoaded extends Error {
  readonly loading: Promise<unknown>;
  constructor(loading: Promise<unknown>) {
    super('Something is being loaded first.');
    this.loading = loading;
  }
}

// Functions of a store's own inside SQL, which the worker calls. Only for reading: no table and no index may depend on one.
type SqlValue = null | number | bigint | string | Uint8Array;
type SqlFunction = (...values: never[]) => SqlValue;

const functions = new Map<string, { act: SqlFunction; steady: boolean }>();

/** `steady`: the same values give the same answer, so that the database need not ask again. */
export function sqlFunction(name: string, act: SqlFunction, { steady }: { steady: boolean }): void {
  if (functions.has(name)) throw new Error(`The SQL function ${name} is declared twice.`);
  functions.set(name, { act, steady });
}

export function sqlFunctions(): Iterable<[string, { act: SqlFunction; steady: boolean }]> {
  return functions;
}
