// The index settings of the server: set once by an administrator; they hold for resolving, installing and images.
// Invariants: kept sealed; a password is never shown again.
import { type IndexSettings, indexSettings } from '@stellwerk/contract/environment.ts';
import type { PackageIndexes as Shown } from '@stellwerk/contract/server.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import type { Vault } from '../vault/vault.ts';
import { environmentTransactions } from './store.ts';

const place = 'package-indexes';

export class PackageIndexes {
  readonly #needs: { db: Database; vault: Vault };

  constructor(needs: { db: Database; vault: Vault }) {
    this.#needs = needs;
  }

  async get(): Promise<Shown> {
    return shown(await this.settings());
  }

  async set(input: IndexSettings): Promise<Shown> {
    const settings = indexSettings.parse(input);
    await this.#needs.db.transact(environmentTransactions.setIndexes, {
      sealed: this.#needs.vault.seal(JSON.stringify(settings), place),
    });
    return shown(settings);
  }

  /** With the credentials: only for programs that resolve and install. */
  async settings(): Promise<IndexSettings> {
    const row = await this.#needs.db.first(sql.selectFrom('package_indexes').select('sealed'));
    return row ? (JSON.parse(this.#needs.vault.unseal(row.sealed, place)) as IndexSettings) : {};
  }
}

function shown({ credentials, ...open }: IndexSettings): Shown {
  return { ...open, ...(credentials && { signIns: credentials.map(({ url, username }) => ({ url, username })) }) };
}
