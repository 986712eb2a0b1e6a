import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Database, FolderInUse } from './database.ts';
import { type Migration, SchemaRefused } from './migrations.ts';
import { notedTopic, noteMigrations, noteReadings, noteTransactions, noteWorker } from './notes.fixture.ts';
import { sql } from './transactions.ts';

let folder: string;
let db: Database | undefined;
const broken: Error[] = [];

async function open(migrations: readonly Migration[] = noteMigrations): Promise<Database> {
  db = await Database.open(folder, noteWorker, migrations, (error) => void broken.push(error));
  return db;
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-db-'));
  broken.length = 0;
});
afterEach(async () => {
  await db?.close();
  db = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const write = (to: Database, id: number) => to.transact(noteTransactions.write, { id, text: `note ${id}` });
const ids = async (from: Database) =>
  (await from.all(sql.selectFrom('note').select('id').orderBy('id'))).map(({ id }) => id);

describe('transactions', () => {
  it('are seen by whoever reads after they were answered', async () => {
    const opened = await open();
    for (let id = 0; id < 20; id++) {
      await write(opened, id);
      expect(await opened.first(sql.selectFrom('note').select('text').where('id', '=', id))).toEqual({
        text: `note ${id}`,
      });
    }
  });

  it('that wait together share a commit', async () => {
    const opened = await open();
    let commits = 0;
    opened.listen(notedTopic, () => commits++);
    await Promise.all(Array.from({ length: 300 }, (_, id) => write(opened, id)));
    expect(await ids(opened)).toHaveLength(300);
    expect(commits).toBeGreaterThan(0);
    expect(commits).toBeLessThan(100);
  });

  it('that fail undo themselves alone, among many that share their commit', async () => {
    const opened = await open();
    const results = await Promise.allSettled(
      Array.from({ length: 60 }, (_, id) => {
        if (id % 10 === 3) return opened.transact(noteTransactions.writeAndRefuse, { id });
        if (id % 10 === 7) return opened.transact(noteTransactions.writeAndBreak, { id });
        return write(opened, id);
      }),
    );
    const fails = (id: number) => id % 10 === 3 || id % 10 === 7;
    expect(results.map(({ status }) => status)).toEqual(results.map((_, id) => (fails(id) ? 'rejected' : 'fulfilled')));
    expect(await ids(opened)).toEqual(Array.from({ length: 60 }, (_, id) => id).filter((id) => !fails(id)));
  });

  it('cross the threads with their errors: what is the caller’s fault keeps code, reason, hint and details', async () => {
    const opened = await open();
    const refused = await opened.transact(noteTransactions.writeAndRefuse, { id: 1 }).catch((error) => error);
    expect(refused).toBeInstanceOf(ServiceError);
    expect(refused).toMatchObject({
      code: 'conflict',
      reason: 'page.token-invalid',
      message: 'The note 1 is refused.',
      details: { id: 1 },
      status: 409,
    });
    expect(refused.hint).toContain('page tokens');
    const fault = await opened.transact(noteTransactions.writeAndBreak, { id: 1 }).catch((error) => error);
    expect(fault).not.toBeInstanceOf(ServiceError);
    expect(fault).toMatchObject({ name: 'TypeError', message: 'It broke.' });
    expect(fault.stack).toContain('notes.fixture.ts');
  });

  it('tell listeners after their commit, and not at all if they fail', async () => {
    const opened = await open();
    const seen: Promise<number[]>[] = [];
    const stop = opened.listen(notedTopic, () => void seen.push(ids(opened)));
    let refused = 0;
    opened.listen('refused', () => refused++);
    await write(opened, 1);
    await opened.transact(noteTransactions.writeAndRefuse, { id: 2 }).catch(() => {});
    expect(await Promise.all(seen)).toEqual([[1]]);
    expect(refused).toBe(0);
    stop();
    await write(opened, 3);
    expect(seen).toHaveLength(1);
  });

  it('that nobody declared are refused with the place to declare them', async () => {
    const opened = await open();
    await expect(opened.transact({ name: 'note.erase', readOnly: false }, undefined)).rejects.toThrow(
      'knows no transaction note.erase: import its store in server/src/stores.ts',
    );
  });
});

describe('readings', () => {
  it('see one state of the database, whatever is committed meanwhile', async () => {
    const opened = await open();
    const [gate, isOpen] = [0, 1].map((value) => new Int32Array(new SharedArrayBuffer(4)).fill(value)) as [
      Int32Array,
      Int32Array,
    ];
    expect(await opened.transact(noteReadings.countTwice, { gate: isOpen })).toEqual([0, 0]);
    const counted = opened.transact(noteReadings.countTwice, { gate });
    for (let id = 1; id <= 5; id++) await write(opened, id); // the writer does not wait for the reading
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
    const [before, after] = await counted;
    expect(after).toBe(before);
    expect(await opened.transact(noteReadings.countTwice, { gate: isOpen })).toEqual([5, 5]);
  });
});

describe('the end', () => {
  it('comes after what was sent before, and refuses what is sent later', async () => {
    const opened = await open();
    const sent = Array.from({ length: 50 }, (_, id) => write(opened, id));
    const closed = opened.close();
    await expect(write(opened, 99)).rejects.toMatchObject({ code: 'unavailable', reason: 'server.stopping' });
    await closed;
    expect(await Promise.all(sent)).toHaveLength(50);
    expect(await ids(await open())).toHaveLength(50);
    expect(broken).toEqual([]);
  });

  it('of a worker by itself is told once, and nobody waits for it for ever', async () => {
    const opened = await open();
    await expect(opened.transact(noteTransactions.endWorker, undefined)).rejects.toThrow('worker has ended');
    await expect(write(opened, 1)).rejects.toThrow('worker has ended');
    expect(broken).toHaveLength(1);
  });
});

describe('a data folder', () => {
  it('has one server at a time, also where another process tries', async () => {
    await open();
    await expect(Database.open(folder, noteWorker, noteMigrations, () => {})).rejects.toBeInstanceOf(FolderInUse);
    const other = spawn(process.execPath, [noteWorker, 'write', folder]);
    let said = '';
    other.stderr.on('data', (data) => {
      said += data;
    });
    const [code] = await once(other, 'exit');
    expect(code).toBe(1);
    expect(said).toContain(`Another Stellwerk server is using the data folder ${folder}.`);
  });

  it('written by a newer version is refused and left as it is', async () => {
    const newer = [...noteMigrations, { name: '0002-later', up: 'CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT' }];
    await (await open(newer)).close();
    const before = readFileSync(join(folder, 'stellwerk.db'));
    await expect(open()).rejects.toThrow('written by a newer Stellwerk (it has 0002-later)');
    expect(readFileSync(join(folder, 'stellwerk.db')).equals(before)).toBe(true);
    await write(await open(newer), 1); // and is free again
  });

  it('gives free pages back to the disk, also one that an older version made', async () => {
    const file = join(folder, 'stellwerk.db');
    const vacuum = () => {
      const raw = new DatabaseSync(file);
      const { auto_vacuum: mode } = raw.prepare('PRAGMA auto_vacuum').get() as { auto_vacuum: number };
      raw.close();
      return mode;
    };
    await write(await open(), 1);
    await db!.close();
    expect(vacuum()).toBe(2);
    const raw = new DatabaseSync(file);
    raw.exec('PRAGMA auto_vacuum = NONE; VACUUM');
    raw.close();
    expect(vacuum()).toBe(0);
    expect(await ids(await open())).toEqual([1]);
    await db!.close();
    expect(vacuum()).toBe(2);
  });

  it('is not changed by a migration that fails half-way', async () => {
    await write(await open(), 1);
    await db!.close();
    const failing = [
      ...noteMigrations,
      { name: '0002-more', up: 'ALTER TABLE note ADD COLUMN more TEXT; CREATE TABLE extra (id INTEGER) STRICT;' },
      { name: '0003-wrong', up: 'INSERT INTO extra VALUES (1); INSERT INTO missing VALUES (1);' },
    ];
    await expect(open(failing)).rejects.toThrow('missing');
    const opened = await open();
    expect(await ids(opened)).toEqual([1]);
    await opened.close();
    const raw = new DatabaseSync(join(folder, 'stellwerk.db'), { readOnly: true });
    const names = raw.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all();
    const migrations = raw.prepare('SELECT name FROM migration').all();
    raw.close();
    expect(names.map(({ name }) => name)).toEqual(['migration', 'note']);
    expect(migrations.map(({ name }) => name)).toEqual(['0001-note']);
  });

  it('is copied before each migration as the version before left it, the newest three times; where nothing is to do, not', async () => {
    const copies = () => (existsSync(join(folder, 'backups')) ? readdirSync(join(folder, 'backups')).sort() : []);
    await write(await open(), 1);
    await db!.close();
    await (await open()).close();
    expect(copies()).toEqual([]);
    const later = [...noteMigrations];
    for (const n of [2, 3, 4, 5]) {
      later.push({ name: `000${n}-more`, up: `CREATE TABLE more${n} (id INTEGER) STRICT; DELETE FROM note;` });
      await (await open(later)).close();
    }
    expect(copies()).toEqual(['stellwerk-0002-more.db', 'stellwerk-0003-more.db', 'stellwerk-0004-more.db']);
    const failing = [...later, { name: '0006-wrong', up: 'DROP TABLE note; INSERT INTO missing VALUES (1)' }];
    const refused = await open(failing).catch((error) => error);
    expect(refused).toBeInstanceOf(SchemaRefused);
    const copy = join(folder, 'backups', 'stellwerk-0005-more.db');
    expect(refused.message).toContain(`0006-wrong failed (no such table: missing). Nothing was changed`);
    expect(refused.message).toContain(copy);
    await write(await open(later), 2);
    const raw = new DatabaseSync(copy, { readOnly: true });
    expect(raw.prepare('SELECT name FROM migration ORDER BY name').all()).toHaveLength(later.length);
    raw.close();
  });

  it('whose index went missing, or is another than it should be, gets it again; one without a table is refused', async () => {
    const indexed = [...noteMigrations, { name: '0002-index', up: 'CREATE INDEX note_by_text ON note (text)' }];
    const change = (statement: string) => {
      const raw = new DatabaseSync(join(folder, 'stellwerk.db'));
      raw.exec(statement);
      raw.close();
    };
    const index = async () => {
      await (await open(indexed)).close();
      const raw = new DatabaseSync(join(folder, 'stellwerk.db'), { readOnly: true });
      const found = raw.prepare("SELECT sql FROM sqlite_schema WHERE name = 'note_by_text'").get();
      raw.close();
      return found?.sql;
    };
    const right = await index();
    expect(right).toContain('(text)');
    change('DROP INDEX note_by_text');
    expect(await index()).toBe(right);
    change('DROP INDEX note_by_text; CREATE INDEX note_by_text ON note (id)');
    expect(await index()).toBe(right);
    change('DROP TABLE note');
    await expect(open(indexed)).rejects.toThrow('The database lacks note');
  });

  it('loses no acknowledged row when its server is killed', async () => {
    for (let round = 1; round <= 3; round++) {
      const child = spawn(process.execPath, [noteWorker, 'write', folder], { stdio: ['ignore', 'pipe', 'inherit'] });
      const acknowledged = await killAfter(child, 400);
      const opened = await open();
      const there = new Set(await ids(opened));
      await opened.close();
      expect(acknowledged.length).toBeGreaterThanOrEqual(400);
      expect(acknowledged.filter((id) => !there.has(id))).toEqual([]);
    }
  });
});

/** Kills a writer in the middle; gives the numbers that it had printed. */
async function killAfter(child: ChildProcess, lines: number): Promise<number[]> {
  const acknowledged: number[] = [];
  for await (const line of createInterface({ input: child.stdout! })) {
    acknowledged.push(Number(line));
    if (acknowledged.length === lines) child.kill('SIGKILL');
  }
  if (child.signalCode === null) await once(child, 'exit');
  expect(child.signalCode).toBe('SIGKILL');
  return acknowledged;
}
