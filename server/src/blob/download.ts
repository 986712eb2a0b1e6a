// What a `download` verb gives to the http room: a stream of bytes and what is known about it; and the Range that was asked for.
// Range follows RFC 9110: one range in bytes is served; what is malformed, of several parts or beyond the end is ignored,
// which means the whole content.
import { Readable } from 'node:stream';
import type { Bytes, Digest } from './bytes.ts';

export interface Download {
  stream: Readable;
  contentType: string;
  /** How many bytes the stream gives, where that is known. */
  sizeBytes?: number;
  /** What to save it as. */
  filename?: string;
  /** Of a part: `end` is exclusive; `total` is the size of the whole. */
  range?: { start: number; end: number; total: number };
  /** Changes with the content. Without quotes. */
  etag?: string;
}

export interface Asked {
  /** The Range header. */
  range?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** The part that a Range header asks for, or undefined for all of it. */
export function partOf(range: string | undefined, total: number): { start: number; end: number } | undefined {
  const match = /^bytes=\s*(\d{0,15})-(\d{0,15})\s*$/i.exec(range ?? '');
  if (!match) return undefined;
  const [first, last] = [match[1]!, match[2]!];
  if (first === '' && last === '') return undefined;
  const start = first === '' ? Math.max(0, total - Number(last)) : Number(first);
  const end = first === '' || last === '' ? total : Math.min(total, Number(last) + 1);
  return start < end ? { start, end } : undefined;
}

/** A download of what `open` gives, all of it or the part that was asked for. */
export function downloadOf(
  whole: { sizeBytes: number; contentType?: string; filename?: string; etag?: string },
  asked: Asked | undefined,
  open: (part: { start: number; end: number }) => Readable,
): Download {
  const total = whole.sizeBytes;
  const part = partOf(asked?.range, total);
  const { start, end } = part ?? { start: 0, end: total };
  return {
    stream: end > start ? open({ start, end }) : Readable.from([]),
    contentType: whole.contentType ?? 'application/octet-stream',
    sizeBytes: end - start,
    ...(whole.filename !== undefined && { filename: whole.filename }),
    ...(whole.etag !== undefined && { etag: whole.etag }),
    ...(part && { range: { ...part, total } }),
  };
}

/** A download of content by its digest, under the last part of `path`. */
export function downloadContent(
  bytes: Bytes,
  content: { digest: string; sizeBytes: number; path: string },
  asked?: Asked,
): Download {
  const digest = content.digest as Digest;
  const filename = content.path.slice(content.path.lastIndexOf('/') + 1);
  return downloadOf({ sizeBytes: content.sizeBytes, filename, etag: digest }, asked, (part) =>
    bytes.read(digest, part),
  );
}
