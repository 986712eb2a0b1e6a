// Where Python packages come from, as the administrator set it. Sealed as a whole: credentials are in it.
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';

declare module '../db/schema.ts' {
  interface Schema {
    package_indexes: { id: number; sealed: string };
  }
}

export const environmentMigrations: Migration[] = [
  {
    name: '0013-package-indexes',
    up: 'CREATE TABLE package_indexes (id INTEGER PRIMARY KEY CHECK (id = 1), sealed TEXT NOT NULL) STRICT;',
  },
];

export const environmentTransactions = transactions('environment', {
  setIndexes(tx: Transaction, { sealed }: { sealed: string }): void {
    tx.run(
      sql
        .insertInto('package_indexes')
        .values({ id: 1, sealed })
        .onConflict((c) => c.column('id').doUpdateSet({ sealed })),
    );
  },
});
