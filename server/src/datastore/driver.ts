// What a kind of datastore can do: files by path, as an object store has them, whatever is behind it.
// Each kind promises:
// - a file is seen whole or not at all; what `write` returned is durable; an interrupted write leaves nothing that is listed;
// - folders are only what paths have in common: none is listed, and none is left when its last file is deleted;
// - nothing outside of the datastore is ever opened, whatever a path says or whatever links lie in it.
// A driver never retries, never reads the clock and knows nothing of the database. What is not there is `undefined`; what the
// world did is a `TargetError`. Paths are checked (`checkPath`) before they come here.
import type { Readable } from 'node:stream';
import type { Datastore } from '@stellwerk/contract/datastore.ts';

export type DatastoreKind = Datastore['kind'];

export interface StoredFile {
  path: string;
  sizeBytes: number;
  modifiedAt: string;
}

export interface OpenedFile extends StoredFile {
  /** Changes with the content. */
  etag: string;
  /** `range` is [start, end). Called at most once; the file is closed with its end, or by `close` if it is never called. */
  read(range: { start: number; end: number }): Readable;
  close(): Promise<void>;
}

export interface Content {
  sizeBytes: number;
  open(): AsyncIterable<Uint8Array>;
  /** Where the content lies as a file on this machine, for a kind that can take it from there faster. */
  file?: string;
}

export type Written = StoredFile | 'taken';

export interface DatastoreDriver {
  readonly kind: DatastoreKind;
  /** Files at or below `prefix` (all for ''), in the order of their paths, after the path `after`. */
  list(prefix: string, after: string): AsyncIterable<StoredFile>;
  open(path: string): Promise<OpenedFile | undefined>;
  /** `taken`: there is a file already and it is not to be overwritten; or a folder has the path, or a file the path of a folder. */
  write(path: string, content: Content, overwrite: boolean): Promise<Written>;
  /** A file, or everything below a folder. Returns how many files went. */
  delete(path: string): Promise<number>;
  /** Removes the storage itself, with the workspace that it was made for. */
  destroy(): Promise<void>;
}
