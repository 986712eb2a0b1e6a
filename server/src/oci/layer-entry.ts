// One file, folder or link of a layer before it is bytes, and the rules that every such path obeys.
import { ServiceError } from '@stellwerk/contract/errors.ts';

export type EntrySource =
  /** A regular file of this machine, read once while the layer is written; a symbolic link is refused. */
  { file: string } | { bytes: Uint8Array } | { symlink: string } | { directory: true };

export interface LayerEntry {
  /** Where it lies in the image: relative to `/`, without a leading or trailing slash, `/` between the parts. */
  path: string;
  /** Permission bits. Set-user-id and set-group-id are dropped. */
  mode: number;
  source: EntrySource;
}

/** What an archive or a layer must not hold. */
export function refused(message: string): ServiceError {
  return new ServiceError('invalid-argument', 'archive.invalid', message);
}

/** Longest path that Linux takes. */
const pathLimit = 4095;
const nameLimit = 255;

/** Refuses what could leave the image's root or cannot be a path of Linux. */
export function checkPath(path: string): void {
  const flaw = (why: string) => refused(`The path ${JSON.stringify(path.slice(0, 200))} ${why}.`);
  if (path === '') throw flaw('is empty');
  if (path.startsWith('/')) throw flaw('is absolute, where one relative to the root of the image is needed');
  if (path.includes('\0')) throw flaw('contains a NUL character');
  if (!path.isWellFormed()) throw flaw('is no well-formed text');
  if (Buffer.byteLength(path) > pathLimit) throw flaw(`is longer than ${pathLimit} bytes`);
  for (const part of path.split('/')) {
    if (part === '' || part === '.' || part === '..') throw flaw(`has the part "${part}"`);
    if (part.length > nameLimit / 4 && Buffer.byteLength(part) > nameLimit) {
      throw flaw(`has a part longer than ${nameLimit} bytes`);
    }
  }
}

/** In the order of their paths' bytes, so that the same set of entries always makes the same layer. */
export function sorted(entries: Iterable<LayerEntry>): LayerEntry[] {
  const all = [...entries];
  const keys = new Map(all.map((entry) => [entry, Buffer.from(entry.path)]));
  all.sort((a, b) => Buffer.compare(keys.get(a)!, keys.get(b)!));
  for (const [at, entry] of all.entries()) {
    checkPath(entry.path);
    if (all[at - 1]?.path === entry.path) throw refused(`The path "${entry.path}" is in the layer twice.`);
  }
  return all;
}
