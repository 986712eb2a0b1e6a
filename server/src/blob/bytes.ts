// Bytes by their content: what the rooms above need of a content-addressed store, and no more.
// Invariants: a digest names the same bytes for ever; what `write` returned is durable; nothing partial is ever visible.
import type { Readable } from 'node:stream';

/** `sha256:` and 64 lower-case hexadecimal digits. */
export type Digest = `sha256:${string}`;

export interface Stored {
  digest: Digest;
  sizeBytes: number;
}

export interface Bytes {
  /** Stores a stream. With `expected`, refuses (and keeps nothing) if the content's digest differs. */
  write(source: AsyncIterable<Uint8Array>, expected?: Digest): Promise<Stored>;
  /** `range` is [start, end), in bytes. */
  read(digest: Digest, range?: { start: number; end: number }): Readable;
  has(digest: Digest): Promise<boolean>;
  sizeOf(digest: Digest): Promise<number>;
  /** The file that holds the content: for reading only. */
  path(digest: Digest): string;
}
