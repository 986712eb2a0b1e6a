// The bytes of one tar header, and of the records that PAX puts in front of one.
import { refused } from './layer-entry.ts';
import { blockBytes } from './tar-header.ts';

export interface RawHeader {
  name: Buffer;
  mode: number;
  sizeBytes: number;
  type: string;
  linkTarget: Buffer;
}

/** Undefined for the block of zeros that ends an archive. */
export function rawHeader(block: Buffer): RawHeader | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  checkSum(block);
  const prefix = isPosix(block) ? field(block, 345, 155) : Buffer.alloc(0);
  const name = field(block, 0, 100);
  return {
    name: Buffer.from(prefix.length > 0 ? Buffer.concat([prefix, Buffer.from('/'), name]) : name),
    mode: number(block, 100, 8) & 0o7777,
    sizeBytes: number(block, 124, 12),
    type: String.fromCharCode(block[156] ?? 0),
    linkTarget: Buffer.from(field(block, 157, 100)),
  };
}

/** GNU's own format writes other things where POSIX has the prefix. */
function isPosix(block: Buffer): boolean {
  return block.toString('latin1', 257, 263) === 'ustar\0';
}

function checkSum(block: Buffer): void {
  let unsigned = 0;
  let signed = 0;
  for (let at = 0; at < blockBytes; at++) {
    const byte = at >= 148 && at < 156 ? 0x20 : (block[at] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte; // some old programs added signed bytes
  }
  const found = number(block, 148, 8);
  if (found !== unsigned && found !== signed)
    throw refused('This is no tar archive, or it is damaged: a header has a wrong checksum.');
}

function field(block: Buffer, at: number, width: number): Buffer {
  const bytes = block.subarray(at, at + width);
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

/** Octal digits, or (first bit set) a big-endian number. */
function number(block: Buffer, at: number, width: number): number {
  const first = block[at] ?? 0;
  if (first >= 0x80) return binary(block.subarray(at, at + width));
  const text = field(block, at, width).toString('latin1').trim();
  if (!/^[0-7]*$/.test(text))
    throw refused('This is no tar archive, or it is damaged: a header has a number that is none.');
  return text === '' ? 0 : Number.parseInt(text, 8);
}

function binary(bytes: Buffer): number {
  const value = BigInt(`0x${bytes.toString('hex')}`) - (0x80n << BigInt(8 * (bytes.length - 1)));
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || bytes[0] === 0xff)
    throw refused('The archive has a member of an impossible size.');
  return Number(value);
}

/** `<length> <key>=<value>\n`, again and again. */
export function paxRecords(content: Buffer): Record<string, string> {
  const records: Record<string, string> = Object.create(null);
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for (let at = 0; at < content.length; ) {
    const space = content.indexOf(0x20, at);
    const length = Number(content.toString('latin1', at, Math.max(at, space)));
    const end = at + length;
    const equals = content.indexOf(0x3d, space);
    const sound = Number.isSafeInteger(length) && space > at && equals > space && equals < end && end <= content.length;
    if (!sound || content[end - 1] !== 0x0a) throw refused('The archive has damaged attributes.');
    const key = content.toString('latin1', space + 1, equals);
    if (['path', 'linkpath', 'size'].includes(key) || key.startsWith('GNU.sparse')) {
      records[key] = decodeWith(decoder, content.subarray(equals + 1, end - 1));
    }
    at = end;
  }
  return records;
}

function decodeWith(decoder: TextDecoder, bytes: Buffer): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw refused('The archive has a name that is not UTF-8.');
  }
}
