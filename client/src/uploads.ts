// Brings files to the server by their content: nothing that is there already is sent again, and a cut upload goes on where it was.

import { readdirSync, statSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath } from '@stellwerk/contract/paths.ts';
import type { Client } from './client.ts';
import { hashBytes, hashFile } from './file-hash.ts';

export type Progress = (progress: { doneBytes: number; totalBytes: number }) => void;

export interface UploadOptions {
  /** If it is known already. */
  digest?: string | undefined;
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
}

export interface Uploaded {
  digest: string;
  sizeBytes: number;
}

const partBytes = 8 * 1024 * 1024;

/** Uploads a file, or bytes. The answer's digest is what `putFile`, `models.register` and `images.create` take. */
export async function uploadFile(
  client: Client,
  workspace: string,
  source: string | Uint8Array,
  options: UploadOptions = {},
): Promise<Uploaded> {
  if (typeof source !== 'string') {
    const digest = options.digest ?? hashBytes(source);
    await uploadParts(client, workspace, digest, source.length, options, async (offset, length) =>
      source.slice(offset, offset + length),
    );
    return { digest, sizeBytes: source.length };
  }
  const digest = options.digest ?? (await hashFile(source, options.signal));
  const { size } = await stat(source);
  await using file = await open(source, 'r');
  await uploadParts(client, workspace, digest, size, options, async (offset, length) => {
    const { bytesRead, buffer } = await file.read(new Uint8Array(length), 0, length, offset);
    if (bytesRead < length && offset + bytesRead < size)
      throw new ServiceError(
        'conflict',
        'blob.digest-mismatch',
        `The file ${source} became shorter while it was read.`,
      );
    return buffer.subarray(0, bytesRead);
  });
  return { digest, sizeBytes: size };
}

async function uploadParts(
  client: Client,
  workspace: string,
  digest: string,
  sizeBytes: number,
  { onProgress, signal }: UploadOptions,
  part: (offset: number, length: number) => Promise<Uint8Array>,
): Promise<void> {
  let state = await stateOf(client, workspace, digest, signal);
  while (!state.complete) {
    onProgress?.({ doneBytes: state.receivedBytes, totalBytes: sizeBytes });
    const offset = state.receivedBytes;
    const bytes = new Uint8Array(await part(offset, Math.min(partBytes, sizeBytes - offset)));
    try {
      state = await client.blobs.append({ workspace, digest, offset, sizeBytes }, bytes, { signal });
    } catch (error) {
      if (!(error instanceof ServiceError) || error.reason !== 'blob.offset') throw error;
      state = await stateOf(client, workspace, digest, signal); // a part arrived though its answer did not, or another uploads the same
    }
  }
  onProgress?.({ doneBytes: sizeBytes, totalBytes: sizeBytes });
}

async function stateOf(client: Client, workspace: string, digest: string, signal: AbortSignal | undefined) {
  try {
    return await client.blobs.get({ workspace, digest }, { signal });
  } catch (error) {
    if (error instanceof ServiceError && error.reason === 'blob.not-found')
      return { complete: false, receivedBytes: 0 };
    throw error;
  }
}

export interface LocalFile {
  /** On this machine. */
  file: string;
  /** Relative, with forward slashes; a single file's name. */
  path: string;
  sizeBytes: number;
  executable: boolean;
}

/** A file, or all files below a folder, links followed, in the order of their names. */
export function localFiles(source: string): LocalFile[] {
  if (!statSync(source).isDirectory()) return [described(source, basename(source))];
  return readdirSync(source, { recursive: true, encoding: 'utf8' })
    .map((path) => described(join(source, path), path.replaceAll('\\', '/')))
    .filter((found) => found.sizeBytes >= 0)
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

function described(file: string, path: string): LocalFile {
  const stats = statSync(file);
  if (!stats.isFile()) return { file, path, sizeBytes: -1, executable: false };
  return { file, path: checkPath(path), sizeBytes: stats.size, executable: (stats.mode & 0o100) !== 0 };
}

/** Uploads files, a few at a time, telling `onUploaded` each. */
export async function uploadFiles(
  client: Client,
  workspace: string,
  files: readonly LocalFile[],
  options: Omit<UploadOptions, 'digest'> = {},
  onUploaded: (file: LocalFile, uploaded: Uploaded) => Promise<void> | void = () => {},
): Promise<void> {
  const totalBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  let doneBytes = 0;
  await eachOf(files, 4, async (file) => {
    let reported = 0;
    const uploaded = await uploadFile(client, workspace, file.file, {
      signal: options.signal,
      onProgress: (progress) => {
        doneBytes += progress.doneBytes - reported;
        reported = progress.doneBytes;
        options.onProgress?.({ doneBytes, totalBytes });
      },
    });
    doneBytes += file.sizeBytes - reported;
    await onUploaded(file, uploaded);
  });
}

/** Does something for each item, at most so many at a time; the first failure ends it. */
export async function eachOf<T>(
  items: readonly T[],
  atOnce: number,
  action: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await action(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}
