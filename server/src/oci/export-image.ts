// Hands out a stored image as one archive: an OCI layout, or what `docker load` takes. Same image and name, same bytes.
import type { Readable } from 'node:stream';
import { pipeline, Readable as Streams } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { Bytes, Digest } from '../blob/bytes.ts';
import { hexOf } from './digest.ts';
import type { LayerEntry } from './layer-entry.ts';
import { type ImageParts, mediaTypes } from './manifest.ts';
import { writeTar } from './tar-write.ts';

export interface ExportOptions {
  format: 'oci' | 'docker';
  /** `name:tag`, under which a loaded image appears. */
  name?: string | undefined;
  gzip?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

export async function exportImage(bytes: Bytes, parts: ImageParts, options: ExportOptions): Promise<Readable> {
  const entries =
    options.format === 'oci'
      ? await layoutEntries(bytes, parts, options.name)
      : dockerEntries(bytes, parts, options.name);
  const tar = Streams.from(writeTar(entries, options.signal), { objectMode: false, highWaterMark: 1024 * 1024 });
  if (!options.gzip) return tar;
  const gzip = createGzip({ chunkSize: 256 * 1024 });
  pipeline(tar, gzip, () => {}); // a failure of the one destroys the other, and the reader of `gzip` gets it
  return gzip;
}

async function layoutEntries(bytes: Bytes, parts: ImageParts, name: string | undefined): Promise<LayerEntry[]> {
  const manifest = {
    mediaType: mediaTypes.manifest,
    digest: parts.manifest,
    size: await bytes.sizeOf(parts.manifest),
    ...(name
      ? { annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': tagOf(name) } }
      : {}),
  };
  const blobs = new Set([parts.manifest, parts.config, ...parts.layers]);
  return [
    json('oci-layout', { imageLayoutVersion: '1.0.0' }),
    json('index.json', { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [manifest] }),
    ...[...blobs].map((digest) => stored(bytes, `blobs/sha256/${hexOf(digest)}`, digest)),
  ];
}

function dockerEntries(bytes: Bytes, parts: ImageParts, name: string | undefined): LayerEntry[] {
  const layers = new Set(parts.layers);
  const entry = {
    Config: `${hexOf(parts.config)}.json`,
    RepoTags: name ? [name] : [],
    Layers: parts.layers.map((digest) => `${hexOf(digest)}.tar`),
  };
  return [
    json('manifest.json', [entry]),
    stored(bytes, entry.Config, parts.config),
    ...[...layers].map((digest) => stored(bytes, `${hexOf(digest)}.tar`, digest)),
  ];
}

function json(path: string, value: unknown): LayerEntry {
  return { path, mode: 0o644, source: { bytes: Buffer.from(JSON.stringify(value)) } };
}

function stored(bytes: Bytes, path: string, digest: Digest): LayerEntry {
  return { path, mode: 0o644, source: { file: bytes.path(digest) } };
}

function tagOf(name: string): string {
  const colon = name.lastIndexOf(':');
  return colon > name.lastIndexOf('/') ? name.slice(colon + 1) : 'latest';
}
