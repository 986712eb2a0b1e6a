// The schema that a list of migrations makes, against the one that a database really has: an index that went missing turns
// every list into a scan, and nobody is told.
import { DatabaseSync } from 'node:sqlite';
import type { Migration } from './migrations.ts';

export interface SchemaPart {
  type: 'table' | 'index';
  name: string;
  /** What makes it. */
  sql: string;
}

const parts = "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('table', 'index') AND sql IS NOT NULL";

/** What should be there and is not. A part that is there but made otherwise is missing too: its name holds something else. */
export function missingParts(database: DatabaseSync, migrations: readonly Migration[]): SchemaPart[] {
  const expected = new DatabaseSync(':memory:');
  try {
    for (const { up } of migrations) expected.exec(up);
    const there = new Map(partsOf(database).map((part) => [part.name, part]));
    return partsOf(expected).filter((part) => {
      const found = there.get(part.name);
      return found?.type !== part.type || (part.type === 'index' && words(found.sql) !== words(part.sql));
    });
  } finally {
    expected.close();
  }
}

function partsOf(database: DatabaseSync): SchemaPart[] {
  return database.prepare(parts).all() as unknown as SchemaPart[];
}

const words = (sql: string) => sql.replaceAll(/\s+/g, ' ');
