// Brings files from the server to this machine: beside their place first, checked, then renamed; a cut download goes on where it was.
import { mkdir, open, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath } from '@stellwerk/contract/paths.ts';
import type { CallOptions } from './client.ts';
import { pause } from './connection.ts';
import { hashFile } from './file-hash.ts';
import { eachOf, type Progress } from './uploads.ts';

export interface DownloadOptions {
  /** What the content must have. */
  digest?: string | undefined;
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
}

/** How often a download goes on after its connection broke, without anything new having come. */
const patience = 5;

/** `call` is a download of the client, such as `(options) => client.runs.getFile({ … }, options)`. */
export async function downloadTo(
  call: (options: CallOptions) => Promise<Response>,
  destination: string,
  options: DownloadOptions = {},
): Promise<void> {
  await mkdir(dirname(destination), { recursive: true });
  const part = `${destination}.part`;
  await unlink(part).catch(() => {});
  for (let failures = 0; ; ) {
    const before = await sizeOf(part);
    try {
      await receive(await call(rangeFrom(before, options)), part, before, options);
      break;
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof ServiceError || isLocal(error)) throw error;
      failures = (await sizeOf(part)) > before ? 0 : failures + 1;
      if (failures >= patience) throw error;
      await pause(250 * 2 ** failures, options.signal);
    }
  }
  if (options.digest && (await hashFile(part, options.signal)) !== options.digest) {
    await unlink(part);
    throw new ServiceError(
      'conflict',
      'blob.digest-mismatch',
      `What was downloaded to ${destination} is not what the server announced; it was removed.`,
    );
  }
  await rename(part, destination);
}

function rangeFrom(offset: number, { signal }: DownloadOptions): CallOptions {
  return offset === 0 ? { signal } : { signal, range: [offset] };
}

async function receive(response: Response, part: string, before: number, options: DownloadOptions): Promise<void> {
  const goesOn = response.status === 206;
  const length = response.headers.get('content-length');
  let doneBytes = goesOn ? before : 0;
  const totalBytes = length === null ? 0 : doneBytes + Number(length);
  await using file = await open(part, goesOn ? 'a' : 'w');
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    await file.writeFile(chunk);
    doneBytes += chunk.length;
    options.onProgress?.({ doneBytes, totalBytes });
  }
}

/** A full disk or a missing right does not go away by trying again. */
function isLocal(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOSPC' || code === 'EACCES' || code === 'EISDIR' || code === 'EROFS' || code === 'EDQUOT';
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}

export interface RemoteFile {
  path: string;
  sizeBytes: number;
  digest?: string | undefined;
}

/** Downloads files below a folder, a few at a time. A path that would leave the folder is refused. */
export async function downloadFiles(
  files: readonly RemoteFile[],
  call: (file: RemoteFile, options: CallOptions) => Promise<Response>,
  folder: string,
  options: Omit<DownloadOptions, 'digest'> = {},
): Promise<void> {
  const totalBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  let doneBytes = 0;
  await eachOf(files, 4, async (file) => {
    let reported = 0;
    const onProgress: Progress = (progress) => {
      doneBytes += progress.doneBytes - reported;
      reported = progress.doneBytes;
      options.onProgress?.({ doneBytes, totalBytes });
    };
    const destination = join(folder, checkPath(file.path));
    const { signal } = options;
    await downloadTo((range) => call(file, range), destination, { digest: file.digest, onProgress, signal });
  });
}
