// Where the master key comes from: a 0600 file beside the database, made at the first start; the environment; or a command that prints it,
// such as that of a key management service. It only ever seals data keys.
// Invariants: a key is on the disk before anything is sealed with it, and the one before stays until nothing is sealed with that any more.
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { output } from '../exec/programs.ts';
import { keyBytes } from './seal.ts';

export type MasterKeySource =
  | { from: 'file'; file: string }
  /** Base64; `previous` opens what was sealed before the key was changed. */
  | { from: 'environment'; key: string; previous?: string }
  /** Prints base64. */
  | { from: 'command'; command: string };

export class MasterKeyMissing extends Error {}

export interface MasterKey {
  key: Buffer;
  /** What else may open what is sealed: an interrupted change leaves two. */
  others: Buffer[];
  /** Made just now: nothing can be sealed with it yet. */
  isNew: boolean;
}

export async function readMasterKey(source: MasterKeySource): Promise<MasterKey> {
  switch (source.from) {
    case 'file': {
      const there = readKey(source.file);
      const next = readKey(nextOf(source.file));
      return { key: there ?? makeKey(source.file), others: next ? [next] : [], isNew: there === undefined };
    }
    case 'environment': {
      const previous =
        source.previous === undefined ? [] : [fromText(source.previous, 'STELLWERK_MASTER_KEY_PREVIOUS')];
      return { key: fromText(source.key, 'STELLWERK_MASTER_KEY'), others: previous, isNew: false };
    }
    case 'command':
      return { key: await printedBy(source.command), others: [], isNew: false };
  }
}

/** The key to change to: for a file a new one, which lies beside the old one until `settle`; else what the source says by now. */
export async function nextMasterKey(source: MasterKeySource): Promise<Buffer> {
  if (source.from === 'file') {
    rmSync(nextOf(source.file), { force: true });
    return makeKey(nextOf(source.file));
  }
  if (source.from === 'command') return printedBy(source.command);
  throw new MasterKeyMissing(
    'The master key is in the environment: start the server with the new one as STELLWERK_MASTER_KEY and the old one as STELLWERK_MASTER_KEY_PREVIOUS.',
  );
}

/** Nothing is sealed with another key any more. */
export function settleMasterKey(source: MasterKeySource, key: Buffer): void {
  if (source.from !== 'file') return;
  const next = nextOf(source.file);
  if (readKey(next)?.equals(key)) renameSync(next, source.file);
  else rmSync(next, { force: true });
}

const nextOf = (file: string) => `${file}.next`;

async function printedBy(command: string): Promise<Buffer> {
  const printed = await output({ command: 'sh', args: ['-c', command], cwd: '/', timeoutMs: 60_000 }).catch(() => {
    throw new MasterKeyMissing('The command of the master key failed.'); // what it printed may be the key
  });
  return fromText(printed.trim(), 'What the command of the master key prints');
}

function fromText(text: string, what: string): Buffer {
  const key = Buffer.from(text, 'base64');
  if (key.length === keyBytes) return key;
  throw new MasterKeyMissing(`${what} must be ${keyBytes} bytes in base64, such as \`openssl rand -base64 32\` makes.`);
}

function readKey(file: string): Buffer | undefined {
  let key: Buffer;
  try {
    key = readFileSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  if (key.length === keyBytes) return key;
  throw new MasterKeyMissing(`The master key ${file} must hold ${keyBytes} bytes; restore it from a backup.`);
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
