// Roles of users in workspaces.
import type { Role } from '@stellwerk/contract/access.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import type { AccessNeeds } from './access.ts';
import { accessTransactions } from './store.ts';

export class Members {
  readonly #needs: AccessNeeds;

  constructor(needs: AccessNeeds) {
    this.#needs = needs;
  }

  async list(input: CheckedOf<'members', 'list'>): Promise<OutputOf<'members', 'list'>> {
    const after = keyOf(input, 1);
    let query = sql
      .selectFrom('member')
      .select(['user', 'role', 'since'])
      .where('workspace', '=', input.workspace)
      .orderBy('user')
      .limit(rowsFor(input));
    if (after) query = query.where('user', '>', String(after[0]));
    return pageFrom(
      await this.#needs.db.all(query),
      input,
      (row) => ({ ...row }),
      (row) => [row.user],
    );
  }

  set({ workspace, user, role }: CheckedOf<'members', 'set'>): Promise<OutputOf<'members', 'set'>> {
    return this.#needs.db.transact(accessTransactions.setMember, {
      workspace,
      user,
      role,
      since: new Date(this.#needs.now()).toISOString(),
    });
  }

  async remove({ workspace, user }: CheckedOf<'members', 'remove'>): Promise<Record<string, never>> {
    await this.#needs.db.transact(accessTransactions.removeMember, { workspace, user });
    return {};
  }

  /** The workspaces in which a user has a role. */
  async rolesOf(user: string): Promise<Record<string, Role>> {
    const rows = await this.#needs.db.all(
      sql.selectFrom('member').select(['workspace', 'role']).where('user', '=', user),
    );
    return Object.fromEntries(rows.map(({ workspace, role }) => [workspace, role]));
  }
}
