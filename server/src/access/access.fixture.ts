// For tests of who may what: a real database with a clock that tests move, an administrator, and what they need over and over.
import { randomBytes, randomUUID } from 'node:crypto';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { expect } from 'vitest';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { migrations } from '../stores.ts';
import { Access, type UserCaller } from './access.ts';

export interface AccessRig extends AsyncDisposable {
  access: Access;
  scratch: ScratchDatabase;
  /** Moves the clock. */
  pass(ms: number): void;
  now(): number;
  /** A user who has signed in with the link, and how they call. */
  signedIn(name: string, more?: { administrator?: boolean; password?: string }): Promise<UserCaller>;
  callerOf(token: string): Promise<UserCaller>;
}

export async function accessRig(): Promise<AccessRig> {
  const scratch = await scratchDatabase(migrations);
  let now = Date.parse('2026-11-23T12:00:00.000Z');
  const access = new Access({
    db: scratch.db,
    now: () => now,
    secret: () => randomBytes(32).toString('base64url'),
    newId: () => randomUUID(),
    publicUrl: () => 'https://stellwerk.test',
  });
  const callerOf = async (token: string) => (await access.authenticator.callerOf(token)) as UserCaller;
  return {
    access,
    scratch,
    pass: (ms) => {
      now += ms;
    },
    now: () => now,
    callerOf,
    signedIn: async (name, { administrator = false, password } = {}) => {
      const { signIn } = await access.users.create({ name, kind: 'user', administrator });
      const { token } = await access.signIns.redeem({ code: signIn!.code, ...(password && { password }) });
      return callerOf(token);
    },
    [Symbol.asyncDispose]: () => scratch[Symbol.asyncDispose](),
  };
}

/** That it is refused for this reason. */
export async function expectRefusal(promise: Promise<unknown>, reason: string): Promise<ServiceError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ServiceError);
  expect((error as ServiceError).reason).toBe(reason);
  return error as ServiceError;
}
