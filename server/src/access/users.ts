// Users and service principals, as the administrator sees them.
import type { User } from '@stellwerk/contract/access.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import type { AccessNeeds } from './access.ts';
import { hashToken } from './secrets.ts';
import { accessTransactions, type UserRow } from './store.ts';

const linkGoodForMs = 7 * 86_400_000;

export class Users {
  readonly #needs: AccessNeeds;

  constructor(needs: AccessNeeds) {
    this.#needs = needs;
  }

  async create(input: CheckedOf<'users', 'create'>): Promise<OutputOf<'users', 'create'>> {
    const row: UserRow = {
      name: input.name,
      kind: input.kind,
      display_name: input.displayName ?? null,
      administrator: Number(input.administrator),
      disabled: 0,
      password_hash: null,
      created_at: new Date(this.#needs.now()).toISOString(),
      last_sign_in_at: null,
    };
    await this.#needs.db.transact(accessTransactions.insertUser, row);
    if (input.kind === 'service-principal') return { user: userOf(row) };
    return { user: userOf(row), signIn: await this.createSignIn({ user: input.name }) };
  }

  async createSignIn({ user }: CheckedOf<'users', 'createSignIn'>): Promise<OutputOf<'users', 'createSignIn'>> {
    const code = this.#needs.secret();
    const expiresAt = new Date(this.#needs.now() + linkGoodForMs).toISOString();
    const { name } = await this.#needs.db.transact(accessTransactions.insertSignInCode, {
      hash: hashToken(code),
      user,
      expires_at: expiresAt,
    });
    return { user: name, code, url: `${this.#needs.publicUrl()}/sign-in#${code}`, expiresAt };
  }

  async list(input: CheckedOf<'users', 'list'>): Promise<OutputOf<'users', 'list'>> {
    const after = keyOf(input, 1);
    let query = sql.selectFrom('user').selectAll().orderBy('name').limit(rowsFor(input));
    if (after) query = query.where('name', '>', String(after[0]));
    return pageFrom(await this.#needs.db.all(query), input, userOf, (row) => [row.name]);
  }

  async get({ user }: CheckedOf<'users', 'get'>): Promise<User> {
    const row = await this.#needs.db.first(sql.selectFrom('user').selectAll().where('name', '=', user));
    if (!row) throw new ServiceError('not-found', 'access.user-not-found', `There is no user ${user}.`);
    return userOf(row);
  }

  async update(input: CheckedOf<'users', 'update'>): Promise<User> {
    const set: Partial<UserRow> = {
      ...(input.displayName !== undefined && { display_name: input.displayName }),
      ...(input.administrator !== undefined && { administrator: Number(input.administrator) }),
      ...(input.disabled !== undefined && { disabled: Number(input.disabled) }),
    };
    return userOf(await this.#needs.db.transact(accessTransactions.updateUser, { name: input.user, set }));
  }

  async delete({ user }: CheckedOf<'users', 'delete'>): Promise<Record<string, never>> {
    await this.#needs.db.transact(accessTransactions.deleteUser, { name: user });
    return {};
  }

  /** Whether the server has any user yet: if not, it makes the first administrator. */
  async isEmpty(): Promise<boolean> {
    return (await this.#needs.db.first(sql.selectFrom('user').select('name').limit(1))) === undefined;
  }
}

export function userOf(row: UserRow): User {
  return {
    name: row.name,
    kind: row.kind,
    ...(row.display_name !== null && { displayName: row.display_name }),
    administrator: row.administrator === 1,
    disabled: row.disabled === 1,
    createdAt: row.created_at,
    ...(row.last_sign_in_at !== null && { lastSignInAt: row.last_sign_in_at }),
  };
}
