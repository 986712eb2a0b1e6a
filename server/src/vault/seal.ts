// Seals a text with AES-256-GCM under a key, for one place.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

const nonceBytes = 12;
const tagBytes = 16;
export const keyBytes = 32;

/** `place` names where the secret belongs (`package-indexes`, `run/w1/r7`): it opens only there. */
export function sealWith(key: Buffer, secret: string | Buffer, place: string): string {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(place));
  const bytes = typeof secret === 'string' ? Buffer.from(secret) : secret;
  const sealed = Buffer.concat([nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
  return sealed.toString('base64');
}

export function unsealWith(key: Buffer, sealed: string, place: string): Buffer {
  const bytes = Buffer.from(sealed, 'base64');
  try {
    const nonce = bytes.subarray(0, nonceBytes);
    const options = { authTagLength: tagBytes };
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, options).setAAD(Buffer.from(place));
    decipher.setAuthTag(bytes.subarray(Math.max(nonceBytes, bytes.length - tagBytes)));
    return Buffer.concat([decipher.update(bytes.subarray(nonceBytes, -tagBytes)), decipher.final()]);
  } catch (error) {
    const why = 'it was changed, or sealed for another place or with another master key';
    throw new Error(`The sealed secret of ${place} cannot be opened: ${why}.`, { cause: error });
  }
}
