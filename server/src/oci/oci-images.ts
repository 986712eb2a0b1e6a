// Container images without a container engine: makes layers and manifests, reads them back, takes in images from elsewhere,
// hands them out as archives, and unpacks them into root filesystems.
// Invariants: the same input makes the same bytes, bit for bit; every layer is stored uncompressed; whatever comes from
// elsewhere is checked against its digests and can neither leave the folder it is unpacked to nor grow without bound.
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Bytes, Digest } from '../blob/bytes.ts';
import type { Removed, Unused } from '../exec/unused.ts';
import { type ExportOptions, exportImage } from './export-image.ts';
import type { FileTree } from './file-tree.ts';
import { type ImageRoot, ImageRoots } from './image-roots.ts';
import { type Importing, importArchive, importStored } from './import-image.ts';
import type { LayerEntry } from './layer-entry.ts';
import { type ImageParts, type OciImage, type Platform, readImage, readParts, writeImage } from './manifest.ts';
import type { Outbound } from './outbound.ts';
import { pullImage } from './pull-image.ts';
import type { Credentials } from './registry-client.ts';
import { hasHost, placesOf } from './registry-reference.ts';
import { writeTar } from './tar-write.ts';
import { treeOf } from './unpack.ts';

export type { FileTree } from './file-tree.ts';
export type { ImageRoot } from './image-roots.ts';
export type { EntrySource, LayerEntry } from './layer-entry.ts';
export { LayoutBytes } from './layout-bytes.ts';
export type { ImageConfig, ImageLayer, OciImage, Platform } from './manifest.ts';
export { type Outbound, trustedCertificates } from './outbound.ts';
export type { Credentials } from './registry-client.ts';
export { isRegistry } from './registry-reference.ts';
export { searchRegistries } from './search-registries.ts';

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
  /** How registries are reached, as it is set now. */
  outbound: () => Outbound | Promise<Outbound>;
  /** Where a reference without a host is looked for: `host` or `host/path` each. */
  registries: () => readonly string[] | Promise<readonly string[]>;
}

/** Where an image from elsewhere is taken from. A path must be one that the caller may read. */
export type ForeignImage =
  | { from: 'registry'; reference: string; credentials?: Credentials | undefined }
  /** An OCI layout (folder or tar), a docker-save archive or the tar of a root filesystem; which of several images, by name. */
  | { from: 'archive'; path: string; name?: string | undefined }
  /** Another store, which may be trusted. */
  | { from: 'bytes'; bytes: Bytes; digest: Digest };

export interface Progress {
  log: (line: string) => void;
  signal?: AbortSignal | undefined;
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

  /** Whether an image and all its layers are stored. */
  async isComplete(digest: Digest): Promise<boolean> {
    const { bytes } = this.#needs;
    if (!(await bytes.has(digest))) return false;
    const { config, layers } = await this.partsOf(digest);
    const there = await Promise.all([config, ...layers].map((part) => bytes.has(part)));
    return there.every(Boolean);
  }

  async readImage(digest: Digest): Promise<OciImage> {
    return await readImage(this.#needs.bytes, digest, this.#needs.platform);
  }

  /** Takes in an image from elsewhere: its layers are stored, uncompressed and checked; the answer is what it becomes here. */
  async import(source: ForeignImage, { log, signal }: Progress): Promise<OciImage> {
    const { bytes, platform } = this.#needs;
    const importing = { bytes, platform, log, signal, workDir: join(this.#needs.cacheDir, 'passing') };
    const image = await this.#importForeign(source, importing);
    await this.filesOf(image, signal); // what cannot be unpacked is refused now, not when a service starts
    return image;
  }

  /** The whole file tree of an image, to look something up in. */
  async filesOf(image: OciImage, signal?: AbortSignal): Promise<FileTree> {
    const tars = image.layers.map((layer) => this.#needs.bytes.path(layer.digest));
    return await treeOf(tars, signal);
  }

  /** The digests of all that an image consists of: whoever keeps the image refers to these. */
  async partsOf(digest: Digest): Promise<ImageParts> {
    return await readParts(this.#needs.bytes, digest, this.#needs.platform);
  }

  /** The image as one archive. */
  async export(digest: Digest, options: ExportOptions): Promise<Readable> {
    return await exportImage(this.#needs.bytes, await this.partsOf(digest), options);
  }

  /** The unpacked root filesystem of an image, shared and to be mounted read-only. Unpacked at the first call, once. */
  async rootFor(digest: Digest, signal?: AbortSignal): Promise<ImageRoot> {
    return await this.#roots.rootFor(this.#needs.bytes, digest, () => this.readImage(digest), signal);
  }

  /** Deletes unpacked roots that were not used for long, but those of these images. */
  async sweepRoots(keep: readonly Digest[], unused: Unused): Promise<Removed> {
    return await this.#roots.sweep(keep, unused);
  }

  /** All that a reference may mean here, in full; nothing where it has no host and no registry is set. */
  async meaningsOf(reference: string): Promise<string[]> {
    const places = placesOf(reference, await this.#registriesFor(reference));
    return places.map(({ registry, repository, manifest }) => `${registry}/${repository} ${manifest}`);
  }

  /** A reference with a host needs nothing that could be set wrongly. */
  async #registriesFor(reference: string): Promise<readonly string[]> {
    return hasHost(reference) ? [] : await this.#needs.registries();
  }

  async #importForeign(source: ForeignImage, importing: Importing): Promise<OciImage> {
    switch (source.from) {
      case 'archive':
        return await importArchive(source.path, source.name, importing);
      case 'bytes': {
        const image = await readImage(source.bytes, source.digest, importing.platform);
        return await importStored(source.bytes, image, importing);
      }
      case 'registry': {
        const registries = await this.#registriesFor(source.reference);
        return await pullImage(source, registries, await this.#needs.outbound(), importing);
      }
    }
  }
}
