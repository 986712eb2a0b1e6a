// A replica's log on disk: parts of equal size, `log.000000` and on, of which the last two are kept. An offset therefore says
// which part it is in, whatever was removed since.
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogPart } from '../../services.ts';

/** The most that is read at once. */
const readBytes = 1024 * 1024;

export async function readLog(folder: string, offset: number, partBytes: number): Promise<LogPart> {
  const parts = (await readdir(folder).catch(() => [])).filter((name) => /^log\.\d{6}$/.test(name)).sort();
  const first = parts[0] === undefined ? 0 : Number(parts[0].slice(4)) * partBytes;
  const start = Math.max(offset, first);
  const chunks: Buffer[] = [];
  let end = start;
  for (const part of parts.slice(Math.floor((start - first) / partBytes))) {
    const chunk = await readPart(join(folder, part), end % partBytes, readBytes - (end - start));
    chunks.push(chunk);
    end += chunk.length;
    if (end - start >= readBytes) break;
  }
  const bytes = wholeCharacters(Buffer.concat(chunks));
  return { text: bytes.toString('utf8'), offset: start, nextOffset: start + bytes.length };
}

/** Empty if the part was removed just now: the next call begins later. */
async function readPart(path: string, position: number, atMost: number): Promise<Buffer> {
  const file = await open(path).catch(() => undefined);
  if (!file) return Buffer.alloc(0);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(atMost), 0, atMost, position);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** Without the beginning of a UTF-8 character whose rest is still to come. */
function wholeCharacters(bytes: Buffer): Buffer {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!;
    if (byte < 0x80) return bytes;
    const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 0;
    if (needs > 0) return back < needs ? bytes.subarray(0, -back) : bytes;
  }
  return bytes;
}
