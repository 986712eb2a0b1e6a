// Where the machine's container programs look for an image whose name has no host: `unqualified-search-registries` of the
// first of these files that is there (as for those programs, a user's own file replaces the machine's).
import { readFile } from 'node:fs/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { parse } from 'smol-toml';
import * as z from 'zod';
import { isRegistry } from './registry-reference.ts';

const configuration = z.object({
  'unqualified-search-registries': z
    .array(z.string().refine(isRegistry, 'it must be a host, with a port or a path at most'))
    .default([]),
});

export async function searchRegistries(files: readonly string[]): Promise<string[]> {
  for (const file of files) {
    const text = await textOf(file);
    if (text !== undefined) return registriesIn(text, file);
  }
  return [];
}

function registriesIn(text: string, file: string): string[] {
  let content: unknown;
  try {
    content = parse(text);
  } catch (error) {
    throw unreadable(file, `is no TOML: ${(error as Error).message.split('\n')[0]}`);
  }
  const read = configuration.safeParse(content);
  if (read.success) return read.data['unqualified-search-registries'];
  const { path, message } = read.error.issues[0]!;
  throw unreadable(file, `has no list of registries in ${path.join('.')}: ${message}`);
}

async function textOf(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw unreadable(file, `cannot be read (${code})`);
  }
}

function unreadable(file: string, flaw: string): ServiceError {
  const message = `Where an image without a host comes from is not known: ${file} ${flaw}. Mend it, or set "stellwerk up --image-registry".`;
  return new ServiceError('failed-precondition', 'image.base-unavailable', message);
}
