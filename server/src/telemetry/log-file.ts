// A log as the file that it is: where it lies, appending at an offset, reading a part.
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ServiceError } from '@stellwerk/contract/errors.ts';

const readBytes = 256 * 1024;

/** Ids and names are free text: a hash of them is a safe name for a file. */
export function logFile(folder: string, workspace: string, run: string, name: string): string {
  const hash = createHash('sha256').update(`${run}\0${name}`).digest('hex');
  return join(folder, workspace.toLowerCase(), hash.slice(0, 2), `${hash}.log`);
}

/** Up to `end`, and gives the file's size. */
export async function appendAt(
  file: string,
  offset: number,
  bytes: Uint8Array,
  end = Number.POSITIVE_INFINITY,
): Promise<number> {
  const handle = await openForAppend(file);
  try {
    const { size } = await handle.stat();
    if (offset > size)
      throw new ServiceError(
        'conflict',
        'run.log-offset',
        `The log has ${size} bytes; a part at ${offset} would leave a gap.`,
        {
          offset: size,
        },
      );
    const fresh = bytes.subarray(size - offset).subarray(0, Math.max(0, end - size));
    for (let at = 0; at < fresh.length; ) {
      at += (await handle.write(fresh, at, fresh.length - at, size + at)).bytesWritten;
    }
    if (fresh.length > 0) await handle.datasync();
    return size + fresh.length;
  } finally {
    await handle.close();
  }
}

async function openForAppend(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    return open(file, 'w+', 0o600);
  }
}

export async function sizeOf(file: string): Promise<number> {
  const handle = await open(file).catch(() => undefined);
  if (!handle) return 0;
  try {
    return (await handle.stat()).size;
  } finally {
    await handle.close();
  }
}

export async function* readBetween(file: string, start: number, end: number): AsyncGenerator<Buffer> {
  if (start >= end) return;
  const handle = await open(file);
  try {
    for (let at = start; at < end; ) {
      const buffer = Buffer.allocUnsafe(Math.min(readBytes, end - at));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** One part, from the front or the middle; whatever else a Range header says means the whole log. */
export function partOf(range: string | undefined, total: number): { start: number; end: number } | undefined {
  const match = /^bytes=(\d{1,15})-(\d{0,15})$/i.exec(range ?? '');
  if (!match) return undefined;
  const start = Number(match[1]);
  const end = match[2] === '' ? total : Math.min(total, Number(match[2]) + 1);
  return start < end ? { start, end } : undefined;
}
