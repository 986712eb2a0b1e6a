// Takes in an image that was made elsewhere. What comes out is an image of ours: layers uncompressed and checked against
// the digests that were promised, the configuration reduced to how a container is started, so that two who take in the
// same image get the same digest and nothing of how it was built (arguments, secrets in its history) comes along.
import type { Bytes, Digest } from '../blob/bytes.ts';
import { type ArchiveFiles, openArchive, readDocument, readDocumentIfThere } from './archive-files.ts';
import { decompressed, plainLimit, type UnpackedLimit } from './decompress.ts';
import { digestMismatch, digestOf, hexOf, isDigest, verified } from './digest.ts';
import { parseDockerManifest } from './docker-archive.ts';
import {
  choosePlatform,
  configOf,
  type Descriptor,
  type ImageLayer,
  invalidImage,
  type Manifest,
  type OciImage,
  type Platform,
  parseConfig,
  parseManifest,
  plainConfig,
  platformOf,
} from './manifest.ts';

/** Something that can be asked for the parts of one image by their digests, or by whatever names it has for them. */
export interface ImageSource {
  /** The bytes of a manifest or a configuration; checked by the caller. */
  document(what: 'manifest' | 'config', descriptor: Descriptor): Promise<Uint8Array>;
  layer(descriptor: Descriptor): AsyncIterable<Uint8Array>;
}

export interface Importing {
  bytes: Bytes;
  workDir: string;
  platform: Platform;
  log: (line: string) => void;
  signal?: AbortSignal | undefined;
  limit?: UnpackedLimit;
}

/** Resolves a manifest or an index to the image for the platform, and stores its layers. */
export async function importManifest(
  source: ImageSource,
  document: Uint8Array,
  importing: Importing,
  depth = 0,
): Promise<OciImage> {
  const manifest = parseManifest(document);
  if ('manifests' in manifest) {
    if (depth > 3) throw invalidImage('The image is an index of indexes of indexes.');
    const chosen = choosePlatform(manifest.manifests, importing.platform);
    return await importManifest(source, await checkedDocument(source, 'manifest', chosen), importing, depth + 1);
  }
  const config = parseConfig(await checkedDocument(source, 'config', manifest.config));
  checkPlatform(platformOf(config), importing.platform);
  const diffIds = config.rootfs.diff_ids;
  if (diffIds.length !== manifest.layers.length) {
    throw invalidImage(
      `The image has ${manifest.layers.length} layers, but its configuration speaks of ${diffIds.length}.`,
    );
  }
  const layers = await importLayers(source, manifest, diffIds, importing);
  return { platform: platformOf(config), layers, config: configOf(config) };
}

/** What a registry gives for a name; a name that is a digest must be that of the document. */
export async function importPinned(
  source: ImageSource,
  document: Uint8Array,
  name: string,
  importing: Importing,
): Promise<OciImage> {
  const found = digestOf(document);
  if (isDigest(name) && name !== found) throw digestMismatch(name, found);
  return await importManifest(source, document, importing);
}

async function checkedDocument(
  source: ImageSource,
  what: 'manifest' | 'config',
  descriptor: Descriptor,
): Promise<Uint8Array> {
  refuseForeign(descriptor);
  const document = await source.document(what, descriptor);
  const found = digestOf(document);
  if (found !== descriptor.digest) throw digestMismatch(descriptor.digest, found);
  return document;
}

function checkPlatform(found: Platform, wanted: Platform): void {
  if (found.os === wanted.os && (found.architecture === '' || found.architecture === wanted.architecture)) return;
  throw invalidImage(
    `The image is made for ${found.os}/${found.architecture}, where ${wanted.os}/${wanted.architecture} is needed.`,
  );
}

async function importLayers(
  source: ImageSource,
  manifest: Manifest,
  diffIds: Digest[],
  importing: Importing,
): Promise<ImageLayer[]> {
  const layers: ImageLayer[] = [];
  for (const [at, descriptor] of manifest.layers.entries()) {
    importing.signal?.throwIfAborted();
    refuseForeign(descriptor);
    const diffId = diffIds[at]!;
    if (await importing.bytes.has(diffId)) importing.log(`Layer ${at + 1} of ${diffIds.length} is there already.`);
    else {
      importing.log(`Fetching layer ${at + 1} of ${diffIds.length} (${descriptor.size.toLocaleString('en')} bytes).`);
      await importing.bytes.write(layerContent(source, descriptor, importing), diffId);
    }
    layers.push({ digest: diffId, sizeBytes: await importing.bytes.sizeOf(diffId), note: 'base' });
  }
  return layers;
}

function layerContent(source: ImageSource, descriptor: Descriptor, importing: Importing): AsyncIterable<Uint8Array> {
  const compressed = verified(bounded(source.layer(descriptor), descriptor, importing.signal), descriptor.digest);
  return decompressed(compressed, importing.limit ?? plainLimit);
}

async function* bounded(source: AsyncIterable<Uint8Array>, { size }: Descriptor, signal?: AbortSignal) {
  let read = 0;
  for await (const chunk of source) {
    signal?.throwIfAborted();
    read += chunk.length;
    if (read > size)
      throw invalidImage(
        `A layer of the image is longer than the ${size.toLocaleString('en')} bytes that were promised.`,
      );
    yield chunk;
  }
}

/** Layers that lie elsewhere than the image would have the server fetch whatever address the image names. */
function refuseForeign(descriptor: Descriptor): void {
  if ((descriptor.urls?.length ?? 0) > 0 || /foreign|nondistributable/.test(descriptor.mediaType ?? '')) {
    throw invalidImage('The image has layers that are kept elsewhere (foreign layers), which are not fetched.');
  }
}

/**
 * Whatever lies in a folder or a tar that may be compressed: an OCI layout, what `docker save` made, or (in a tar) a whole
 * root filesystem.
 */
export async function importArchive(path: string, name: string | undefined, importing: Importing): Promise<OciImage> {
  await using files = await openArchive(path, importing.workDir, importing.signal);
  const index = await readDocumentIfThere(files, 'index.json');
  const docker = await readDocumentIfThere(files, 'manifest.json');
  if (index && (await readDocumentIfThere(files, 'oci-layout')))
    return await importLayout(files, index, name, importing);
  if (docker) return await importDockerArchive(files, docker, name, importing);
  if (files.tar && files.hasFolder('usr')) return await importRootFilesystem(files.tar(), importing);
  throw invalidImage(
    'This is neither an OCI layout (no index.json), nor a docker-save archive (no manifest.json), nor the tar of a root filesystem (no usr/).',
  );
}

async function importLayout(
  files: ArchiveFiles,
  index: Buffer,
  name: string | undefined,
  importing: Importing,
): Promise<OciImage> {
  const parsed = parseManifest(index);
  if (!('manifests' in parsed)) throw invalidImage("The image's index.json lists no manifests.");
  const named = parsed.manifests.filter((manifest) => name === undefined || namesOf(manifest).includes(name));
  if (named.length === 0) {
    const names = parsed.manifests.flatMap(namesOf);
    throw invalidImage(
      `The archive has no image named "${name}"; it has ${names.join(', ') || 'images without names'}.`,
    );
  }
  const blob = (descriptor: Descriptor) => `blobs/sha256/${hexOf(descriptor.digest)}`;
  const source: ImageSource = {
    document: (_, descriptor) => readDocument(files, blob(descriptor)),
    layer: (descriptor) => files.read(blob(descriptor)),
  };
  const chosen = named.length === 1 ? named[0]! : choosePlatform(named, importing.platform);
  return await importManifest(source, await checkedDocument(source, 'manifest', chosen), importing);
}

function namesOf(manifest: Descriptor): string[] {
  const annotations = manifest.annotations ?? {};
  return ['org.opencontainers.image.ref.name', 'io.containerd.image.name'].flatMap((key) => annotations[key] ?? []);
}

async function importDockerArchive(
  files: ArchiveFiles,
  document: Buffer,
  name: string | undefined,
  importing: Importing,
): Promise<OciImage> {
  const entry = parseDockerManifest(document, name);
  const config = parseConfig(await readDocument(files, entry.config));
  checkPlatform(platformOf(config), importing.platform);
  const diffIds = config.rootfs.diff_ids;
  if (diffIds.length !== entry.layers.length)
    throw invalidImage('The docker-save archive and its configuration disagree on the layers.');
  const layers: ImageLayer[] = [];
  for (const [at, diffId] of diffIds.entries()) {
    const file = entry.layers[at]!;
    if ((await files.sizeOf(file)) === undefined) throw invalidImage(`The image's archive lacks the file "${file}".`);
    if (!(await importing.bytes.has(diffId))) {
      importing.log(`Reading layer ${at + 1} of ${diffIds.length}.`);
      await importing.bytes.write(decompressed(files.read(file), importing.limit ?? plainLimit), diffId);
    }
    layers.push({ digest: diffId, sizeBytes: await importing.bytes.sizeOf(diffId), note: 'base' });
  }
  return { platform: platformOf(config), layers, config: configOf(config) };
}

/** A tar of a whole root filesystem becomes an image of one layer, for the platform that was asked for. */
export async function importRootFilesystem(tar: AsyncIterable<Uint8Array>, importing: Importing): Promise<OciImage> {
  const layer = await importing.bytes.write(decompressed(tar, importing.limit ?? plainLimit));
  return { platform: importing.platform, layers: [{ ...layer, note: 'base' }], config: plainConfig };
}

/** Copies an image that another store holds. */
export async function importStored(from: Bytes, image: OciImage, importing: Importing): Promise<OciImage> {
  for (const { digest } of image.layers) {
    importing.signal?.throwIfAborted();
    if (!(await importing.bytes.has(digest))) await importing.bytes.write(from.read(digest), digest);
  }
  return image;
}
