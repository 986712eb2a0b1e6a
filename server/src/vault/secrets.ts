// The secrets of a workspace, by name: what compute targets sign in with, and whatever else is sensitive. Setting a name again makes its
// next version; the newest counts, older ones can still be read by their number.
// Invariants: a value is given out only by `get` and `open`, each of which stands in the audit log; nothing else ever holds one.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Secret } from '@stellwerk/contract/secret.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { type Audit, type Caller, nameOf } from '../access/access.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import { type SecretRow, vaultTransactions } from './store.ts';
import type { Vault } from './vault.ts';

export interface SecretsNeeds {
  db: Database;
  vault: Pick<Vault, 'sealIn' | 'unsealIn'>;
  now(): number;
  audit: Pick<Audit, 'record'>;
}

const placeOf = ({ workspace, name, version }: Pick<SecretRow, 'workspace' | 'name' | 'version'>) =>
  `secret/${workspace.toLowerCase()}/${name.toLowerCase()}/${version}`;

export class Secrets {
  readonly #needs: SecretsNeeds;

  constructor(needs: SecretsNeeds) {
    this.#needs = needs;
  }

  set({ workspace, name, value }: CheckedOf<'secrets', 'set'>, caller: Caller): Promise<Secret> {
    return this.#add(workspace, name, value, nameOf(caller));
  }

  async #add(workspace: string, name: string, value: string, by: string): Promise<Secret> {
    const { db, vault, now } = this.#needs;
    for (;;) {
      const version = await db.transact(vaultTransactions.nextVersion, { workspace, name });
      const row: SecretRow = {
        workspace,
        name,
        version,
        sealed: await vault.sealIn(workspace, value, placeOf({ workspace, name, version })),
        created_at: new Date(now()).toISOString(),
        created_by: by,
      };
      if (await db.transact(vaultTransactions.insert, row)) return secretOf(row);
    }
  }

  async get({ workspace, name, version }: CheckedOf<'secrets', 'get'>): Promise<OutputOf<'secrets', 'get'>> {
    const row = await this.#row(workspace, name, version);
    return { ...secretOf(row), value: await this.#valueOf(row) };
  }

  async list(input: CheckedOf<'secrets', 'list'>): Promise<OutputOf<'secrets', 'list'>> {
    const after = keyOf(input, 1);
    let query = sql
      .selectFrom('secret as s')
      .select(['s.workspace', 's.name', 's.version', 's.created_at', 's.created_by'])
      .where('s.workspace', '=', input.workspace)
      .where('s.version', '=', (e) =>
        e
          .selectFrom('secret as newer')
          .select((of) => of.fn.max('newer.version').as('version'))
          .whereRef('newer.workspace', '=', 's.workspace')
          .whereRef('newer.name', '=', 's.name'),
      )
      .orderBy('s.name')
      .limit(rowsFor(input));
    if (after) query = query.where('s.name', '>', String(after[0]));
    return pageFrom(await this.#needs.db.all(query), input, secretOf, (row) => [row.name]);
  }

  async delete({ workspace, name }: CheckedOf<'secrets', 'delete'>): Promise<Record<string, never>> {
    if (await this.#needs.db.transact(vaultTransactions.delete, { workspace, name })) return {};
    throw notFound(workspace, name);
  }

  async has(workspace: string, name: string): Promise<boolean> {
    const found = sql
      .selectFrom('secret')
      .select('version')
      .where('workspace', '=', workspace)
      .where('name', '=', name);
    return (await this.#needs.db.first(found.limit(1))) !== undefined;
  }

  /** For the server itself: what settings name. */
  async open(workspace: string, name: string, use: string): Promise<string> {
    const value = await this.#valueOf(await this.#row(workspace, name));
    const subject = `${name} for ${use}`;
    await this.#needs.audit.record({ caller: 'server', verb: 'secrets.get', workspace, subject, outcome: 'done' });
    return value;
  }

  /** For the server itself: what it made and will need again. */
  async keep(workspace: string, name: string, value: string): Promise<void> {
    await this.#add(workspace, name, value, 'server');
    await this.#record('secrets.set', workspace, name);
  }

  async drop(workspace: string, name: string): Promise<void> {
    await this.delete({ workspace, name });
    await this.#record('secrets.delete', workspace, name);
  }

  async #record(verb: 'secrets.set' | 'secrets.delete', workspace: string, subject: string): Promise<void> {
    await this.#needs.audit.record({ caller: 'server', verb, workspace, subject, outcome: 'done' });
  }

  #valueOf(row: SecretRow): Promise<string> {
    return this.#needs.vault.unsealIn(row.workspace, row.sealed, placeOf(row));
  }

  async #row(workspace: string, name: string, version?: number): Promise<SecretRow> {
    let query = sql
      .selectFrom('secret')
      .selectAll()
      .where('workspace', '=', workspace)
      .where('name', '=', name)
      .orderBy('version', 'desc')
      .limit(1);
    if (version !== undefined) query = query.where('version', '=', version);
    const row = await this.#needs.db.first(query);
    if (!row) throw notFound(workspace, name, version);
    return row;
  }
}

function secretOf(row: Omit<SecretRow, 'sealed'>): Secret {
  return { name: row.name, version: row.version, createdAt: row.created_at, createdBy: row.created_by };
}

function notFound(workspace: string, name: string, version?: number): ServiceError {
  const what = version === undefined ? `secret ${name}` : `version ${version} of the secret ${name}`;
  return new ServiceError('not-found', 'secret.not-found', `There is no ${what} in the workspace ${workspace}.`);
}
