// Tokens: scoped, expiring, revocable. The secret is shown once.
import type { Role, Token } from '@stellwerk/contract/access.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import type { AccessNeeds } from './access.ts';
import { asUser, asWholeUser, type Caller, isAdministrator, limited } from './callers.ts';
import { hashToken } from './secrets.ts';
import { accessTransactions, type TokenRow } from './store.ts';

const dayMs = 86_400_000;

export class Tokens {
  readonly #needs: AccessNeeds;

  constructor(needs: AccessNeeds) {
    this.#needs = needs;
  }

  async create(input: CheckedOf<'tokens', 'create'>, caller: Caller): Promise<OutputOf<'tokens', 'create'>> {
    const maker = asUser(caller);
    const user = input.user ?? maker.user;
    if (user.toLowerCase() !== maker.user.toLowerCase()) await this.#mayMakeFor(user, caller);
    // A scoped token makes no token that reaches further than itself.
    const workspace = input.workspace ?? maker.workspace;
    if (maker.workspace !== undefined && workspace?.toLowerCase() !== maker.workspace.toLowerCase()) {
      throw new ServiceError(
        'permission-denied',
        'access.denied',
        `This token is good in the workspace ${maker.workspace} only, and so is what it makes.`,
      );
    }
    const role = maker.roleLimit ? limited(input.role ?? maker.roleLimit, maker.roleLimit) : input.role;
    const { token, row } = this.make({
      user,
      name: input.name,
      workspace,
      role,
      goodForMs: input.expiresInDays && input.expiresInDays * dayMs,
    });
    const made = await this.#needs.db.transact(accessTransactions.insertToken, { row, maker: maker.tokenId });
    return { token, record: tokenOf(made) };
  }

  async #mayMakeFor(user: string, caller: Caller): Promise<void> {
    const row = await this.#needs.db.first(sql.selectFrom('user').select('kind').where('name', '=', user));
    if (isAdministrator(caller) && row?.kind === 'service-principal') return;
    throw new ServiceError(
      'permission-denied',
      'access.administrator-needed',
      `Only an administrator makes tokens for others, and only for service principals; ${user} is not one.`,
    );
  }

  async list(input: CheckedOf<'tokens', 'list'>, caller: Caller): Promise<OutputOf<'tokens', 'list'>> {
    const asking = asUser(caller).user;
    const user = input.user ?? asking;
    if (user.toLowerCase() !== asking.toLowerCase() && !isAdministrator(caller)) {
      throw new ServiceError(
        'permission-denied',
        'access.administrator-needed',
        "Only an administrator may list another user's tokens.",
      );
    }
    const after = keyOf(input, 1);
    let query = sql.selectFrom('token').selectAll().where('user', '=', user).orderBy('id').limit(rowsFor(input));
    if (after) query = query.where('id', '>', String(after[0]));
    return pageFrom(await this.#needs.db.all(query), input, tokenOf, (row) => [row.id]);
  }

  async revoke({ token }: CheckedOf<'tokens', 'revoke'>, caller: Caller): Promise<Record<string, never>> {
    // A limited token may give itself up, but not those that reach further.
    const asking = token === asUser(caller).tokenId ? asUser(caller) : asWholeUser(caller);
    const own = isAdministrator(caller) ? {} : { user: asking.user };
    if (!(await this.#needs.db.transact(accessTransactions.deleteToken, { id: token, ...own }))) {
      throw new ServiceError('not-found', 'access.token-not-found', `There is no token ${token} that you may revoke.`);
    }
    return {};
  }

  /** A new secret and its row, not yet stored. */
  make(of: {
    user: string;
    name: string;
    workspace?: string | undefined;
    role?: Role | undefined;
    goodForMs?: number | undefined;
    isSignIn?: boolean;
  }): { token: string; row: TokenRow } {
    const token = `sw_${this.#needs.secret()}`;
    const now = this.#needs.now();
    const row: TokenRow = {
      id: this.#needs.newId(),
      hash: hashToken(token),
      name: of.name,
      user: of.user,
      sign_in: Number(of.isSignIn ?? false),
      workspace: of.workspace ?? null,
      role: of.role ?? null,
      created_at: new Date(now).toISOString(),
      expires_at: of.goodForMs === undefined ? null : new Date(now + of.goodForMs).toISOString(),
      last_used_at: null,
      maker: null,
    };
    return { token, row };
  }
}

function tokenOf(row: TokenRow): Token {
  return {
    id: row.id,
    name: row.name,
    user: row.user,
    ...(row.workspace !== null && { workspace: row.workspace }),
    ...(row.role !== null && { role: row.role }),
    createdAt: row.created_at,
    ...(row.expires_at !== null && { expiresAt: row.expires_at }),
    ...(row.last_used_at !== null && { lastUsedAt: row.last_used_at }),
  };
}
