// A small room for the tests of the database: notes, and what a database worker does with them. Started as a worker thread it serves the
// database; started as a program (`notes.fixture.ts write <folder>`) it writes notes and prints each number once it is acknowledged.
import { isMainThread } from 'node:worker_threads';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { Database } from './database.ts';
import type { Migration } from './migrations.ts';
import { readings, sql, type Transaction, transactions } from './transactions.ts';
import { serveDatabase } from './worker.ts';

declare module './schema.ts' {
  interface Schema {
    note: { id: number; text: string };
  }
}

export const noteMigrations: Migration[] = [
  { name: '0001-note', up: 'CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;' },
];
export const noteWorker = new URL(import.meta.url).pathname;
export const notedTopic = 'noted';

export const noteTransactions = transactions('note', {
  write(tx: Transaction, { id, text }: { id: number; text: string }): number {
    tx.run(sql.insertInto('note').values({ id, text }));
    tx.notify(notedTopic);
    return id;
  },

  writeAndRefuse(tx: Transaction, { id }: { id: number }): void {
    tx.run(sql.insertInto('note').values({ id, text: 'refused' }));
    tx.notify('refused');
    throw new ServiceError('conflict', 'page.token-invalid', `The note ${id} is refused.`, { id });
  },

  writeAndBreak(tx: Transaction, { id }: { id: number }): void {
    tx.run(sql.insertInto('note').values({ id, text: 'broken' }));
    throw new TypeError('It broke.');
  },

  endWorker(): void {
    process.exit(3);
  },
});

const longestWaitMs = 30_000;

export const noteReadings = readings('note', {
  /** Counts, waits until the gate is open, and counts again. */
  countTwice(tx: Transaction, { gate }: { gate: Int32Array }): [number, number] {
    const count = () => tx.first(sql.selectFrom('note').select((e) => e.fn.countAll<number>().as('n')))!.n;
    const before = count();
    if (Atomics.wait(gate, 0, 0, longestWaitMs) === 'timed-out') throw new Error('Nobody opened the gate.');
    return [before, count()];
  },
});

async function writeForEver(folder: string): Promise<void> {
  const db = await Database.open(folder, noteWorker, noteMigrations, (error) => {
    throw error;
  });
  const first = (await db.all(sql.selectFrom('note').select('id'))).length;
  for (let id = first; ; id += 10) {
    const written = await Promise.all(
      Array.from({ length: 10 }, (_, n) => db.transact(noteTransactions.write, { id: id + n, text: `note ${id + n}` })),
    );
    process.stdout.write(`${written.join('\n')}\n`);
  }
}

if (!isMainThread) serveDatabase();
else if (process.argv[1] === noteWorker && process.argv[2] === 'write') await writeForEver(process.argv[3]!);
