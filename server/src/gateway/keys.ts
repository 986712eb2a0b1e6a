// Whether a caller holds one of a service's keys. Only hashes are known here; comparing takes the same time whatever was sent.
import { createHash, timingSafeEqual } from 'node:crypto';

export function holdsKey(authorization: string | undefined, keyHashes: readonly Buffer[]): boolean {
  const key = /^Bearer +([\w.~+/=-]{1,512}) *$/i.exec(authorization ?? '')?.[1];
  const hash = createHash('sha256')
    .update(key ?? '')
    .digest();
  let holds = false;
  for (const good of keyHashes) holds = timingSafeEqual(hash, good) || holds;
  return holds && key !== undefined;
}
