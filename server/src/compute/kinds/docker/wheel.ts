// Our Python package, as entries of an archive that is unpacked in containers. Read once.
import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { fromBufferPromise } from 'yauzl';
import type { LayerEntry } from '../../../oci/layer-entry.ts';

let read: { path: string; entries: Promise<LayerEntry[]> } | undefined;

/** Below the folder. */
export async function packageEntries(wheel: string, folder: string): Promise<LayerEntry[]> {
  if (read?.path !== wheel) read = { path: wheel, entries: entriesOf(wheel) };
  return (await read.entries).map((entry) => ({ ...entry, path: `${folder}/${entry.path}` }));
}

async function entriesOf(wheel: string): Promise<LayerEntry[]> {
  const zip = await fromBufferPromise(await readFile(wheel), { lazyEntries: true });
  const entries: LayerEntry[] = [];
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName.endsWith('/')) continue;
    const bytes = await buffer(await zip.openReadStreamPromise(entry));
    entries.push({ path: entry.fileName, mode: 0o644, source: { bytes } });
  }
  return entries;
}
