// What an image says about itself: its layers and how it is run, as the two JSON documents of OCI.
// Invariants: the same image always makes the same bytes (fixed order and times); layers are uncompressed, so a layer's
// digest is also its diff id; nothing but what the caller gave gets in, so no secret of a build can.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { parseJson } from '@stellwerk/contract/json-shape.ts';
import * as z from 'zod';
import type { Bytes, Digest } from '../blob/bytes.ts';
import { digestOf, isDigest } from './digest.ts';

export const mediaTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
} as const;

/** The times of everything that we make. */
const epoch = '1970-01-01T00:00:00Z';
/** Manifests and configurations are kept in memory. */
export const documentLimitBytes = 4 * 1024 * 1024;
const layerLimit = 500;

export interface Platform {
  os: string;
  /** In Go's words: `amd64`, `arm64`. */
  architecture: string;
  variant?: string | undefined;
}

export interface ImageLayer {
  digest: Digest;
  sizeBytes: number;
  /** What the layer is, for the image's history: `base`, `environment`, `model diabetes:2`. */
  note: string;
}

/** How a container of the image is started. */
export interface ImageConfig {
  env: Record<string, string>;
  entrypoint: string[];
  command: string[];
  workingDir: string;
  user: string;
  labels: Record<string, string>;
  /** `5001/tcp` */
  exposedPorts: string[];
}

export interface OciImage {
  platform: Platform;
  layers: ImageLayer[];
  config: ImageConfig;
}

export const plainConfig: ImageConfig = {
  env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
  entrypoint: [],
  command: [],
  workingDir: '/',
  user: '',
  labels: {},
  exposedPorts: [],
};

/** Stores an image's configuration and manifest. All its layers must be stored already. */
export async function writeImage(bytes: Bytes, image: OciImage): Promise<{ digest: Digest; sizeBytes: number }> {
  const there = await Promise.all(image.layers.map((layer) => bytes.has(layer.digest)));
  const missing = image.layers[there.indexOf(false)];
  if (missing) throw new Error(`The layer ${missing.digest} (${missing.note}) is not stored.`);
  const config = Buffer.from(JSON.stringify(configDocument(image)));
  const manifest = Buffer.from(JSON.stringify(manifestDocument(image, config)));
  const [{ digest }] = await Promise.all([
    bytes.write(once(manifest), digestOf(manifest)),
    bytes.write(once(config), digestOf(config)),
  ]);
  const layerBytes = image.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  return { digest, sizeBytes: manifest.length + config.length + layerBytes };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function configDocument({ platform, layers, config }: OciImage) {
  return {
    created: epoch,
    architecture: platform.architecture,
    ...(platform.variant ? { variant: platform.variant } : {}),
    os: platform.os,
    config: {
      ...(config.user ? { User: config.user } : {}),
      ...(config.exposedPorts.length > 0
        ? { ExposedPorts: Object.fromEntries([...config.exposedPorts].sort().map((port) => [port, {}])) }
        : {}),
      Env: Object.entries(config.env)
        .map(([name, value]) => `${name}=${value}`)
        .sort(),
      ...(config.entrypoint.length > 0 ? { Entrypoint: config.entrypoint } : {}),
      ...(config.command.length > 0 ? { Cmd: config.command } : {}),
      WorkingDir: config.workingDir || '/',
      ...(Object.keys(config.labels).length > 0 ? { Labels: sortedRecord(config.labels) } : {}),
    },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.digest) },
    history: layers.map((layer) => ({ created: epoch, created_by: layer.note })),
  };
}

function sortedRecord(record: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function manifestDocument(image: OciImage, config: Buffer) {
  return {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: { mediaType: mediaTypes.config, digest: digestOf(config), size: config.length },
    layers: image.layers.map((layer) => ({ mediaType: mediaTypes.layer, digest: layer.digest, size: layer.sizeBytes })),
  };
}

const digest = z.custom<Digest>(isDigest, 'must be a SHA-256 digest');
const descriptor = z.object({
  mediaType: z.string().max(200).optional(),
  digest,
  size: z.int().min(0),
  urls: z.array(z.string()).optional(),
  annotations: z.record(z.string(), z.string()).nullish(),
  platform: z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() }).optional(),
});
export type Descriptor = z.infer<typeof descriptor>;

const manifestShape = z.object({
  schemaVersion: z.literal(2),
  config: descriptor,
  layers: z.array(descriptor).max(layerLimit),
});
const indexShape = z.object({ schemaVersion: z.literal(2), manifests: z.array(descriptor).max(1_000) });
const text = z.string().max(100_000);
const configShape = z.object({
  architecture: text.default(''),
  os: text.default('linux'),
  variant: text.optional(),
  config: z
    .object({
      User: text.nullish(),
      Env: z.array(text).max(10_000).nullish(),
      Entrypoint: z.array(text).nullish(),
      Cmd: z.array(text).nullish(),
      WorkingDir: text.nullish(),
      Labels: z.record(z.string(), text).nullish(),
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
    })
    .nullish(),
  rootfs: z.object({ diff_ids: z.array(digest).max(layerLimit) }),
  history: z.array(z.object({ created_by: text.optional(), empty_layer: z.boolean().optional() })).nullish(),
});

export type Manifest = z.infer<typeof manifestShape>;
export type ConfigDocument = z.infer<typeof configShape>;

export function invalidImage(message: string): ServiceError {
  return new ServiceError('invalid-argument', 'image.base-invalid', message);
}

function parse<T>(shape: z.ZodType<T>, document: Uint8Array, what: string): T {
  let value: unknown;
  try {
    value = parseJson(Buffer.from(document).toString('utf8'));
  } catch {
    throw invalidImage(`The image's ${what} is no JSON document.`);
  }
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalidImage(`The image's ${what} is not as OCI has it: ${z.prettifyError(parsed.error).slice(0, 300)}`);
}

/** A manifest, or the list of manifests of which each is for one platform. */
export function parseManifest(document: Uint8Array): Manifest | { manifests: Descriptor[] } {
  const parts = { manifests: z.unknown().optional(), layers: z.unknown().optional(), config: z.unknown().optional() };
  const value = parse(z.object(parts), document, 'manifest');
  // What one reader takes for an index and another for an image would be two images under one digest.
  if (value.manifests !== undefined && (value.layers ?? value.config) !== undefined) {
    throw invalidImage('The image calls itself an index and an image at once.');
  }
  return value.manifests === undefined
    ? parse(manifestShape, document, 'manifest')
    : parse(indexShape, document, 'index');
}

export function parseConfig(document: Uint8Array): ConfigDocument {
  return parse(configShape, document, 'configuration');
}

export function configOf(document: ConfigDocument): ImageConfig {
  const config = document.config ?? {};
  return {
    env: Object.fromEntries((config.Env ?? []).map(nameAndValue)),
    entrypoint: config.Entrypoint ?? [],
    command: config.Cmd ?? [],
    workingDir: config.WorkingDir || '/',
    user: config.User ?? '',
    labels: config.Labels ?? {},
    exposedPorts: Object.keys(config.ExposedPorts ?? {}),
  };
}

function nameAndValue(entry: string): [string, string] {
  const equals = entry.indexOf('=');
  return equals < 0 ? [entry, ''] : [entry.slice(0, equals), entry.slice(equals + 1)];
}

export function platformOf(document: ConfigDocument): Platform {
  const { os, architecture, variant } = document;
  return { os, architecture, ...(variant ? { variant } : {}) };
}

/** The manifest for a platform among those of an image index. */
export function choosePlatform(manifests: readonly Descriptor[], wanted: Platform): Descriptor {
  const fits = manifests.filter(
    ({ platform }) => platform?.os === wanted.os && platform.architecture === wanted.architecture,
  );
  const chosen = fits.find(({ platform }) => platform?.variant === wanted.variant) ?? fits[0];
  if (chosen) return chosen;
  const only = manifests.length === 1 && !manifests[0]?.platform ? manifests[0] : undefined;
  if (only) return only;
  const offered = manifests.flatMap(({ platform }) => (platform ? [`${platform.os}/${platform.architecture}`] : []));
  throw invalidImage(
    `The image is not made for ${wanted.os}/${wanted.architecture}; it offers ${offered.join(', ') || 'no platform'}.`,
  );
}

/** Reads a stored image back. Of an image index, the manifest for `wanted` is taken. */
export async function readImage(bytes: Bytes, digest: Digest, wanted: Platform): Promise<OciImage> {
  const manifest = parseManifest(await readDocument(bytes, digest));
  if ('manifests' in manifest) return await readImage(bytes, choosePlatform(manifest.manifests, wanted).digest, wanted);
  const document = parseConfig(await readDocument(bytes, manifest.config.digest));
  const notes = (document.history ?? []).filter((entry) => !entry.empty_layer);
  const layers = manifest.layers.map((layer, at) => ({
    digest: layer.digest,
    sizeBytes: layer.size,
    note: notes[at]?.created_by ?? '',
  }));
  return { platform: platformOf(document), layers, config: configOf(document) };
}

/** The digests of what an image consists of. */
export interface ImageParts {
  manifest: Digest;
  config: Digest;
  layers: readonly Digest[];
}

export async function readParts(bytes: Bytes, digest: Digest, wanted: Platform): Promise<ImageParts> {
  const manifest = parseManifest(await readDocument(bytes, digest));
  if ('manifests' in manifest) return await readParts(bytes, choosePlatform(manifest.manifests, wanted).digest, wanted);
  return { manifest: digest, config: manifest.config.digest, layers: manifest.layers.map((layer) => layer.digest) };
}

async function readDocument(bytes: Bytes, digest: Digest): Promise<Buffer> {
  if ((await bytes.sizeOf(digest)) > documentLimitBytes)
    throw invalidImage(`The document ${digest} of the image is larger than 4 MiB.`);
  const chunks: Buffer[] = [];
  for await (const chunk of bytes.read(digest)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
