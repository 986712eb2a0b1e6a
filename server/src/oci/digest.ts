// Digests as text: what is one, of what, and that the content has it.
import { createHash } from 'node:crypto';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Digest } from '../blob/bytes.ts';

export function isDigest(text: unknown): text is Digest {
  return typeof text === 'string' && /^sha256:[0-9a-f]{64}$/.test(text);
}

export function hexOf(digest: Digest): string {
  if (!isDigest(digest)) throw new TypeError(`${JSON.stringify(digest)} is no SHA-256 digest.`);
  return digest.slice('sha256:'.length);
}

export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export function digestMismatch(expected: Digest, found: Digest): ServiceError {
  const message = `The content has the digest ${found}, where ${expected} was promised. It was not kept.`;
  return new ServiceError('conflict', 'blob.digest-mismatch', message);
}

/** Passes a stream through; fails at its end if it was not the promised content. */
export async function* verified(source: AsyncIterable<Uint8Array>, expected: Digest): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  for await (const chunk of source) {
    hash.update(chunk);
    yield chunk;
  }
  const found: Digest = `sha256:${hash.digest('hex')}`;
  if (found !== expected) throw digestMismatch(expected, found);
}
