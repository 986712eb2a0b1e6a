// Passwords and tokens: made from the system's random source, kept as hashes.
import { createHash } from 'node:crypto';
import { ServiceError } from '@stellwerk/contract/errors.ts';

/** Each takes 19 MiB and a thread of the pool that files are read with too: strangers must not take them all. */
const passwordsAtOnce = 2;
const passwordsWaiting = 100;
let busy = 0;
const waiting: (() => void)[] = [];

/** Argon2id with the library's parameters (19 MiB, 2 passes), imported when first needed: it is native code. */
export function hashPassword(password: string): Promise<string> {
  return inTurn(async () => (await import('@node-rs/argon2')).hash(password));
}

export function passwordFits(hash: string, password: string): Promise<boolean> {
  return inTurn(async () => (await import('@node-rs/argon2')).verify(hash, password));
}

/** Tokens have 256 random bits, so one round of SHA-256 keeps them safe at rest; looking up by hash needs no comparison of secrets. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (waiting.length >= passwordsWaiting)
    throw new ServiceError('resource-exhausted', 'request.too-many', 'Too many passwords are being checked.', {
      retryAfterSeconds: 5,
    });
  if (busy >= passwordsAtOnce) await new Promise<void>((go) => void waiting.push(go));
  else busy++;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else busy--; // else the place is the next one's
  }
}
