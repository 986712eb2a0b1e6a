// A replica's log on disk: parts of equal size, `log.000000` and on, of which the last two are kept. An offset therefore says
// which part it is in, whatever was removed since.
import { existsSync, readdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogPart } from '../../services.ts';

/** The most that is read at once. */
const readBytes = 1024 * 1024;

export async function readLog(folder: string, offset: number, partBytes: number): Promise<LogPart> {
  const parts = partsIn(folder);
  const start = Math.max(offset, (parts[0] ?? 0) * partBytes);
  const chunks: Buffer[] = [];
  let left = readBytes;
  let end = start;
  for (const part of parts.filter((number) => (number + 1) * partBytes > start)) {
    end = Math.max(end, part * partBytes); // what a replica of before left may end within its part
    const chunk = await readPart(join(folder, nameOf(part)), end - part * partBytes, left);
    chunks.push(chunk);
    end += chunk.length;
    left -= chunk.length;
    if (left === 0) break;
  }
  const all = Buffer.concat(chunks);
  const whole = wholeCharacters(all);
  return { text: whole.toString('utf8'), offset: start, nextOffset: end - (all.length - whole.length) };
}

/** The number of the part that a replica which is started now begins with. */
export function nextPart(folder: string): number {
  return (partsIn(folder).at(-1) ?? -1) + 1;
}

function partsIn(folder: string): number[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => /^log\.\d{6}$/.test(name));
  return names.map((name) => Number(name.slice(4))).sort((a, b) => a - b);
}

function nameOf(part: number): string {
  return `log.${String(part).padStart(6, '0')}`;
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
