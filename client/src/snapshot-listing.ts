// The files of a script's folder as they are submitted: ignore files obeyed, links inside followed, links outside refused.
// Invariant: the listing, and so the digest, depends on names, contents and the executable bit alone.
import { existsSync, readdirSync, realpathSync, type Stats, statSync } from 'node:fs';
import { join, resolve, sep } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath, legible } from '@stellwerk/contract/paths.ts';
import { lineOfListing, type SnapshotFile } from '@stellwerk/contract/snapshot.ts';
import { limits } from '@stellwerk/contract/values.ts';
import { HashCache, hashBytes } from './file-hash.ts';
import { alwaysLeftOut, IgnoreFiles } from './ignore-files.ts';

export interface ListingOptions {
  /** The most that the files may have together; 300 MB unless given. */
  limitBytes?: number | undefined;
  cacheFolder?: string | undefined;
  signal?: AbortSignal | undefined;
}

export interface SnapshotListing {
  digest: string;
  files: SnapshotFile[];
  sizeBytes: number;
}

export async function listSnapshot(folder: string, options: ListingOptions = {}): Promise<SnapshotListing> {
  const root = realpathSync(resolve(folder));
  const found = [...filesBelow(root, '', new IgnoreFiles(root), [root])];
  const sizeBytes = found.reduce((sum, { stats }) => sum + stats.size, 0);
  refuseTooMuch(folder, found, sizeBytes, options.limitBytes ?? limits.snapshotBytes);
  const cache = new HashCache(root, options.cacheFolder);
  const files: SnapshotFile[] = [];
  for (const { path, stats } of found) {
    const digest = await cache.digestOf(join(root, path), stats, options.signal);
    files.push({ path, digest, sizeBytes: stats.size, ...(stats.mode & 0o100 ? { executable: true } : {}) });
  }
  cache.save();
  const sorted = sortedByPath(files);
  return { digest: digestOfListing(sorted), files: sorted, sizeBytes };
}

function sortedByPath(files: SnapshotFile[]): SnapshotFile[] {
  const keyed = files.map((file) => ({ file, key: Buffer.from(file.path) }));
  return keyed.sort((a, b) => Buffer.compare(a.key, b.key)).map(({ file }) => file);
}

/** As contract/src/snapshot.ts defines it. */
export function digestOfListing(files: readonly SnapshotFile[]): string {
  return hashBytes(files.map(lineOfListing).join(''));
}

interface Found {
  path: string;
  stats: Stats;
}

function* filesBelow(root: string, folder: string, outer: IgnoreFiles, above: readonly string[]): Generator<Found> {
  const ignored = outer.entering(folder);
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    if (alwaysLeftOut.has(entry.name)) continue;
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    const real = entry.isSymbolicLink() ? linkTarget(root, path) : join(root, path);
    if (entry.name.includes('\ufffd') && !existsSync(join(root, path))) throw refused(path, 'its name is not UTF-8');
    if (entry.isSymbolicLink() && ignored.leavesOut(path, false)) continue;
    const stats = real === undefined ? undefined : statSync(real);
    if (ignored.leavesOut(path, stats?.isDirectory() ?? false)) continue;
    if (real === undefined || stats === undefined) throw refused(path, 'it is a link to what does not exist');
    if (real !== root && !real.startsWith(root + sep)) throw refused(path, 'it is a link to outside of the folder');
    if (stats.isDirectory()) {
      if (above.includes(real)) throw refused(path, 'it is a link to a folder that it lies in');
      yield* filesBelow(root, path, ignored, [...above, real]);
    } else if (stats.isFile()) {
      checkPath(path);
      yield { path, stats };
    } // sockets, pipes and devices hold nothing that could be submitted
  }
}

function linkTarget(root: string, path: string): string | undefined {
  try {
    return realpathSync(join(root, path));
  } catch {
    return undefined;
  }
}

function refused(path: string, why: string): ServiceError {
  return new ServiceError(
    'invalid-argument',
    'path.invalid',
    `${JSON.stringify(path)} cannot be submitted: ${why}. Leave it out with .amlignore or .gitignore, or put the file there.`,
  );
}

function refuseTooMuch(folder: string, found: Found[], sizeBytes: number, limitBytes: number): void {
  if (found.length > limits.snapshotFiles)
    throw new ServiceError(
      'too-large',
      'snapshot.too-large',
      `The folder ${folder} has ${found.length} files; a snapshot may have ${limits.snapshotFiles}.`,
    );
  if (sizeBytes <= limitBytes) return;
  const largest = found
    .toSorted((a, b) => b.stats.size - a.stats.size)
    .slice(0, 5)
    .map(({ path, stats }) => `${legible(path)} (${megabytes(stats.size)})`);
  throw new ServiceError(
    'too-large',
    'snapshot.too-large',
    `The folder ${folder} has ${megabytes(sizeBytes)}; a snapshot may have ${megabytes(limitBytes)}. The largest files: ${largest.join(', ')}.`,
  );
}

const megabytes = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MB`;
