// Who is signed in where: a file that belongs to its user alone (0600) and is shared with the Python SDK:
// `{"servers": {"<url>": {"token": "…", "caBundle": "<path>"}}, "current": "<url>"}`.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CommandFailed } from './failures.ts';
import { surroundings } from './surroundings.ts';

export interface SignedInTo {
  token?: string;
  /** The path of a file with certificates (PEM). */
  caBundle?: string;
}

export interface Kept {
  servers: Record<string, SignedInTo>;
  current?: string;
}

export const credentialsFile = () => join(surroundings.configFolder, 'credentials.json');
export const plainUrl = (url: string) => url.trim().replace(/\/+$/, '');

export function readCredentials(): Kept {
  let text: string;
  try {
    text = readFileSync(credentialsFile(), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { servers: {} };
    throw error;
  }
  try {
    const kept = JSON.parse(text) as Partial<Kept>;
    return { ...kept, servers: kept.servers ?? {} };
  } catch {
    throw new CommandFailed(
      `${credentialsFile()} is not readable.`,
      'Remove it and sign in again with `stellwerk login`.',
    );
  }
}

export function keepSignIn(url: string, entry: SignedInTo): void {
  const kept = readCredentials();
  const plain = plainUrl(url);
  write({ ...kept, servers: { ...kept.servers, [plain]: entry }, current: plain });
}

/** False if the server was not known. */
export function forgetSignIn(url: string): boolean {
  const { current, servers, ...rest } = readCredentials();
  const { [plainUrl(url)]: forgotten, ...others } = servers;
  write({ ...rest, servers: others, ...(current && current !== plainUrl(url) ? { current } : {}) });
  return forgotten !== undefined;
}

function write(kept: Kept): void {
  const file = credentialsFile();
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}`;
  writeFileSync(fresh, `${JSON.stringify(kept, null, 2)}\n`, { mode: 0o600 });
  renameSync(fresh, file);
}
