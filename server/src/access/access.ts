// Who may do what in which workspace: users and service principals, roles, tokens, sign-in and the audit log.
// Invariants: there is no default password; what is not permitted is refused; a token's secret is shown once and kept as a
// hash; revoking works at once; a sign-in link is good once; the last administrator and a workspace's last Owner stay.

import type { Database } from '../db/database.ts';
import { Audit } from './audit.ts';
import { Authenticator } from './authenticator.ts';
import { Members } from './members.ts';
import { SignIns } from './sign-ins.ts';
import { Tokens } from './tokens.ts';
import { Users } from './users.ts';

export {
  asUser,
  bearerOf,
  type Caller,
  isAdministrator,
  nameOf,
  type RunCaller,
  type SignedInCaller,
  seesEveryWorkspace,
  type UserCaller,
} from './callers.ts';
export { addOwner, revokeRunTokens } from './store.ts';
export type { Audit };

export interface AccessNeeds {
  db: Database;
  /** Milliseconds since 1970. */
  now(): number;
  /** A new secret of 256 random bits, as text. */
  secret(): string;
  newId(): string;
  /** The address that users reach the server at, for sign-in links. */
  publicUrl(): string;
}

export class Access {
  readonly authenticator: Authenticator;
  readonly users: Users;
  readonly signIns: SignIns;
  readonly tokens: Tokens;
  readonly members: Members;
  readonly audit: Audit;

  constructor(needs: AccessNeeds) {
    this.users = new Users(needs);
    this.tokens = new Tokens(needs);
    this.signIns = new SignIns(needs, this.tokens);
    this.members = new Members(needs);
    this.audit = new Audit(needs);
    this.authenticator = new Authenticator(needs);
  }
}
