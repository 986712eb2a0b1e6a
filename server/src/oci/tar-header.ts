// The 512-byte header of a tar member, and the PAX records for what does not fit into it. Owners and times are always zero.
import { refused } from './layer-entry.ts';

export const blockBytes = 512;

export type MemberType = 'file' | 'symlink' | 'directory' | 'pax';
const typeFlags: Record<MemberType, string> = { file: '0', symlink: '2', directory: '5', pax: 'x' };

export interface Member {
  path: string;
  type: MemberType;
  mode: number;
  sizeBytes: number;
  linkTarget: string;
}

const nameBytes = 100;
const prefixBytes = 155;
/** 11 octal digits. */
const sizeLimit = 8 ** 11 - 1;

/** The header blocks of a member: one block, or three or more where PAX records are needed. */
export function headerBlocks(member: Member): Buffer {
  const name = Buffer.from(member.type === 'directory' ? `${member.path}/` : member.path);
  const link = Buffer.from(member.linkTarget);
  const split = splitName(name);
  const records = Buffer.concat([
    split && isAscii(name) ? empty : record('path', name),
    link.length <= nameBytes && isAscii(link) ? empty : record('linkpath', link),
    member.sizeBytes <= sizeLimit ? empty : record('size', Buffer.from(String(member.sizeBytes))),
  ]);
  const header = block(
    member,
    split ?? { name: name.subarray(0, nameBytes), prefix: empty },
    link.subarray(0, nameBytes),
  );
  if (records.length === 0) return header;
  const pax: Member = { path: 'pax', type: 'pax', mode: 0o644, sizeBytes: records.length, linkTarget: '' };
  const paxHeader = block(pax, { name: Buffer.from('PaxHeaders/entry'), prefix: empty }, empty);
  return Buffer.concat([paxHeader, records, Buffer.alloc(paddingOf(records.length)), header]);
}

/** How many zero bytes follow content of this size, up to the next block. */
export function paddingOf(sizeBytes: number): number {
  return (blockBytes - (sizeBytes % blockBytes)) % blockBytes;
}

const empty = Buffer.alloc(0);

function isAscii(bytes: Buffer): boolean {
  return bytes.every((byte) => byte < 0x80);
}

/** A name of up to 100 bytes, or one that can be cut at a slash into 155 and 100; otherwise undefined. */
function splitName(name: Buffer): { name: Buffer; prefix: Buffer } | undefined {
  if (name.length <= nameBytes) return { name, prefix: empty };
  if (name.length > nameBytes + prefixBytes + 1) return undefined;
  const slash = name.lastIndexOf('/', Math.min(prefixBytes, name.length - 2));
  if (slash <= 0 || name.length - slash - 1 > nameBytes) return undefined;
  return { name: name.subarray(slash + 1), prefix: name.subarray(0, slash) };
}

function block(member: Member, split: { name: Buffer; prefix: Buffer }, link: Buffer): Buffer {
  const header = Buffer.alloc(blockBytes);
  split.name.copy(header, 0);
  octal(header, member.mode & 0o1777, 100, 8);
  octal(header, 0, 108, 8);
  octal(header, 0, 116, 8);
  octal(header, Math.min(member.sizeBytes, sizeLimit), 124, 12);
  octal(header, 0, 136, 12);
  header.fill(0x20, 148, 156);
  header.write(typeFlags[member.type], 156, 'latin1');
  link.copy(header, 157);
  header.write('ustar\x0000', 257, 'latin1');
  split.prefix.copy(header, 345);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

function octal(header: Buffer, value: number, at: number, width: number): void {
  header.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1');
}

/** `<length> <key>=<value>\n`, where the length counts its own digits too. */
function record(key: string, value: Buffer): Buffer {
  if (value.includes(0)) throw refused(`A tar ${key} cannot hold a NUL character.`);
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}
