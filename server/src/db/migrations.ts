// Brings the schema up to date: each room declares its migrations in order; every one is applied once, all in one transaction.
// Invariants: a newer schema than this server knows is refused and left as it is; a failing migration changes nothing.
import { DatabaseSync } from 'node:sqlite';

export interface Migration {
  /** `0001-access`: never changed after a release. */
  name: string;
  up: string;
}

export function migrate(file: string, migrations: readonly Migration[]): void {
  const database = new DatabaseSync(file);
  try {
    database.exec('PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN IMMEDIATE');
    database.exec('CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL) STRICT');
    const applied = new Set(
      database
        .prepare('SELECT name FROM migration')
        .all()
        .map((row) => String(row.name)),
    );
    const known = new Set(migrations.map(({ name }) => name));
    const unknown = [...applied].filter((name) => !known.has(name));
    if (unknown.length > 0) {
      throw new Error(
        `The data folder was written by a newer Stellwerk (it has ${unknown.join(', ')}). Start that version or newer; nothing was changed.`,
      );
    }
    for (const { name, up } of migrations) {
      if (applied.has(name)) continue;
      database.exec(up);
      database.prepare("INSERT INTO migration VALUES (?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))").run(name);
    }
    database.exec('COMMIT');
  } finally {
    database.close(); // rolls back what was not committed
  }
}
