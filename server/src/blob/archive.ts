// A ZIP archive of contents, made while it is sent. Invariant: the same files give the same archive, whenever and wherever.
import { PassThrough, type Readable } from 'node:stream';
import { ZipFile } from 'yazl';
import type { Bytes, Digest } from './bytes.ts';
import type { Download } from './download.ts';

export interface ArchivedFile {
  path: string;
  digest: string;
  sizeBytes: number;
  executable?: boolean | undefined;
}

/** ZIP keeps local time and begins in 1980. */
const noTime = new Date(1980, 0, 1);

/** `compress`: worth it for source text; where it is left out, the size is known beforehand. */
export function downloadArchive(
  bytes: Bytes,
  files: readonly ArchivedFile[],
  { filename, compress, signal }: { filename: string; compress: boolean; signal?: AbortSignal | undefined },
): Download {
  const zip = new ZipFile();
  const stream = new PassThrough();
  let current: Readable | undefined;
  for (const file of files) {
    const options = {
      mtime: noTime,
      forceDosTimestamp: true,
      mode: file.executable ? 0o100755 : 0o100644,
      compressionLevel: compress ? 1 : 0,
      size: file.sizeBytes,
    };
    zip.addReadStreamLazy(file.path, options, (opened) => {
      current = bytes.read(file.digest as Digest).on('error', (error) => stream.destroy(error));
      if (stream.destroyed) current.destroy();
      else opened(null, current);
    });
  }
  zip.on('error', (error: Error) => stream.destroy(error));
  const stop = () => stream.destroy();
  signal?.addEventListener('abort', stop);
  stream.on('close', () => {
    current?.destroy();
    signal?.removeEventListener('abort', stop);
  });
  let sizeBytes = -1;
  const sized = ((size: number) => {
    sizeBytes = size;
  }) as () => void;
  zip.end({ forceZip64Format: false, comment: '' }, sized);
  zip.outputStream.pipe(stream);
  return { stream, contentType: 'application/zip', filename, ...(sizeBytes >= 0 && { sizeBytes }) };
}
