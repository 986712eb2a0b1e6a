// Submits a script's folder: announces its listing and brings only the contents that the workspace does not have yet.
import { join } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { SnapshotFile } from '@stellwerk/contract/snapshot.ts';
import yazl from 'yazl';
import type { Client } from './client.ts';
import { type ListingOptions, listSnapshot, type SnapshotListing } from './snapshot-listing.ts';
import { type Progress, uploadFile } from './uploads.ts';

/** Contents go up in archives of about this size, so that a cut connection costs little; what is larger goes up on its own, in parts. */
const archiveBytes = 16 * 1024 * 1024;

export interface SnapshotOptions extends ListingOptions {
  onProgress?: Progress | undefined;
}

/** Gives the listing; its digest is what `runs.submit` takes. Nothing is sent for a folder that the workspace has already. */
export async function uploadSnapshot(
  client: Client,
  workspace: string,
  folder: string,
  options: SnapshotOptions = {},
): Promise<SnapshotListing> {
  const listing = await listSnapshot(folder, options);
  const { signal } = options;
  if (await isKnown(client, workspace, listing, signal)) return listing;
  const announced = await client.snapshots.create({ workspace, files: listing.files }, { signal });
  const missing = filesOf(listing, announced.missing ?? []);
  if (missing.length === 0) return listing;
  await bring(client, { workspace, folder, snapshot: listing.digest }, missing, options).catch((error: unknown) => {
    throw error instanceof ServiceError && error.reason === 'blob.digest-mismatch' ? changed(folder) : error;
  });
  const now = await client.snapshots.create({ workspace, files: listing.files }, { signal });
  if (now.missing?.length) throw changed(folder);
  return listing;
}

interface Place {
  workspace: string;
  folder: string;
  snapshot: string;
}

async function bring(
  client: Client,
  { workspace, folder, snapshot }: Place,
  missing: readonly SnapshotFile[],
  { onProgress, signal }: SnapshotOptions,
): Promise<void> {
  const totalBytes = sizeOf(missing);
  let doneBytes = 0;
  const [large, small] = [true, false].map((isLarge) =>
    missing.filter((file) => file.sizeBytes > archiveBytes === isLarge),
  ) as [SnapshotFile[], SnapshotFile[]];
  for (const file of large) {
    const before = doneBytes;
    await uploadFile(client, workspace, join(folder, file.path), {
      digest: file.digest,
      signal,
      onProgress: (progress) => onProgress?.({ doneBytes: before + progress.doneBytes, totalBytes }),
    });
    doneBytes += file.sizeBytes;
  }
  for (const batch of batches(small)) {
    await client.snapshots.addFiles({ workspace, snapshot }, await archiveOf(folder, batch), { signal });
    doneBytes += sizeOf(batch);
    onProgress?.({ doneBytes, totalBytes });
  }
}

const sizeOf = (files: readonly SnapshotFile[]) => files.reduce((sum, file) => sum + file.sizeBytes, 0);

/** Asked first, so that of an unchanged folder not even the listing is sent. */
async function isKnown(client: Client, workspace: string, { digest }: SnapshotListing, signal?: AbortSignal) {
  try {
    return (await client.snapshots.get({ workspace, snapshot: digest }, { signal })).complete;
  } catch (error) {
    if (error instanceof ServiceError && error.reason === 'snapshot.not-found') return false;
    throw error;
  }
}

const changed = (folder: string) =>
  new ServiceError(
    'conflict',
    'snapshot.incomplete',
    `The folder ${folder} changed while it was submitted; submit it again.`,
  );

/** One file for each content that is missing. */
function filesOf(listing: SnapshotListing, missing: readonly string[]): SnapshotFile[] {
  const byDigest = new Map(listing.files.map((file) => [file.digest, file]));
  return missing.map((digest) => byDigest.get(digest)).filter((file) => file !== undefined);
}

function* batches(files: readonly SnapshotFile[]): Generator<SnapshotFile[]> {
  let batch: SnapshotFile[] = [];
  let size = 0;
  for (const file of files) {
    if (batch.length > 0 && size + file.sizeBytes > archiveBytes) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(file);
    size += file.sizeBytes;
  }
  if (batch.length > 0) yield batch;
}

async function archiveOf(folder: string, files: readonly SnapshotFile[]): Promise<Uint8Array<ArrayBuffer>> {
  const zip = new yazl.ZipFile();
  const failed = new Promise<never>((_, reject) => {
    (zip as unknown as NodeJS.EventEmitter).on('error', reject);
  });
  for (const file of files) zip.addFile(join(folder, file.path), file.path);
  zip.end();
  const read = async () => {
    const chunks: Buffer[] = [];
    for await (const chunk of zip.outputStream) chunks.push(chunk as Buffer);
    return new Uint8Array(Buffer.concat(chunks));
  };
  return await Promise.race([read(), failed]);
}
