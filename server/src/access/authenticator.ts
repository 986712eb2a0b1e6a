// From a token to a caller, and from a caller and a verb's permission to yes or no.
import type { Role } from '@stellwerk/contract/access.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Permission } from '@stellwerk/contract/verb.ts';
import { sql } from '../db/transactions.ts';
import type { AccessNeeds } from './access.ts';
import {
  type Caller,
  includes,
  isAdministrator,
  limited,
  type RunCaller,
  seesEveryWorkspace,
  type UserCaller,
} from './callers.ts';
import { hashToken } from './secrets.ts';
import { accessTransactions } from './store.ts';

/** A token's last use is noted at most this often. */
const touchEveryMs = 60_000;
/** An administrator of the server looks after every workspace. */
const administratorRole: Role = 'owner';

export class Authenticator {
  readonly #needs: Pick<AccessNeeds, 'db' | 'now' | 'secret'>;

  constructor(needs: Pick<AccessNeeds, 'db' | 'now' | 'secret'>) {
    this.#needs = needs;
  }

  async callerOf(token: string): Promise<Caller> {
    if (token.startsWith('swr_')) return this.#runCaller(token);
    return this.#userCaller('hash', hashToken(token));
  }

  /** For what was given out on the strength of a user's token: whether that is still good. */
  async callerWith(tokenId: string): Promise<UserCaller> {
    return this.#userCaller('id', tokenId);
  }

  async #userCaller(by: 'hash' | 'id', value: string): Promise<UserCaller> {
    const row = await this.#needs.db.first(
      sql
        .selectFrom('token')
        .innerJoin('user', 'user.name', 'token.user')
        .select([
          'token.id',
          'token.workspace',
          'token.role',
          'token.expires_at',
          'token.last_used_at',
          'user.name',
          'user.administrator',
          'user.disabled',
        ])
        .where(`token.${by}`, '=', value),
    );
    const now = this.#needs.now();
    if (!row || row.disabled || (row.expires_at !== null && Date.parse(row.expires_at) <= now)) throw invalid();
    if (row.last_used_at === null || Date.parse(row.last_used_at) < now - touchEveryMs) {
      await this.#needs.db.transact(accessTransactions.touchToken, { id: row.id, now: new Date(now).toISOString() });
    }
    return {
      kind: 'user',
      user: row.name,
      administrator: row.administrator === 1,
      tokenId: row.id,
      ...(row.workspace !== null && { workspace: row.workspace }),
      ...(row.role !== null && { roleLimit: row.role }),
    };
  }

  async #runCaller(token: string): Promise<RunCaller> {
    const row = await this.#needs.db.first(
      sql.selectFrom('run_token').selectAll().where('hash', '=', hashToken(token)),
    );
    if (!row || Date.parse(row.expires_at) <= this.#needs.now()) throw invalid();
    return { kind: 'run', workspace: row.workspace, run: row.run, attempt: row.attempt, user: row.user };
  }

  /** A token for one attempt of a run; tokens of earlier attempts stay, so that they hear that they are superseded. */
  async createRunToken(run: Omit<RunCaller, 'kind'>, goodForMs: number): Promise<string> {
    const token = `swr_${this.#needs.secret()}`;
    const now = this.#needs.now();
    const row = { ...run, hash: hashToken(token), expires_at: new Date(now + goodForMs).toISOString() };
    await this.#needs.db.transact(accessTransactions.insertRunToken, { row, now: new Date(now).toISOString() });
    return token;
  }

  /** The role that a user's token gives in a workspace; undefined for none. */
  async roleIn(caller: UserCaller, workspace: string): Promise<Role | undefined> {
    if (caller.workspace !== undefined && caller.workspace.toLowerCase() !== workspace.toLowerCase()) return undefined;
    const member = await this.#needs.db.first(
      sql.selectFrom('member').select('role').where('workspace', '=', workspace).where('user', '=', caller.user),
    );
    const role = seesEveryWorkspace(caller) ? administratorRole : member?.role;
    return role && limited(role, caller.roleLimit);
  }

  /** Refuses a user who may not. What someone has no role in is told to be absent, so that names cannot be guessed. */
  async permit(caller: UserCaller, permission: Permission, workspace: string | undefined): Promise<void> {
    if (permission === 'public' || permission === 'signed-in') return;
    if (permission === 'administrator') {
      if (isAdministrator(caller)) return;
      throw new ServiceError(
        'permission-denied',
        'access.administrator-needed',
        'Only an administrator of the server may do this.',
      );
    }
    const role = await this.roleIn(caller, workspace!);
    if (!role)
      throw new ServiceError(
        'not-found',
        'workspace.not-found',
        `There is no workspace ${workspace} that ${caller.user} has a role in.`,
      );
    if (!includes(role, permission)) {
      throw new ServiceError(
        'permission-denied',
        'access.denied',
        `The role ${role} in the workspace ${workspace} does not allow this.`,
      );
    }
  }
}

function invalid(): ServiceError {
  return new ServiceError('unauthenticated', 'access.token-invalid', 'The token is not valid.');
}
