// What a user-given path may be, wherever one is accepted: files of runs, snapshots, models, datastores and images.
// Control characters are allowed, line breaks too, for a script may write such names; NUL is not, for no file can have it.
import { ServiceError } from './errors.ts';
import { limits } from './values.ts';

/** Why a path is refused, or undefined. Nothing is decoded: a path with a per-cent sign names a file with a per-cent sign. */
export function flawOfPath(path: string): string | undefined {
  if (path === '') return 'it is empty';
  if (path.length > limits.pathLength) return `it is longer than ${limits.pathLength} characters`;
  if (path.startsWith('/')) return 'it is absolute';
  if (/^[a-z]:/i.test(path)) return 'it begins with a drive letter';
  if (path.includes('\\')) return 'it has a backslash';
  if (path.includes('\0')) return 'it has a NUL character';
  if (/[\ud800-\udfff]/.test(path.replace(/[\ud800-\udbff][\udc00-\udfff]/g, ''))) return 'it is not valid Unicode';
  for (const part of path.split('/')) {
    if (part === '') return 'it has an empty part';
    if (part === '.' || part === '..') return `it has the part \`${part}\``;
    if (new TextEncoder().encode(part).length > limits.pathPartBytes)
      return `it has a part longer than ${limits.pathPartBytes} bytes`;
  }
  return undefined;
}

export function checkPath(path: string): string {
  const flaw = flawOfPath(path);
  if (flaw)
    throw new ServiceError(
      'invalid-argument',
      'path.invalid',
      `The path ${JSON.stringify(path.slice(0, 200))} is not allowed: ${flaw}.`,
    );
  return path;
}

/** A path for eyes: what steers a terminal, breaks a line or turns the direction of the text is written out. */
export function legible(path: string): string {
  return path.replace(/[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu, (character) => {
    const short = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[character];
    return short ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
