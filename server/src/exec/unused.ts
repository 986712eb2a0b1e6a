// Folders in a cache that servers and runs of several users share: what was not used for long, and no process has to do with, goes.
import { lstat, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface Unused {
  /** Used later than this, in ms: stays. */
  before: number;
  /** Whether a process runs from it. */
  isInUse(path: string): boolean;
  dryRun: boolean;
}

export interface Removed {
  count: number;
  sizeBytes: number;
}

/** By the paths that the command lines, environments and mounts of all processes name. Asks once. */
export async function pathsInUse(): Promise<(path: string) => boolean> {
  const said: string[] = [];
  for (const pid of await readdir('/proc'))
    if (/^\d+$/.test(pid))
      for (const name of ['cmdline', 'environ', 'mountinfo'])
        said.push(await readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '')); // gone, or another user's
  const all = [...new Set(said)].join('\n');
  return (path) => all.includes(path);
}

/** The folders below one, each with a file in it that is touched whenever the folder is used. */
export async function removeUnused(folder: string, marker: string, unused: Unused): Promise<Removed> {
  const removed = { count: 0, sizeBytes: 0 };
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    const used = (await stat(join(path, marker)).catch(() => undefined))?.mtimeMs;
    if (name.startsWith('.') || used === undefined || used > unused.before || unused.isInUse(path)) continue;
    removed.count++;
    removed.sizeBytes += await sizeOfFolder(path);
    if (!unused.dryRun) await removeWhole(path);
  }
  return removed;
}

/** Nobody sees half of it. */
export async function removeWhole(path: string): Promise<void> {
  const going = join(dirname(path), `.going-${basename(path)}-${process.pid}`);
  await rename(path, going);
  await rm(going, { recursive: true, force: true });
}

/** What the disk gets back when it goes: files that lie elsewhere too are not counted. */
export async function sizeOfFolder(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const found = await lstat(join(entry.parentPath, entry.name)).catch(() => undefined);
    if (found?.nlink === 1) bytes += found.size;
  }
  return bytes;
}

export function together(all: readonly Removed[]): Removed {
  return all.reduce((a, b) => ({ count: a.count + b.count, sizeBytes: a.sizeBytes + b.sizeBytes }));
}
