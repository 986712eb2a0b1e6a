// Rows of users, credentials, tokens, members and the audit log. Secrets are kept as hashes only.
import type { AuditEntry, Role } from '@stellwerk/contract/access.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';

export interface UserRow {
  name: string;
  kind: 'user' | 'service-principal';
  display_name: string | null;
  administrator: number;
  disabled: number;
  password_hash: string | null;
  created_at: string;
  last_sign_in_at: string | null;
}

export interface TokenRow {
  id: string;
  hash: string;
  name: string;
  user: string;
  /** 1: made by signing in; 0: made by `tokens.create`. */
  sign_in: number;
  workspace: string | null;
  role: Role | null;
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
  /** The token that it was made with, and is revoked with. A sign-in ends without ending what was made with it. */
  maker: string | null;
}

export interface RunTokenRow {
  hash: string;
  workspace: string;
  run: string;
  attempt: number;
  user: string;
  expires_at: string;
}

interface AuditRow {
  id: number;
  at: string;
  actor: string;
  token: string | null;
  verb: string;
  workspace: string | null;
  subject: string | null;
  outcome: AuditEntry['outcome'];
  reason: string | null;
  address: string | null;
}

declare module '../db/schema.ts' {
  interface Schema {
    user: UserRow;
    sign_in_code: { hash: string; user: string; expires_at: string };
    token: TokenRow;
    run_token: RunTokenRow;
    member: { workspace: string; user: string; role: Role; since: string };
    audit: AuditRow;
  }
}

export const accessMigrations: Migration[] = [
  {
    name: '0001-access',
    up: `
      CREATE TABLE user (
        name TEXT PRIMARY KEY COLLATE NOCASE, kind TEXT NOT NULL, display_name TEXT, administrator INTEGER NOT NULL, disabled INTEGER NOT NULL,
        password_hash TEXT, created_at TEXT NOT NULL, last_sign_in_at TEXT
      ) STRICT;
      CREATE TABLE sign_in_code (hash TEXT PRIMARY KEY, user TEXT NOT NULL COLLATE NOCASE REFERENCES user ON DELETE CASCADE, expires_at TEXT NOT NULL) STRICT;
      CREATE TABLE token (
        id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT NOT NULL, user TEXT NOT NULL COLLATE NOCASE REFERENCES user ON DELETE CASCADE,
        sign_in INTEGER NOT NULL, workspace TEXT COLLATE NOCASE, role TEXT, created_at TEXT NOT NULL, expires_at TEXT, last_used_at TEXT
      ) STRICT;
      CREATE INDEX token_by_user ON token (user);
      CREATE INDEX token_by_expiry ON token (expires_at) WHERE expires_at IS NOT NULL;
      CREATE TABLE run_token (
        hash TEXT PRIMARY KEY, workspace TEXT NOT NULL, run TEXT NOT NULL, attempt INTEGER NOT NULL, user TEXT NOT NULL, expires_at TEXT NOT NULL
      ) STRICT;
      CREATE INDEX run_token_by_run ON run_token (workspace, run);
      CREATE INDEX run_token_by_expiry ON run_token (expires_at);
      CREATE TABLE member (
        workspace TEXT NOT NULL COLLATE NOCASE, user TEXT NOT NULL COLLATE NOCASE REFERENCES user ON DELETE CASCADE, role TEXT NOT NULL, since TEXT NOT NULL,
        PRIMARY KEY (workspace, user)
      ) STRICT;
      CREATE INDEX member_by_user ON member (user);
      CREATE TABLE audit (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, token TEXT, verb TEXT NOT NULL, workspace TEXT, subject TEXT,
        outcome TEXT NOT NULL, reason TEXT, address TEXT
      ) STRICT;
      CREATE INDEX audit_by_workspace ON audit (workspace, id);
    `,
  },
  {
    name: '0060-token-maker',
    up: `
      ALTER TABLE token ADD COLUMN maker TEXT REFERENCES token ON DELETE CASCADE;
      CREATE INDEX token_by_maker ON token (maker) WHERE maker IS NOT NULL;
    `,
  },
];

function userNamed(tx: Transaction, name: string): UserRow {
  const row = tx.first(sql.selectFrom('user').selectAll().where('name', '=', name));
  if (!row) throw new ServiceError('not-found', 'access.user-not-found', `There is no user ${name}.`);
  return row;
}

/** The last administrator who can sign in must stay one. */
function keepAnAdministrator(tx: Transaction): void {
  const left = tx.first(
    sql.selectFrom('user').select('name').where('administrator', '=', 1).where('disabled', '=', 0).limit(1),
  );
  if (!left)
    throw new ServiceError(
      'failed-precondition',
      'access.last-administrator',
      'The server would be left without an administrator.',
    );
}

function keepAnOwner(tx: Transaction, workspace: string): void {
  const left = tx.first(
    sql.selectFrom('member').select('user').where('workspace', '=', workspace).where('role', '=', 'owner').limit(1),
  );
  if (!left)
    throw new ServiceError(
      'failed-precondition',
      'access.last-owner',
      `The workspace ${workspace} would be left without an Owner.`,
    );
}

export function linkUsed(): ServiceError {
  return new ServiceError(
    'unauthenticated',
    'access.sign-in-link-used',
    'This sign-in link is unknown, was used already, or has expired.',
  );
}

/** Sign-ins come and go; those that ran out are nobody's concern any more. */
function insertSignIn(tx: Transaction, row: TokenRow, now: string): UserRow {
  tx.run(sql.deleteFrom('token').where('sign_in', '=', 1).where('expires_at', '<=', now));
  tx.run(sql.insertInto('token').values(row));
  tx.run(sql.updateTable('user').set({ last_sign_in_at: now }).where('name', '=', row.user));
  return userNamed(tx, row.user);
}

/** A workspace begins with whoever creates it as its Owner. */
export function addOwner(tx: Transaction, workspace: string, user: string, since: string): void {
  tx.run(sql.insertInto('member').values({ workspace, user: userNamed(tx, user).name, role: 'owner', since }));
}

/** For the run room, in its own transaction: nothing is reported for these runs any more. As one JSON list of ids. */
export function revokeRunTokens(tx: Transaction, workspace: string, runs: readonly string[]): void {
  tx.statement('DELETE FROM run_token WHERE workspace = ? AND run IN (SELECT value FROM json_each(?))').run(
    workspace,
    JSON.stringify(runs),
  );
}

export const accessTransactions = transactions('access', {
  insertUser(tx: Transaction, row: UserRow): void {
    if (tx.first(sql.selectFrom('user').select('name').where('name', '=', row.name))) {
      throw new ServiceError('conflict', 'access.user-name-taken', `There is a user ${row.name} already.`);
    }
    tx.run(sql.insertInto('user').values(row));
  },

  updateUser(tx: Transaction, { name, set }: { name: string; set: Partial<UserRow> }): UserRow {
    userNamed(tx, name);
    if (Object.keys(set).length > 0) tx.run(sql.updateTable('user').set(set).where('name', '=', name));
    if (set.disabled) tx.run(sql.deleteFrom('token').where('user', '=', name));
    if (set.disabled || set.administrator === 0) keepAnAdministrator(tx);
    return userNamed(tx, name);
  },

  deleteUser(tx: Transaction, { name }: { name: string }): void {
    userNamed(tx, name);
    const owned = tx.all(
      sql.selectFrom('member').select('workspace').where('user', '=', name).where('role', '=', 'owner'),
    );
    tx.run(sql.deleteFrom('user').where('name', '=', name));
    keepAnAdministrator(tx);
    for (const { workspace } of owned) keepAnOwner(tx, workspace);
  },

  insertSignInCode(tx: Transaction, row: { hash: string; user: string; expires_at: string }): UserRow {
    const user = userNamed(tx, row.user);
    if (user.kind === 'service-principal')
      throw new ServiceError(
        'invalid-argument',
        'request.invalid',
        `${user.name} is a service principal: it does not sign in but has tokens; make it one.`,
      );
    tx.run(sql.deleteFrom('sign_in_code').where('user', '=', user.name)); // a new link replaces the old one
    tx.run(sql.insertInto('sign_in_code').values({ ...row, user: user.name }));
    return user;
  },

  /** Uses a code up and signs its user in. */
  redeem(
    tx: Transaction,
    {
      hash,
      now,
      token,
      passwordHash,
    }: { hash: string; now: string; token: Omit<TokenRow, 'user'>; passwordHash?: string },
  ): UserRow {
    const code = tx.first(sql.selectFrom('sign_in_code').selectAll().where('hash', '=', hash));
    if (!code || code.expires_at <= now) throw linkUsed();
    const user = userNamed(tx, code.user);
    if (user.disabled)
      throw new ServiceError('unauthenticated', 'access.token-invalid', `The user ${user.name} is disabled.`);
    tx.run(sql.deleteFrom('sign_in_code').where('hash', '=', hash));
    if (passwordHash !== undefined)
      tx.run(sql.updateTable('user').set({ password_hash: passwordHash }).where('name', '=', user.name));
    return insertSignIn(tx, { ...token, user: user.name }, now);
  },

  /** A token that will end makes none that outlives it, one that is revoked takes what it made with it, and makes no more. */
  insertToken(tx: Transaction, { row, maker }: { row: TokenRow; maker: string }): TokenRow {
    const user = userNamed(tx, row.user).name;
    const making = tx.first(sql.selectFrom('token').select(['sign_in', 'expires_at']).where('id', '=', maker));
    if (!making) throw new ServiceError('unauthenticated', 'access.token-invalid', 'The token is not valid any more.');
    const end = making.sign_in === 1 ? null : making.expires_at;
    const expires = end !== null && (row.expires_at === null || row.expires_at > end) ? end : row.expires_at;
    const made = { ...row, user, expires_at: expires, maker: making.sign_in === 1 ? null : maker };
    tx.run(sql.insertInto('token').values(made));
    return made;
  },

  /** The user may have been disabled, or the password changed, since it was found to fit. */
  signIn(tx: Transaction, { row, passwordHash }: { row: TokenRow; passwordHash: string }): UserRow | undefined {
    const user = tx.first(sql.selectFrom('user').selectAll().where('name', '=', row.user));
    if (!user || user.disabled === 1 || user.password_hash !== passwordHash) return undefined;
    return insertSignIn(tx, row, row.created_at);
  },

  setPassword(tx: Transaction, { user, hash, keepToken }: { user: string; hash: string; keepToken: string }): void {
    tx.run(sql.updateTable('user').set({ password_hash: hash }).where('name', '=', user));
    tx.run(sql.deleteFrom('token').where('user', '=', user).where('id', '!=', keepToken).where('sign_in', '=', 1));
  },

  /** Revokes one token, of one user unless `user` is absent. */
  deleteToken(tx: Transaction, { id, user }: { id: string; user?: string }): boolean {
    const query = sql.deleteFrom('token').where('id', '=', id);
    return tx.run(user === undefined ? query : query.where('user', '=', user)) > 0;
  },

  touchToken(tx: Transaction, { id, now }: { id: string; now: string }): void {
    tx.run(sql.updateTable('token').set({ last_used_at: now }).where('id', '=', id));
  },

  insertRunToken(tx: Transaction, { row, now }: { row: RunTokenRow; now: string }): void {
    tx.run(sql.deleteFrom('run_token').where('expires_at', '<=', now));
    tx.run(sql.insertInto('run_token').values(row));
  },

  setMember(
    tx: Transaction,
    row: { workspace: string; user: string; role: Role; since: string },
  ): { user: string; role: Role; since: string } {
    const user = userNamed(tx, row.user).name;
    tx.run(
      sql
        .insertInto('member')
        .values({ ...row, user })
        .onConflict((conflict) => conflict.columns(['workspace', 'user']).doUpdateSet({ role: row.role })),
    );
    keepAnOwner(tx, row.workspace);
    return tx.first(
      sql
        .selectFrom('member')
        .select(['user', 'role', 'since'])
        .where('workspace', '=', row.workspace)
        .where('user', '=', user),
    )!;
  },

  removeMember(tx: Transaction, { workspace, user }: { workspace: string; user: string }): void {
    if (tx.run(sql.deleteFrom('member').where('workspace', '=', workspace).where('user', '=', user)) === 0) {
      throw new ServiceError(
        'not-found',
        'access.user-not-found',
        `The user ${user} has no role in the workspace ${workspace}.`,
      );
    }
    keepAnOwner(tx, workspace);
  },

  audit(tx: Transaction, row: Omit<AuditRow, 'id'>): void {
    tx.run(sql.insertInto('audit').values(row as AuditRow));
  },
});
