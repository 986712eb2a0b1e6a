// Turns a stream that may be compressed with gzip or zstd into what it holds, and stops what unpacks to absurd sizes.
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { refused } from './layer-entry.ts';

export interface UnpackedLimit {
  sizeBytes: number;
  /** How many bytes one compressed byte may become, once more than `ratioFromBytes` have come out. */
  ratio: number;
  ratioFromBytes: number;
}

export const plainLimit: UnpackedLimit = { sizeBytes: 50 * 1024 ** 3, ratio: 500, ratioFromBytes: 64 * 1024 ** 2 };

export async function* decompressed(
  source: AsyncIterable<Uint8Array>,
  limit: UnpackedLimit = plainLimit,
): AsyncGenerator<Uint8Array> {
  const counted = { read: 0 };
  const [start, whole] = await peek(count(source, counted));
  const unpacker = unpackerFor(start);
  let written = 0;
  for await (const chunk of unpacker ? through(whole, unpacker) : whole) {
    written += chunk.length;
    if (written > limit.sizeBytes) {
      throw refused(
        `A compressed part of the image unpacks to more than ${limit.sizeBytes.toLocaleString('en')} bytes.`,
      );
    }
    if (written > limit.ratioFromBytes && written > counted.read * limit.ratio) {
      throw refused(`A compressed part of the image unpacks to more than ${limit.ratio} times its size.`);
    }
    yield chunk;
  }
}

/** Whether a file's first bytes are those of a compressed stream that `decompressed` can read. */
export function isCompressed(start: Uint8Array): boolean {
  return startsWith(start, gzip) || startsWith(start, zstd);
}

const gzip = [0x1f, 0x8b];
const zstd = [0x28, 0xb5, 0x2f, 0xfd];

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, at) => bytes[at] === byte);
}

function unpackerFor(start: Uint8Array): Duplex | undefined {
  if (startsWith(start, gzip)) return createGunzip({ chunkSize: 256 * 1024 });
  if (startsWith(start, zstd)) return createZstdDecompress({ chunkSize: 256 * 1024 });
  return undefined;
}

async function* count(source: AsyncIterable<Uint8Array>, counted: { read: number }): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    counted.read += chunk.length;
    yield chunk;
  }
}

/** The first four bytes of a stream, and the whole stream again. */
async function peek(source: AsyncGenerator<Uint8Array>): Promise<[Uint8Array, AsyncGenerator<Uint8Array>]> {
  let start: Uint8Array = Buffer.alloc(0);
  while (start.length < 4) {
    const next = await source.next();
    if (next.done) break;
    start = Buffer.concat([start, next.value]);
  }
  return [start, rejoined(start, source)];
}

async function* rejoined(start: Uint8Array, rest: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (start.length > 0) yield start;
  yield* rest;
}

async function* through(source: AsyncIterable<Uint8Array>, unpacker: Duplex): AsyncGenerator<Uint8Array> {
  const done = pipeline(source, unpacker);
  done.catch(() => {}); // seen below, unless the reader has left
  try {
    for await (const chunk of unpacker) yield chunk as Buffer;
    await done;
  } catch (error) {
    if (!isDamage(error)) throw error;
    throw refused(`A compressed part of the image is damaged: ${(error as Error).message}.`);
  }
}

function isDamage(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return code.startsWith('Z_') || code.startsWith('ZSTD_') || code === 'ERR_ZLIB_INITIALIZATION_FAILED';
}
