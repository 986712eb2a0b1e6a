// Who is calling, and what follows from it. Everything here is decided from the caller's token and the verb's permission.
import type { Role } from '@stellwerk/contract/access.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Permission } from '@stellwerk/contract/verb.ts';

export interface UserCaller {
  kind: 'user';
  user: string;
  administrator: boolean;
  tokenId: string;
  /** A scoped token: good in one workspace only, or for at most a role. */
  workspace?: string;
  roleLimit?: Role;
}

export interface RunCaller {
  kind: 'run';
  workspace: string;
  run: string;
  attempt: number;
  /** Whoever submitted the run: named as the maker of what it makes. */
  user: string;
}

/** Nobody signed in: public verbs only. */
export interface Stranger {
  kind: 'stranger';
}

export type Caller = UserCaller | RunCaller | Stranger;
export type SignedInCaller = UserCaller | RunCaller;

const included: Record<Role, readonly Permission[]> = {
  owner: ['read', 'contribute', 'own'],
  contributor: ['read', 'contribute'],
  reader: ['read'],
};
const rank: Record<Role, number> = { reader: 0, contributor: 1, owner: 2 };

export function includes(role: Role, permission: Permission): boolean {
  return included[role].includes(permission);
}

/** The lesser of what the member may and what the token allows. */
export function limited(role: Role, limit: Role | undefined): Role {
  return limit !== undefined && rank[limit] < rank[role] ? limit : role;
}

/** Name of the caller in records and the audit log. */
export function nameOf(caller: Caller): string {
  if (caller.kind === 'user') return caller.user;
  return caller.kind === 'run' ? caller.user : 'nobody';
}

/** The run whose token calls; undefined for a user, who reaches what is the workspace's. */
export function bearerOf(caller: Caller): string | undefined {
  return caller.kind === 'run' ? caller.run : undefined;
}

export function asUser(caller: Caller): UserCaller {
  if (caller.kind === 'user') return caller;
  if (caller.kind === 'stranger')
    throw new ServiceError('unauthenticated', 'access.sign-in-needed', 'This needs a sign-in.');
  throw new ServiceError('permission-denied', 'access.run-token-scope', "A run's token cannot be used for this.");
}

/** Whether it may do what administrators do. A token that is limited to a role or a workspace may not, whoever made it. */
export function isAdministrator(caller: Caller): boolean {
  return seesEveryWorkspace(caller) && (caller as UserCaller).roleLimit === undefined;
}

/** An administrator of the server looks after every workspace, with a token for at most a role as far as that allows. */
export function seesEveryWorkspace(caller: Caller): boolean {
  return caller.kind === 'user' && caller.administrator && caller.workspace === undefined;
}

/** For what concerns the user as a whole: not to be done with a token that was limited to a workspace or a role. */
export function asWholeUser(caller: Caller): UserCaller {
  const user = asUser(caller);
  if (user.workspace === undefined && user.roleLimit === undefined) return user;
  throw new ServiceError(
    'permission-denied',
    'access.denied',
    'This token is limited to a workspace or a role; this needs one that is not.',
  );
}
