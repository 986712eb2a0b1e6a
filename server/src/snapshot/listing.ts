// What a snapshot is: its listing as text, whose SHA-256 is the snapshot's digest. The text is kept as a content under that digest.
// Invariant: a listing can be laid out as files on any system: no path twice, not even in other letter case, and none below a file.
import { createHash } from 'node:crypto';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath } from '@stellwerk/contract/paths.ts';
import { lineOfListing, type SnapshotFile } from '@stellwerk/contract/snapshot.ts';
import type { Digest } from '../blob/bytes.ts';

export interface Listing {
  digest: Digest;
  text: Buffer;
  files: readonly SnapshotFile[];
  sizeBytes: number;
}

export function listingOf(given: readonly SnapshotFile[]): Listing {
  const files = inOrder(given);
  checkTogether(files);
  let text = '';
  let sizeBytes = 0;
  for (const file of files) {
    text += lineOfListing(file);
    sizeBytes += file.sizeBytes;
  }
  const bytes = Buffer.from(text);
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, text: bytes, files, sizeBytes };
}

/** Reads what `listingOf` wrote. */
export function parseListing(text: string): SnapshotFile[] {
  return text.split('\n').slice(0, -1).map(parseLine);
}

function parseLine(line: string): SnapshotFile {
  const [digest, size, mark] = line.split(' ', 3) as [string, string, string];
  const path = line.slice(digest.length + size.length + mark.length + 3).replaceAll('\\n', '\n');
  return { path, digest, sizeBytes: Number(size), ...(mark === 'x' && { executable: true }) };
}

/** One file of a listing: what is asked of a large one again and again. */
export function findInListing(text: string, path: string): SnapshotFile | undefined {
  const end = ` ${path.replaceAll('\n', '\\n')}\n`;
  for (let at = text.indexOf(end); at >= 0; at = text.indexOf(end, at + 1)) {
    const file = parseLine(text.slice(text.lastIndexOf('\n', at) + 1, at + end.length - 1));
    if (file.path === path) return file; // else the path of another file ends like this one
  }
  return undefined;
}

/** In the byte order of the paths in UTF-8. JavaScript's own order differs only beyond the Basic Multilingual Plane. */
function inOrder(files: readonly SnapshotFile[]): SnapshotFile[] {
  if (!files.some(({ path }) => /[\ud800-\udfff]/.test(path)))
    return files.toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const keyed = files.map((file) => ({ file, key: Buffer.from(file.path) }));
  return keyed.sort((a, b) => Buffer.compare(a.key, b.key)).map(({ file }) => file);
}

function checkTogether(files: readonly SnapshotFile[]): void {
  const names = new Map<string, SnapshotFile>();
  const sizes = new Map<string, number>();
  for (const file of files) {
    const name = folded(checkPath(file.path));
    const other = names.get(name);
    if (other?.path === file.path) throw refused(file.path, 'it is listed twice');
    if (other) throw refused(file.path, `it differs from ${JSON.stringify(other.path)} only in the case of letters`);
    names.set(name, file);
    if ((sizes.get(file.digest) ?? file.sizeBytes) !== file.sizeBytes)
      throw refused(file.path, 'another file has the same digest and another size');
    sizes.set(file.digest, file.sizeBytes);
  }
  const folders = new Set<string>();
  for (const name of names.keys()) {
    for (let end = name.lastIndexOf('/'); end > 0; end = name.lastIndexOf('/', end - 1)) {
      const folder = name.slice(0, end);
      if (folders.has(folder)) break;
      folders.add(folder);
      const file = names.get(folder);
      if (file) throw refused(file.path, `it is a file, and ${JSON.stringify(names.get(name)!.path)} lies below it`);
    }
  }
}

/** What systems that ignore case and composition take for the same name. */
function folded(path: string): string {
  return path.normalize('NFC').toLowerCase();
}

function refused(path: string, why: string): ServiceError {
  return new ServiceError(
    'invalid-argument',
    'path.invalid',
    `The path ${JSON.stringify(path.slice(0, 200))} cannot be in the snapshot: ${why}.`,
  );
}
