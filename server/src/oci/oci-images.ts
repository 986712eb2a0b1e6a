// Container images without a container engine: makes layers and manifests, reads them back, takes in images from elsewhere,
// hands them out as archives, and unpacks them into root filesystems.
// Invariants: the same input makes the same bytes, bit for bit; every layer is stored uncompressed; whatever comes from
// elsewhere is checked against its digests and can neither leave the folder it is unpacked to nor grow without bound.
import type { Bytes, Digest } from '../blob/bytes.ts';
import { type ImageRoot, ImageRoots } from './image-roots.ts';
import type { LayerEntry } from './layer-entry.ts';
import { type OciImage, type Platform, readImage, writeImage } from './manifest.ts';
import { writeTar } from './tar-write.ts';

export type { ImageRoot } from './image-roots.ts';
export type { EntrySource, LayerEntry } from './layer-entry.ts';
export type { ImageConfig, ImageLayer, OciImage, Platform } from './manifest.ts';

export interface LayerDescriptor {
  digest: Digest;
  sizeBytes: number;
}

export interface OciNeeds {
  bytes: Bytes;
  /** For unpacked roots and for files in passing; may be deleted whenever nothing runs. */
  cacheDir: string;
  /** What images are chosen for where there is a choice. */
  platform: Platform;
}

export class OciImages {
  readonly #needs: OciNeeds;
  readonly #roots: ImageRoots;

  constructor(needs: OciNeeds) {
    this.#needs = needs;
    this.#roots = new ImageRoots(needs.cacheDir);
  }

  /** Stores these files as one layer. */
  async writeLayer(entries: Iterable<LayerEntry>, signal?: AbortSignal): Promise<LayerDescriptor> {
    return await this.#needs.bytes.write(writeTar(entries, signal));
  }

  async hasLayer(layer: LayerDescriptor): Promise<boolean> {
    return await this.#needs.bytes.has(layer.digest);
  }

  /** Stores the manifest of an image whose layers are stored; `sizeBytes` is that of all of it. */
  async writeImage(image: OciImage): Promise<{ digest: Digest; sizeBytes: number }> {
    return await writeImage(this.#needs.bytes, image);
  }

  async readImage(digest: Digest): Promise<OciImage> {
    return await readImage(this.#needs.bytes, digest, this.#needs.platform);
  }

  /** The unpacked root filesystem of an image, shared and to be mounted read-only. Unpacked at the first call, once. */
  async rootFor(digest: Digest, signal?: AbortSignal): Promise<ImageRoot> {
    return await this.#roots.rootFor(this.#needs.bytes, digest, () => this.readImage(digest), signal);
  }

  /** Deletes all unpacked roots but those of these images. */
  async keepOnlyRoots(digests: readonly Digest[]): Promise<void> {
    await this.#roots.keepOnly(digests);
  }
}
