// Passwords and tokens: made from the system's random source, kept as hashes.
import { createHash } from 'node:crypto';

/** Argon2id with the library's parameters (19 MiB, 2 passes), imported when first needed: it is native code. */
export async function hashPassword(password: string): Promise<string> {
  const { hash } = await import('@node-rs/argon2');
  return hash(password);
}

export async function passwordFits(hash: string, password: string): Promise<boolean> {
  const { verify } = await import('@node-rs/argon2');
  return verify(hash, password);
}

/** Tokens have 256 random bits, so one round of SHA-256 keeps them safe at rest; looking up by hash needs no comparison of secrets. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
