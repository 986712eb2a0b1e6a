// A real database in a folder of its own, for tests: opened as the service opens it, gone with the test.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Database } from './database.ts';
import type { Migration } from './migrations.ts';

export interface ScratchDatabase extends AsyncDisposable {
  db: Database;
  /** Of the test: for whatever else it keeps in files. */
  folder: string;
  /** Empties all tables: quicker than another database. */
  clear(): void;
  /** Runs statements as another room would in its transactions. */
  write(...statements: string[]): void;
}

const usualWorker = new URL('../database-worker.ts', import.meta.url).pathname;

/** `worker`: one that knows transactions of the test's own beside those of the service. */
export async function scratchDatabase(
  migrations: readonly Migration[],
  worker = usualWorker,
): Promise<ScratchDatabase> {
  const folder = mkdtempSync(join(tmpdir(), 'stellwerk-test-'));
  const db = await Database.open(folder, worker, migrations, (error) => {
    throw error;
  });
  const dispose = async () => {
    await db.close();
    rmSync(folder, { recursive: true, force: true });
  };
  return {
    db,
    folder,
    clear: () => clear(folder),
    write: (...statements) => write(folder, statements),
    [Symbol.asyncDispose]: dispose,
  };
}

const open = (folder: string) =>
  new DatabaseSync(join(folder, 'stellwerk.db'), { enableForeignKeyConstraints: false, timeout: 5_000 });

function write(folder: string, statements: string[]): void {
  const raw = open(folder);
  for (const statement of statements) raw.exec(statement);
  raw.close();
}

function clear(folder: string): void {
  const raw = open(folder);
  const tables = raw.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'migration'").all();
  for (const { name } of tables) if (!String(name).startsWith('sqlite_')) raw.exec(`DELETE FROM "${name}"`);
  raw.close();
}
