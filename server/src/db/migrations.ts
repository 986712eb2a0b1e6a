// Brings the schema up to date: each room declares its migrations in order; every one is applied once, all in one transaction.
// Invariants: a newer schema than this server knows is refused and left as it is; a failing migration changes nothing; before the
// first change a copy of the database is made; an index that is missing is made again.
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { copyDatabase } from './copy.ts';
import { isDiskFull } from './disk-full.ts';
import { missingParts } from './expected-schema.ts';

export interface Migration {
  /** `0001-access`: never changed after a release. */
  name: string;
  up: string;
}

/** The data folder cannot be used by this version, as it is: the message says what to do. */
export class SchemaRefused extends Error {}

/** So many copies are kept, the newest: each is as large as the database. */
const copiesKept = 3;

export async function migrate(file: string, migrations: readonly Migration[]): Promise<void> {
  const copy = existsSync(file) ? await copyBefore(file, migrations) : undefined;
  const database = new DatabaseSync(file);
  try {
    database.exec('PRAGMA busy_timeout = 5000');
    // Before the first table: so that pages that rows leave free can be given back to the disk, a few at a time.
    if (valueIn(database, 'page_count') === 0) database.exec('PRAGMA auto_vacuum = INCREMENTAL');
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN IMMEDIATE');
    database.exec('CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL) STRICT');
    const applied = new Set(appliedTo(database, migrations));
    for (const migration of migrations) if (!applied.has(migration.name)) apply(database, migration, copy);
    mend(database, migrations);
    database.exec('COMMIT');
    givePagesBack(database);
  } finally {
    database.close(); // rolls back what was not committed
  }
}

/** The names of the migrations that a database has; refused if this version does not know them all. */
export function appliedTo(database: DatabaseSync, migrations: readonly Migration[]): string[] {
  const known = new Set(migrations.map(({ name }) => name));
  const applied = database
    .prepare('SELECT name FROM migration ORDER BY name')
    .all()
    .map((row) => String(row.name));
  const unknown = applied.filter((name) => !known.has(name));
  if (unknown.length > 0)
    throw new SchemaRefused(
      `The data folder was written by a newer Stellwerk (it has ${unknown.join(', ')}). Start that version or newer; nothing was changed.`,
    );
  return applied;
}

function apply(database: DatabaseSync, { name, up }: Migration, copy: string | undefined): void {
  try {
    database.exec(up);
  } catch (error) {
    const kept = copy === undefined ? '' : ` A copy from before is ${copy}.`;
    throw new SchemaRefused(
      `The database could not be brought up to date: ${name} failed (${(error as Error).message}). Nothing was changed; go on with the version that you had.${kept}`,
      { cause: error },
    );
  }
  database.prepare("INSERT INTO migration VALUES (?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))").run(name);
}

/** An index can be made again from what is there; a table that is gone took its rows with it. */
function mend(database: DatabaseSync, migrations: readonly Migration[]): void {
  const missing = missingParts(database, migrations);
  const tables = missing.filter(({ type }) => type === 'table').map(({ name }) => name);
  if (tables.length > 0)
    throw new SchemaRefused(
      `The database lacks ${tables.join(', ')}: it was changed by something else. Restore a backup; nothing was changed.`,
    );
  for (const { name, sql } of missing) {
    database.exec(`DROP INDEX IF EXISTS "${name}"`);
    database.exec(sql);
  }
}

/** Where there is something to migrate: the database as the version before left it. */
async function copyBefore(file: string, migrations: readonly Migration[]): Promise<string | undefined> {
  const from = lastApplied(file, migrations);
  if (from === undefined) return undefined;
  const folder = join(dirname(file), 'backups');
  const copy = join(folder, `stellwerk-${from}.db`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await rm(`${copy}.new`, { force: true });
  await copyDatabase(file, `${copy}.new`).catch(async (error: unknown) => {
    await rm(`${copy}.new`, { force: true });
    if (!isDiskFull(error)) throw error;
    throw new SchemaRefused(
      `The disk is full: before the database is brought up to date a copy of it is made in ${folder}. Make room; nothing was changed.`,
    );
  });
  await rename(`${copy}.new`, copy);
  await forgetOld(folder);
  return copy;
}

/** Undefined if there is nothing to do, or nothing there to keep. */
function lastApplied(file: string, migrations: readonly Migration[]): string | undefined {
  const database = new DatabaseSync(file);
  try {
    const isNew = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'migration'").get() === undefined;
    const applied = isNew ? [] : appliedTo(database, migrations);
    return applied.length < migrations.length ? applied.at(-1) : undefined;
  } finally {
    database.close();
  }
}

async function forgetOld(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => /^stellwerk-.*\.db$/.test(name));
  const copies = await Promise.all(
    names.map(async (name) => ({ file: join(folder, name), at: (await stat(join(folder, name))).mtimeMs })),
  );
  copies.sort((a, b) => b.at - a.at);
  for (const { file } of copies.slice(copiesKept)) await rm(file, { force: true });
}
const rewrittenAtMostBytes = 1024 ** 3;

/** A database of an older version is rewritten once, unless that would take long: then its free pages are used again, but not given back. */
function givePagesBack(database: DatabaseSync): void {
  if (valueIn(database, 'auto_vacuum') !== 0) return;
  if (valueIn(database, 'page_count') * valueIn(database, 'page_size') > rewrittenAtMostBytes) return;
  database.exec('PRAGMA auto_vacuum = INCREMENTAL; VACUUM');
}

const valueIn = (database: DatabaseSync, pragma: string) =>
  Number(Object.values(database.prepare(`PRAGMA ${pragma}`).get()!)[0]);
