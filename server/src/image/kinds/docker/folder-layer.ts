// A folder of this machine as files of an image: which file is where, with plain permissions whatever the umask was.
import { createHash } from 'node:crypto';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerEntry } from '../../../oci/oci-images.ts';
import { keyOf, type LayerPlan } from './image-layers.ts';

/** All files, folders and links below a folder, with paths relative to it. Devices, pipes and sockets are left out. */
export async function folderEntries(dir: string, below = ''): Promise<LayerEntry[]> {
  const entries: LayerEntry[] = [];
  for (const name of await readdir(join(dir, below))) {
    const path = below === '' ? name : `${below}/${name}`;
    const file = join(dir, path);
    const stat = await lstat(file);
    if (stat.isSymbolicLink()) entries.push({ path, mode: 0o777, source: { symlink: await readlink(file) } });
    else if (stat.isFile()) entries.push({ path, mode: stat.mode & 0o100 ? 0o755 : 0o644, source: { file } });
    else if (stat.isDirectory()) {
      entries.push({ path, mode: 0o755, source: { directory: true } }, ...(await folderEntries(dir, path)));
    }
  }
  return entries;
}

/** A layer of a small folder, such as the scorer's own code, at a place in the image. Bytecode is left out. */
export async function folderLayer(note: string, dir: string, place: string): Promise<LayerPlan> {
  const found = (await folderEntries(dir)).filter(({ path }) => !/(^|\/)__pycache__(\/|$)/.test(path));
  const entries = found.map((entry) => ({ ...entry, path: `${place}/${entry.path}` }));
  entries.push({ path: place, mode: 0o755, source: { directory: true } });
  const contents = await Promise.all(entries.map(async (entry) => [entry.path, entry.mode, await contentOf(entry)]));
  contents.sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
  return { note, key: keyOf('folder', contents), entries: () => entries };
}

async function contentOf({ source }: LayerEntry): Promise<string> {
  if ('file' in source)
    return createHash('sha256')
      .update(await readFile(source.file))
      .digest('hex');
  return 'symlink' in source ? `to ${source.symlink}` : 'folder';
}
