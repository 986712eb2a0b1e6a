// Reads the table of contents of a tar file that may come from anybody: ustar, PAX and GNU long names.
// Invariants: every path is clean and relative (`` is the root itself), every content lies inside the file, sizes are
// what the file really holds (no sparse members), and memory does not grow with the size of the archive's contents.
import { type FileHandle, open } from 'node:fs/promises';
import { checkPath, refused } from './layer-entry.ts';
import { blockBytes, paddingOf } from './tar-header.ts';
import { paxRecords, type RawHeader, rawHeader } from './tar-parse.ts';

export type TarMember = {
  path: string;
  mode: number;
  /** Of the content, which begins at `offset` in the archive; only files have one. */
  sizeBytes: number;
  offset: number;
  type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'device';
  linkTarget: string;
};

const memberLimit = 1_000_000;
/** Long names and PAX records are kept in memory. */
const metadataLimitBytes = 1024 * 1024;

const types: Record<string, TarMember['type']> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'device',
  '4': 'device',
  '5': 'directory',
  '6': 'device',
};

/** The members of a tar file, in its order. Who does not keep them may allow more. */
export async function* tarMembers(file: string, signal?: AbortSignal, limit = memberLimit): AsyncGenerator<TarMember> {
  const handle = await open(file, 'r');
  try {
    yield* membersOf(new Window(handle, (await handle.stat()).size), limit, signal);
  } finally {
    await handle.close();
  }
}

async function* membersOf(window: Window, limit: number, signal?: AbortSignal): AsyncGenerator<TarMember> {
  let long: Record<string, string> = {};
  let count = 0;
  for (let at = 0; at < window.sizeBytes; ) {
    signal?.throwIfAborted();
    const header = rawHeader(await window.read(at, blockBytes));
    if (!header) return; // a block of zeros ends the archive
    at += blockBytes;
    if (isMetadata(header)) {
      if (header.sizeBytes > metadataLimitBytes)
        throw refused('The archive has a name or attributes of more than 1 MiB.');
      long = { ...long, ...metadata(header, await window.read(at, header.sizeBytes)) };
      at += header.sizeBytes + paddingOf(header.sizeBytes);
      continue;
    }
    const sizeBytes = long.size === undefined ? header.sizeBytes : sizeOf(long.size);
    if (++count > limit) throw refused(`The archive has more than ${limit.toLocaleString('en')} members.`);
    const member = memberOf(header, long, sizeBytes, at);
    if (member.offset + member.sizeBytes > window.sizeBytes)
      throw refused('The archive ends in the middle of a member.');
    yield member;
    at += member.sizeBytes + paddingOf(member.sizeBytes);
    long = {};
  }
}

function isMetadata(header: RawHeader): boolean {
  return ['x', 'g', 'L', 'K'].includes(header.type);
}

/** What such a member says about the next one, under PAX's names. */
function metadata(header: RawHeader, content: Buffer): Record<string, string> {
  const text = () => utf8(content.subarray(0, content.includes(0) ? content.indexOf(0) : undefined));
  if (header.type === 'L') return { path: text() };
  if (header.type === 'K') return { linkpath: text() };
  const records = paxRecords(content);
  if (Object.keys(records).some((key) => key.startsWith('GNU.sparse')))
    throw refused('The archive has a sparse member.');
  if (header.type === 'x') return records;
  if (records.path ?? records.linkpath ?? records.size) throw refused('The archive names all its members alike.');
  return {};
}

function memberOf(header: RawHeader, long: Record<string, string>, sizeBytes: number, offset: number): TarMember {
  const name = long.path ?? utf8(header.name);
  const path = cleanPath(name);
  let type = types[header.type];
  if (!type)
    throw refused(`The archive's member "${path}" is of the unknown or sparse type ${JSON.stringify(header.type)}.`);
  if (type === 'file' && name.endsWith('/')) type = 'directory';
  if (path === '' && type !== 'directory') throw refused('The archive has a member without a name.');
  const linkTarget = type === 'symlink' || type === 'hardlink' ? (long.linkpath ?? utf8(header.linkTarget)) : '';
  return {
    path,
    type,
    mode: header.mode,
    sizeBytes: type === 'file' ? sizeBytes : 0,
    offset,
    linkTarget: checkedTarget(type, linkTarget, path),
  };
}

function checkedTarget(type: TarMember['type'], target: string, path: string): string {
  if (type === 'hardlink') return cleanPath(target);
  if (type !== 'symlink') return '';
  if (target === '' || target.includes('\0') || Buffer.byteLength(target) > 4095) {
    throw refused(`The archive's symbolic link "${path}" has an impossible target.`);
  }
  return target;
}

/** `./a//b/` is `a/b`; what is absolute or climbs up is refused. */
export function cleanPath(path: string): string {
  const parts = path.split('/');
  if (parts.includes('..') || path.startsWith('/')) {
    throw refused(
      `The archive's path ${JSON.stringify(path.slice(0, 200))} leads out of the folder it is unpacked to.`,
    );
  }
  const clean = parts.filter((part) => part !== '' && part !== '.').join('/');
  if (clean !== '') checkPath(clean);
  return clean;
}

function sizeOf(text: string): number {
  const size = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(size))
    throw refused(`The archive has a member of the size ${JSON.stringify(text.slice(0, 50))}.`);
  return size;
}

const decoder = new TextDecoder('utf-8', { fatal: true });

function utf8(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw refused('The archive has a name that is not UTF-8.');
  }
}

/** Reads a file through one buffer, so that the headers of small members cost no read each. */
class Window {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;
  readonly #buffer = Buffer.allocUnsafeSlow(256 * 1024);
  #start = 0;
  #length = 0;

  constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  async read(at: number, length: number): Promise<Buffer> {
    if (length > this.#buffer.length) return await this.#readFully(Buffer.alloc(length), at);
    if (at < this.#start || at + length > this.#start + this.#length) await this.#fill(at, length);
    return this.#buffer.subarray(at - this.#start, at - this.#start + length);
  }

  async #fill(at: number, needed: number): Promise<void> {
    const wanted = Math.max(needed, Math.min(this.#buffer.length, this.sizeBytes - at));
    await this.#readFully(this.#buffer.subarray(0, wanted), at);
    this.#start = at;
    this.#length = wanted;
  }

  async #readFully(into: Buffer, at: number): Promise<Buffer> {
    for (let read = 0; read < into.length; ) {
      const { bytesRead } = await this.#handle.read(into, read, into.length - read, at + read);
      if (bytesRead === 0) throw refused('The archive ends in the middle of a member.');
      read += bytesRead;
    }
    return into;
  }
}
