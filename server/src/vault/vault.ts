// Secrets at rest: sealed with AES-256-GCM, so that a copy of the database gives none away. The master key seals data keys, one for each
// workspace and one of the server's own; data keys seal everything else. So the master key is changed by sealing a few keys anew.
// Invariants: a sealed text that was changed, or moved to another place than it was sealed for, is refused; while the master key is changed
// everything can be opened, also after a crash in the middle. Keys are made and changed one after another: one that was made while the master
// key is changed would be sealed with the old one for ever.
import { randomBytes } from 'node:crypto';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import { MasterKeyMissing, type MasterKeySource, nextMasterKey, readMasterKey, settleMasterKey } from './master-key.ts';
import { keyBytes, sealWith, unsealWith } from './seal.ts';
import { type KeyRow, vaultTransactions } from './store.ts';

export { MasterKeyMissing, type MasterKeySource } from './master-key.ts';
export { Secrets } from './secrets.ts';

export interface VaultNeeds {
  db: Database;
  source: MasterKeySource;
}

/** The server's own: package indexes, keys of services, secrets of runs. */
const own = '';
const placeOf = (workspace: string) => `data-key/${workspace.toLowerCase()}`;

export class Vault {
  readonly #needs: VaultNeeds;
  #master: Buffer;
  #own: Buffer;
  readonly #keys = new Map<string, Buffer>();
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(needs: VaultNeeds, master: Buffer, ownKey: Buffer) {
    this.#needs = needs;
    this.#master = master;
    this.#own = ownKey;
  }

  static async open(needs: VaultNeeds): Promise<Vault> {
    const { db, source } = needs;
    const { key, others, isNew } = await readMasterKey(source);
    const rows = await db.all(sql.selectFrom('vault_key').selectAll());
    if (rows.length === 0) {
      // Before there were data keys, the master key itself sealed everything: what it sealed is still opened.
      const first = isNew || source.from !== 'file' ? randomBytes(keyBytes) : Buffer.from(key);
      const { sealed } = await db.transact(vaultTransactions.keepKey, {
        workspace: own,
        sealed: sealWith(key, first, placeOf(own)),
      });
      return new Vault(needs, key, unsealWith(key, sealed, placeOf(own)));
    }
    const ownRow = rows.find(({ workspace }) => workspace === own)!;
    const master = [key, ...others].find((one) => opens(one, ownRow)) ?? key;
    const vault = new Vault(needs, master, unsealWith(master, ownRow.sealed, placeOf(own)));
    // A change of the key was interrupted, or is to be made with this start.
    if (others.length > 0 && !master.equals(key) && source.from !== 'file') await vault.#change(key);
    settleMasterKey(source, vault.#master);
    return vault;
  }

  /** `place` names where the secret belongs (`package-indexes`, `run/w1/r7`): it opens only there. */
  seal(secret: string, place: string): string {
    return sealWith(this.#own, secret, place);
  }

  unseal(sealed: string, place: string): string {
    return unsealWith(this.#own, sealed, place).toString('utf8');
  }

  /** With the workspace's own data key, which goes with the workspace. */
  async sealIn(workspace: string, secret: string, place: string): Promise<string> {
    return sealWith(await this.#keyOf(workspace), secret, place);
  }

  async unsealIn(workspace: string, sealed: string, place: string): Promise<string> {
    return unsealWith(await this.#keyOf(workspace), sealed, place).toString('utf8');
  }

  /** Changes the master key while everything goes on. Returns how many data keys were sealed anew. */
  rotateMasterKey(): Promise<{ keys: number }> {
    const { source } = this.#needs;
    return this.#inTurn(async () => {
      unsealWith(this.#master, (await this.#rowOf(own))!.sealed, placeOf(own)); // else a change stopped halfway: the next start mends it
      settleMasterKey(source, this.#master);
      const next = await nextMasterKey(source).catch((error: unknown) => {
        if (!(error instanceof MasterKeyMissing)) throw error;
        throw new ServiceError('failed-precondition', 'server.master-key', error.message);
      });
      const keys = await this.#change(next);
      settleMasterKey(source, this.#master);
      return { keys };
    });
  }

  async #change(to: Buffer): Promise<number> {
    const { db } = this.#needs;
    for (;;) {
      const before = await db.all(sql.selectFrom('vault_key').selectAll());
      const rows = before.map(({ workspace, sealed }) => {
        const place = placeOf(workspace);
        return { workspace, sealed: sealWith(to, unsealWith(this.#master, sealed, place), place) };
      });
      if (!(await db.transact(vaultTransactions.replaceKeys, { rows }))) continue; // a workspace got its key meanwhile
      this.#master = to;
      return rows.length;
    }
  }

  async #keyOf(workspace: string): Promise<Buffer> {
    const known = this.#keys.get((await this.#rowOf(workspace))?.sealed ?? '');
    return known ?? this.#inTurn(() => this.#openKey(workspace));
  }

  async #openKey(workspace: string): Promise<Buffer> {
    const place = placeOf(workspace);
    const { sealed } =
      (await this.#rowOf(workspace)) ??
      (await this.#needs.db.transact(vaultTransactions.keepKey, {
        workspace,
        sealed: sealWith(this.#master, randomBytes(keyBytes), place),
      }));
    const key = unsealWith(this.#master, sealed, place);
    this.#keys.set(sealed, key);
    return key;
  }

  #rowOf(workspace: string): Promise<KeyRow | undefined> {
    return this.#needs.db.first(sql.selectFrom('vault_key').selectAll().where('workspace', '=', workspace));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }
}

function opens(key: Buffer, { workspace, sealed }: KeyRow): boolean {
  try {
    unsealWith(key, sealed, placeOf(workspace));
    return true;
  } catch {
    return false;
  }
}
