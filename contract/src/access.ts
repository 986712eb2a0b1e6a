// Who may do what: users, service principals, roles in workspaces, tokens and the audit log.
import * as z from 'zod';
import { page, pageSize, resourceName, time } from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

export const role = z
  .enum(['owner', 'contributor', 'reader'])
  .describe(
    'Owner: everything. Contributor: everything but access and deleting the workspace. Reader: looks and downloads only.',
  );
export type Role = z.infer<typeof role>;

export const user = z
  .object({
    name: resourceName,
    kind: z.enum(['user', 'service-principal']),
    displayName: z.string().max(256).optional(),
    administrator: z.boolean(),
    disabled: z.boolean(),
    createdAt: time,
    lastSignInAt: time.optional(),
  })
  .meta({ id: 'User' });
export type User = z.infer<typeof user>;

export const signInLink = z
  .object({
    user: resourceName,
    code: z.string().describe('Good once.'),
    url: z.string().describe('Opens the sign-in page; the code stands behind `#`, so that it reaches no log.'),
    expiresAt: time,
  })
  .meta({ id: 'SignInLink' });

export const signedIn = z
  .object({ token: z.string().describe('Send it as `Authorization: Bearer …`.'), user, expiresAt: time.optional() })
  .meta({ id: 'SignedIn' });

export const token = z
  .object({
    id: z.string(),
    name: z.string().max(256),
    user: resourceName,
    workspace: resourceName.optional().describe('Where it is good; everywhere if absent.'),
    role: role.optional().describe('The most that it allows there; all that its user may if absent.'),
    createdAt: time,
    expiresAt: time.optional(),
    lastUsedAt: time.optional(),
  })
  .meta({ id: 'Token' });
export type Token = z.infer<typeof token>;

export const member = z.object({ user: resourceName, role, since: time }).meta({ id: 'Member' });
export type Member = z.infer<typeof member>;

export const auditEntry = z
  .object({
    id: z.int(),
    at: time,
    actor: z.string().describe('The user, or `run <id>` for a run token, or `server`.'),
    token: z.string().optional(),
    verb: z.string(),
    workspace: z.string().optional(),
    subject: z.string().optional().describe('What it was done to.'),
    outcome: z.enum(['done', 'refused', 'failed']),
    reason: z.string().optional(),
    address: z.string().optional(),
  })
  .meta({ id: 'AuditEntry' });
export type AuditEntry = z.infer<typeof auditEntry>;

const password = z.string().min(10).max(1_000).describe('At least 10 characters.');
const days = z.number().min(0.0001).max(3650).describe('Days from now.');

export const accessVerbs = {
  signIns: {
    create: verb({
      summary: 'Signs in with user name and password.',
      method: 'POST',
      path: '/sign-in',
      permission: 'public',
      input: z.object({
        user: z.string().max(256),
        password: z.string().max(1_000),
        tokenName: z.string().max(256).optional(),
      }),
      output: signedIn,
    }),
    redeem: verb({
      summary: 'Signs in with the code of a sign-in link, and sets a password if one is given.',
      method: 'POST',
      path: '/sign-in/redeem',
      permission: 'public',
      input: z.object({
        code: z.string().max(256),
        password: password.optional(),
        tokenName: z.string().max(256).optional(),
      }),
      output: signedIn,
    }),
    delete: verb({
      summary: 'Signs out: revokes the token that the call is made with.',
      method: 'DELETE',
      path: '/sign-in',
      permission: 'signed-in',
      input: z.object({}),
      output: nothing,
    }),
  },
  me: {
    get: verb({
      summary: 'Who is calling, with the roles held.',
      method: 'GET',
      path: '/me',
      permission: 'signed-in',
      input: z.object({}),
      output: z.object({ user, roles: z.record(z.string(), role).describe('By workspace.') }).meta({ id: 'Me' }),
    }),
    setPassword: verb({
      summary: 'Sets the own password and ends all other sign-ins.',
      method: 'PUT',
      path: '/me/password',
      permission: 'signed-in',
      input: z.object({ password }),
      output: nothing,
    }),
  },
  users: {
    create: verb({
      summary: 'Creates a user or a service principal; a user gets a sign-in link, a service principal tokens.',
      method: 'POST',
      path: '/users',
      permission: 'administrator',
      input: z.object({
        name: resourceName,
        kind: z.enum(['user', 'service-principal']).default('user'),
        displayName: z.string().max(256).optional(),
        administrator: z.boolean().default(false),
      }),
      output: z.object({ user, signIn: signInLink.optional() }).meta({ id: 'CreatedUser' }),
    }),
    list: verb({
      summary: 'Lists users and service principals.',
      method: 'GET',
      path: '/users',
      permission: 'administrator',
      input: z.object({ page, pageSize }),
      output: pageOf(user, 'Users'),
    }),
    get: verb({
      summary: 'Shows a user.',
      method: 'GET',
      path: '/users/{user}',
      permission: 'administrator',
      input: z.object({ user: resourceName }),
      output: user,
    }),
    update: verb({
      summary: 'Changes, disables or enables a user. A disabled user is signed out everywhere.',
      method: 'PATCH',
      path: '/users/{user}',
      permission: 'administrator',
      input: z.object({
        user: resourceName,
        displayName: z.string().max(256).optional(),
        administrator: z.boolean().optional(),
        disabled: z.boolean().optional(),
      }),
      output: user,
    }),
    createSignIn: verb({
      summary: 'Makes a new sign-in link for a user, good once.',
      method: 'POST',
      path: '/users/{user}/sign-in',
      permission: 'administrator',
      input: z.object({ user: resourceName }),
      output: signInLink,
    }),
    delete: verb({
      summary: 'Deletes a user: roles and tokens go, what the user made stays.',
      method: 'DELETE',
      path: '/users/{user}',
      permission: 'administrator',
      input: z.object({ user: resourceName }),
      output: nothing,
    }),
  },
  tokens: {
    create: verb({
      summary: 'Creates a token for oneself (an administrator: for a service principal too), shown once.',
      method: 'POST',
      path: '/tokens',
      permission: 'signed-in',
      input: z.object({
        name: z.string().min(1).max(256),
        user: resourceName.optional().describe('A service principal; oneself if absent.'),
        workspace: resourceName.optional(),
        role: role.optional(),
        expiresInDays: days.optional(),
      }),
      output: z.object({ token: z.string(), record: token }).meta({ id: 'CreatedToken' }),
    }),
    list: verb({
      summary: 'Lists the own tokens (an administrator: those of any user).',
      method: 'GET',
      path: '/tokens',
      permission: 'signed-in',
      input: z.object({ user: resourceName.optional(), page, pageSize }),
      output: pageOf(token, 'Tokens'),
    }),
    revoke: verb({
      summary: 'Revokes a token at once, and the tokens that were made with it.',
      method: 'DELETE',
      path: '/tokens/{token}',
      permission: 'signed-in',
      input: z.object({ token: z.string().max(64) }),
      output: nothing,
    }),
  },
  members: {
    list: verb({
      summary: 'Lists who has which role in the workspace.',
      method: 'GET',
      path: '/workspaces/{workspace}/members',
      permission: 'read',
      input: z.object({ workspace: resourceName, page, pageSize }),
      output: pageOf(member, 'Members'),
    }),
    set: verb({
      summary: 'Gives a user a role in the workspace, or changes it.',
      method: 'PUT',
      path: '/workspaces/{workspace}/members/{user}',
      permission: 'own',
      input: z.object({ workspace: resourceName, user: resourceName, role }),
      output: member,
    }),
    remove: verb({
      summary: "Takes a user's role in the workspace away.",
      method: 'DELETE',
      path: '/workspaces/{workspace}/members/{user}',
      permission: 'own',
      input: z.object({ workspace: resourceName, user: resourceName }),
      output: nothing,
    }),
  },
  audit: {
    list: verb({
      summary: 'The audit log of the whole server, newest first.',
      method: 'GET',
      path: '/audit',
      permission: 'administrator',
      input: z.object({ actor: z.string().max(300).optional(), verb: z.string().max(100).optional(), page, pageSize }),
      output: pageOf(auditEntry, 'AuditEntries'),
    }),
    listWorkspace: verb({
      summary: 'The audit log of a workspace, newest first.',
      method: 'GET',
      path: '/workspaces/{workspace}/audit',
      permission: 'own',
      input: z.object({
        workspace: resourceName,
        actor: z.string().max(300).optional(),
        verb: z.string().max(100).optional(),
        page,
        pageSize,
      }),
      output: pageOf(auditEntry, 'AuditEntries'),
    }),
  },
};
