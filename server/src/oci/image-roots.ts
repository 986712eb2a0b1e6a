// Root filesystems of images, unpacked once each below one cache folder and shared by all who run something from them.
// Invariants: a root that has its final name is complete; two who ask at once get one unpacking; the folder can be deleted
// whenever nothing runs from it. Files are shared between roots: mount them read-only.
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bytes, Digest } from '../blob/bytes.ts';
import { type Removed, removeWhole, sizeOfFolder, type Unused } from '../exec/unused.ts';
import { hexOf } from './digest.ts';
import type { ImageConfig, OciImage } from './manifest.ts';
import { exists, publish, unpackLayers } from './unpack.ts';

export interface ImageRoot {
  /** The folder that is `/` in the image. */
  path: string;
  config: ImageConfig;
}

interface RootRecord {
  layers: Digest[];
  config: ImageConfig;
}

const sizeLimitBytes = 200 * 1024 ** 3;
/** By the root's folder, for all who share this process. */
const unpacking = new Map<string, Promise<void>>();

export class ImageRoots {
  readonly #dir: string;

  constructor(cacheDir: string) {
    this.#dir = cacheDir;
  }

  async rootFor(bytes: Bytes, digest: Digest, read: () => Promise<OciImage>, signal?: AbortSignal): Promise<ImageRoot> {
    const dir = join(this.#dir, 'roots', hexOf(digest));
    while (!(await exists(dir))) {
      const running = unpacking.get(dir);
      if (running)
        await endOrAbort(running, signal); // its failure, or its cancellation, is not ours
      else await this.#start(dir, bytes, read, signal);
    }
    signal?.throwIfAborted();
    const { config } = await recordOf(dir);
    const now = new Date();
    await utimes(join(dir, 'image.json'), now, now); // it is in use
    return { path: join(dir, 'root'), config };
  }

  async #start(dir: string, bytes: Bytes, read: () => Promise<OciImage>, signal?: AbortSignal): Promise<void> {
    const work = this.#unpack(dir, bytes, read, signal).finally(() => unpacking.delete(dir));
    unpacking.set(dir, work);
    await work;
  }

  async #unpack(dir: string, bytes: Bytes, read: () => Promise<OciImage>, signal?: AbortSignal): Promise<void> {
    const image = await read();
    await mkdir(join(this.#dir, 'roots'), { recursive: true });
    const partial = await mkdtemp(join(this.#dir, 'roots', '.partial-'));
    await chmod(partial, 0o755); // a replica is another user, who has to get in
    try {
      await mkdir(join(partial, 'root'));
      const layers = image.layers.map(({ digest }) => ({ name: hexOf(digest), tar: bytes.path(digest) }));
      await unpackLayers(layers, join(partial, 'root'), {
        layersDir: join(this.#dir, 'layers'),
        sizeLimitBytes,
        signal,
      });
      const record: RootRecord = { layers: image.layers.map((layer) => layer.digest), config: image.config };
      await writeFile(join(partial, 'image.json'), JSON.stringify(record));
      await publish(partial, dir);
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
  }

  /**
   * Deletes roots that were not used for long, but those of these images and those that a process runs from; then the files of layers that
   * no root has any more, and what a killed process left half done. Nothing is deleted while something is being unpacked: the next time will do.
   */
  async sweep(keep: readonly Digest[], unused: Unused): Promise<Removed> {
    const removed = { count: 0, sizeBytes: 0 };
    if ([...unpacking.keys()].some((dir) => dir.startsWith(join(this.#dir, 'roots')))) return removed;
    const roots = join(this.#dir, 'roots');
    const layers = join(this.#dir, 'layers');
    const kept = new Set(keep.map(hexOf));
    const keptLayers = new Set<string>();
    const remove = async (path: string) => {
      removed.count++;
      removed.sizeBytes += await sizeOfFolder(path);
      if (!unused.dryRun) await removeWhole(path);
    };
    for (const name of await namesIn(roots)) {
      const path = join(roots, name);
      const isOld = (await usedAt(path)) <= unused.before;
      if (isOld && !kept.has(name) && !unused.isInUse(path)) await remove(path);
      else if (!name.startsWith('.')) for (const layer of (await recordOf(path)).layers) keptLayers.add(hexOf(layer));
    }
    for (const name of await namesIn(layers)) {
      const path = join(layers, name);
      if (!keptLayers.has(name) && (await usedAt(path)) <= unused.before) await remove(path);
    }
    return removed;
  }
}

/** What is half done counts from its beginning. */
async function usedAt(path: string): Promise<number> {
  const found = await stat(join(path, 'image.json')).catch(() => stat(path));
  return found.mtimeMs;
}

async function endOrAbort(work: Promise<void>, signal?: AbortSignal): Promise<void> {
  const aborted = new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }));
  await Promise.race([work.catch(() => {}), aborted]);
  signal?.throwIfAborted();
}

async function recordOf(dir: string): Promise<RootRecord> {
  return JSON.parse(await readFile(join(dir, 'image.json'), 'utf8')) as RootRecord;
}

async function namesIn(dir: string): Promise<string[]> {
  return await readdir(dir).catch(() => []);
}
