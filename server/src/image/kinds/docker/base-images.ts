// Finds the base image that an image is built on: from a registry, from an archive, or (where no registry can be reached)
// made here of Debian's packages. The answer says which it was, and which Python it has.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Digest } from '../../../blob/bytes.ts';
import type { NetworkAccess } from '../../../environment/environments.ts';
import type { Credentials, OciImage, OciImages } from '../../../oci/oci-images.ts';
import { debianBase, debianBytes } from './debian-base.ts';
import { choosePython, type ImagePython, pythonsOf } from './image-pythons.ts';
import { readRecord, writeRecord } from './record-file.ts';

export type BaseSource =
  /** `python:<minor>-slim` from the registry that is set, or Debian's where none is, none can be reached or none has it. */
  | { from: 'default' }
  | { from: 'debian' }
  | { from: 'registry'; reference: string; credentials?: Credentials | undefined }
  /** An OCI layout, a docker-save archive or the tar of a root filesystem. */
  | { from: 'archive'; path: string; name?: string | undefined };

export interface BaseNeeds {
  oci: OciImages;
  /** Kept between servers and data folders; may be deleted at any time. */
  cacheDir: string;
  network: NetworkAccess;
  log: (line: string) => void;
  signal?: AbortSignal | undefined;
}

export interface BaseImage {
  image: OciImage;
  python: ImagePython;
  /** Of the base's own manifest, as it is stored here. */
  digest: Digest;
  /** For people: what it is and where it came from. */
  description: string;
}

export interface BaseWish {
  source: BaseSource;
  /** `3.11`; without it, the base's first one is taken. */
  python?: string | undefined;
  /** Take the nearest newer Python where the base does not have that one. */
  pythonFallback?: boolean | undefined;
  /** Ask the registry again for what it gave before, or make the base of Debian's packages anew. */
  refresh?: boolean | undefined;
}

export async function findBase(wish: BaseWish, needs: BaseNeeds): Promise<BaseImage> {
  const { source } = wish;
  if (source.from === 'default') return await findDefault(wish, needs);
  if (source.from === 'debian') return await finish(await takeDebian(wish, needs), wish, needs);
  if (source.from === 'registry') return await finish(await takeFromRegistry(source, wish, needs), wish, needs);
  const image = await needs.oci.import(source, needs);
  return await finish(
    { digest: (await needs.oci.writeImage(image)).digest, description: source.name ?? 'an archive' },
    wish,
    needs,
  );
}

interface Found {
  digest: Digest;
  description: string;
}

async function findDefault(wish: BaseWish, needs: BaseNeeds): Promise<BaseImage> {
  const source = { from: 'registry', reference: `python:${wish.python ?? '3.11'}-slim` } as const;
  const meanings = await needs.oci.meaningsOf(source.reference);
  // Another way to the registries is a reason to try them again.
  const record = recordFile(['without', needs.network, ...meanings], needs);
  const known = wish.refresh ? undefined : await knownBase(record, needs);
  if (known) return await finish(known, wish, needs);
  let why = `No registry is set that ${source.reference} could come from (stellwerk up --image-registry).`;
  try {
    if (meanings.length > 0) return await finish(await takeFromRegistry(source, wish, needs), wish, needs);
  } catch (error) {
    if (!(error instanceof ServiceError) || error.reason !== 'image.base-unavailable') throw error;
    why = error.message;
  }
  needs.log(`${why} Taking a base image made of Debian's packages instead.`);
  const withReason = (error: unknown) => {
    throw error instanceof ServiceError ? unavailable(`${why} ${error.message}`) : error;
  };
  const debian = await takeDebian(wish, needs).catch(withReason);
  const base = await finish(debian, wish, needs).catch(withReason);
  if (meanings.length > 0) await writeRecord(record, debian);
  return base;
}

function unavailable(message: string): ServiceError {
  return new ServiceError('failed-precondition', 'image.base-unavailable', message);
}

async function takeDebian({ refresh }: BaseWish, needs: BaseNeeds): Promise<Found> {
  const { digest, packages } = await debianBase({ ...needs, refresh });
  const found = { digest, description: `${packages.length} Debian packages` };
  if (await needs.oci.isComplete(digest)) return found;
  const image = await needs.oci.import({ from: 'bytes', bytes: debianBytes(needs.cacheDir), digest }, needs);
  return { ...found, digest: (await needs.oci.writeImage(image)).digest };
}

async function takeFromRegistry(
  source: Extract<BaseSource, { from: 'registry' }>,
  { refresh }: Pick<BaseWish, 'refresh'>,
  needs: BaseNeeds,
): Promise<Found> {
  const record = recordFile([source.reference, ...(await needs.oci.meaningsOf(source.reference))], needs);
  // Whoever gives credentials may have other rights than whoever came before.
  const known = refresh || source.credentials ? undefined : await knownBase(record, needs);
  if (known) return known;
  needs.log(`Fetching the base image ${source.reference}.`);
  const image = await needs.oci.import(source, needs);
  const found = { digest: (await needs.oci.writeImage(image)).digest, description: source.reference };
  if (!source.credentials) await writeRecord(record, found);
  return found;
}

async function finish(
  { digest, description }: Found,
  wish: Omit<BaseWish, 'source'>,
  needs: BaseNeeds,
): Promise<BaseImage> {
  const image = await needs.oci.readImage(digest);
  const pythons = await pythonsIn(digest, image, needs);
  const python = choosePython(pythons, wish);
  if (python) return { image, python, digest, description };
  const has = pythons.length === 0 ? 'has no Python 3' : `has Python ${pythons.map(({ minor }) => minor).join(', ')}`;
  const wanted = wish.python === undefined ? 'one is needed' : `Python ${wish.python} is needed`;
  const message = `The base image (${description}) ${has}, but ${wanted}.`;
  throw new ServiceError('failed-precondition', 'image.base-invalid', message);
}

/** Looking through a whole file tree takes a moment, and its answer never changes. */
async function pythonsIn(digest: Digest, image: OciImage, needs: BaseNeeds): Promise<ImagePython[]> {
  const record = join(needs.cacheDir, 'bases', `pythons-${digest.replace(':', '-')}.json`);
  const known = await readRecord<ImagePython[]>(record);
  if (known) return known;
  const pythons = pythonsOf(await needs.oci.filesOf(image, needs.signal), image.config.env.PATH);
  await writeRecord(record, pythons);
  return pythons;
}

/** What a name in a registry stood for when it was last asked for, so that builds do not depend on the network. */
function recordFile(asked: readonly unknown[], { cacheDir }: BaseNeeds): string {
  const key = createHash('sha256').update(JSON.stringify(asked)).digest('hex').slice(0, 32);
  return join(cacheDir, 'bases', `${key}.json`);
}

async function knownBase(file: string, { oci }: BaseNeeds): Promise<Found | undefined> {
  const found = await readRecord<Found>(file);
  return found && (await oci.isComplete(found.digest)) ? found : undefined;
}
