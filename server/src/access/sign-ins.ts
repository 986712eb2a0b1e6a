// Signing in and out: with a password, or with the code of a sign-in link.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { sql } from '../db/transactions.ts';
import type { AccessNeeds } from './access.ts';
import { asUser, asWholeUser, type Caller } from './callers.ts';
import { hashPassword, hashToken, passwordFits } from './secrets.ts';
import { accessTransactions, linkUsed } from './store.ts';
import type { Tokens } from './tokens.ts';
import { userOf } from './users.ts';

const signInGoodForMs = 30 * 86_400_000;
/** Wrong passwords for one name before the next try has to wait, and how long. */
const triesBeforeWait = 5;
const waitMs = 30_000;
const namesRemembered = 10_000;
/** Verified for names without a password, so that an answer's time does not tell whether a name exists. */
const noPassword = '$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';

export class SignIns {
  readonly #needs: AccessNeeds;
  readonly #tokens: Tokens;
  readonly #failures = new Map<string, { count: number; until: number }>();

  constructor(needs: AccessNeeds, tokens: Tokens) {
    this.#needs = needs;
    this.#tokens = tokens;
  }

  async create({ user, password, tokenName }: CheckedOf<'signIns', 'create'>): Promise<OutputOf<'signIns', 'create'>> {
    const key = user.toLowerCase();
    this.#throttle(key);
    this.#failed(key); // counted before it is known, so that many tries at once are counted too
    const row = await this.#needs.db.first(
      sql.selectFrom('user').selectAll().where('name', '=', user).where('disabled', '=', 0),
    );
    const fits = await passwordFits(row?.password_hash ?? noPassword, password);
    if (!row?.password_hash || !fits) throw passwordWrong();
    const made = this.#newToken(row.name, tokenName);
    const signing = { row: made.row, passwordHash: row.password_hash };
    const signedIn = await this.#needs.db.transact(accessTransactions.signIn, signing);
    if (!signedIn) throw passwordWrong();
    this.#failures.delete(key);
    return { token: made.token, user: userOf(signedIn), expiresAt: made.row.expires_at! };
  }

  async redeem({ code, password, tokenName }: CheckedOf<'signIns', 'redeem'>): Promise<OutputOf<'signIns', 'redeem'>> {
    const hash = hashToken(code);
    const there = sql.selectFrom('sign_in_code').select('expires_at').where('hash', '=', hash);
    if (!(await this.#needs.db.first(there))) throw linkUsed(); // before a stranger makes us hash a password
    const made = this.#newToken('', tokenName);
    const { user: _, ...token } = made.row;
    const passwordHash = password === undefined ? {} : { passwordHash: await hashPassword(password) };
    const now = new Date(this.#needs.now()).toISOString();
    const user = await this.#needs.db.transact(accessTransactions.redeem, { hash, now, token, ...passwordHash });
    return { token: made.token, user: userOf(user), expiresAt: made.row.expires_at! };
  }

  async delete(_: CheckedOf<'signIns', 'delete'>, caller: Caller): Promise<Record<string, never>> {
    await this.#needs.db.transact(accessTransactions.deleteToken, { id: asUser(caller).tokenId });
    return {};
  }

  async setPassword({ password }: CheckedOf<'me', 'setPassword'>, caller: Caller): Promise<Record<string, never>> {
    const { user, tokenId } = asWholeUser(caller);
    await this.#needs.db.transact(accessTransactions.setPassword, {
      user,
      hash: await hashPassword(password),
      keepToken: tokenId,
    });
    return {};
  }

  #newToken(user: string, name: string | undefined) {
    return this.#tokens.make({ user, name: name || 'sign-in', goodForMs: signInGoodForMs, isSignIn: true });
  }

  #throttle(key: string): void {
    const failures = this.#failures.get(key);
    const now = this.#needs.now();
    if (failures && failures.count >= triesBeforeWait && now < failures.until) {
      throw new ServiceError(
        'resource-exhausted',
        'request.too-many',
        'There were too many wrong passwords for this name.',
        {
          retryAfterSeconds: Math.ceil((failures.until - now) / 1000),
        },
      );
    }
  }

  #failed(key: string): void {
    const count = (this.#failures.get(key)?.count ?? 0) + 1;
    this.#failures.delete(key);
    this.#failures.set(key, { count, until: this.#needs.now() + waitMs });
    if (this.#failures.size > namesRemembered) this.#failures.delete(this.#failures.keys().next().value!);
  }
}

function passwordWrong(): ServiceError {
  return new ServiceError('unauthenticated', 'access.password-wrong', 'The user name or the password is wrong.');
}
