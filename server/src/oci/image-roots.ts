// Root filesystems of images, unpacked once each below one cache folder and shared by all who run something from them.
// Invariants: a root that has its final name is complete; two who ask at once get one unpacking; the folder can be deleted
// whenever nothing runs from it. Files are shared between roots: mount them read-only.
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bytes, Digest } from '../blob/bytes.ts';
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
   * Deletes all roots but those of these images, the files of layers that no root has any more, and what a killed process left
   * half done. Nothing is deleted while something is being unpacked: the next time will do.
   */
  async keepOnly(digests: readonly Digest[]): Promise<void> {
    if ([...unpacking.keys()].some((dir) => dir.startsWith(join(this.#dir, 'roots')))) return;
    const roots = join(this.#dir, 'roots');
    const layers = join(this.#dir, 'layers');
    const keptLayers = new Set<string>();
    for (const name of await namesIn(roots)) {
      if (!digests.some((digest) => hexOf(digest) === name))
        await rm(join(roots, name), { recursive: true, force: true });
      else for (const digest of (await recordOf(join(roots, name))).layers) keptLayers.add(hexOf(digest));
    }
    for (const name of await namesIn(layers)) {
      if (!keptLayers.has(name)) await rm(join(layers, name), { recursive: true, force: true });
    }
  }
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
