// Secrets at rest: sealed with AES-256-GCM under the server's master key, so that a copy of the database gives none away.
// Invariants: the key lies in a 0600 file beside the database, made at the first start; a sealed text that was changed, or
// moved to another place than it was sealed for, is refused.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';

const nonceBytes = 12;
const tagBytes = 16;
const keyBytes = 32;

export class Vault {
  readonly #key: Buffer;

  private constructor(key: Buffer) {
    this.#key = key;
  }

  static open(keyFile: string): Vault {
    const key = readKey(keyFile) ?? makeKey(keyFile);
    if (key.length !== keyBytes)
      throw new Error(`The master key ${keyFile} must hold ${keyBytes} bytes; restore it from a backup.`);
    return new Vault(key);
  }

  /** `place` names where the secret belongs (`package-indexes`, `run/w1/r7`): it opens only there. */
  seal(secret: string, place: string): string {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(Buffer.from(place));
    const sealed = Buffer.concat([nonce, cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return sealed.toString('base64');
  }

  unseal(sealed: string, place: string): string {
    const bytes = Buffer.from(sealed, 'base64');
    try {
      const nonce = bytes.subarray(0, nonceBytes);
      const options = { authTagLength: tagBytes };
      const decipher = createDecipheriv('aes-256-gcm', this.#key, nonce, options).setAAD(Buffer.from(place));
      decipher.setAuthTag(bytes.subarray(Math.max(nonceBytes, bytes.length - tagBytes)));
      const secret = [decipher.update(bytes.subarray(nonceBytes, -tagBytes)), decipher.final()];
      return Buffer.concat(secret).toString('utf8');
    } catch (error) {
      const why = 'it was changed, or sealed for another place or with another master key';
      throw new Error(`The sealed secret of ${place} cannot be opened: ${why}.`, { cause: error });
    }
  }
}

function readKey(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Written whole under another name first: a key cut short by a crash would lose every secret sealed with it. */
function makeKey(file: string): Buffer {
  const key = randomBytes(keyBytes);
  const partial = `${file}.new`;
  rmSync(partial, { force: true });
  const descriptor = openSync(partial, 'wx', 0o600);
  writeSync(descriptor, key);
  fsyncSync(descriptor);
  closeSync(descriptor);
  linkSync(partial, file);
  rmSync(partial);
  return key;
}
