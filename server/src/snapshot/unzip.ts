// Takes the files out of an archive that a user sent. Nothing of the archive is believed: a file must be in the listing, with its
// size, and its content must have the listing's digest; so nothing is written but what was announced.
import { buffer } from 'node:stream/consumers';
import { inflateRawSync } from 'node:zlib';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { SnapshotFile } from '@stellwerk/contract/snapshot.ts';
import { type Entry, openPromise, type ZipFile } from 'yauzl';

/** So many files are unpacked at a time: each waits for the disk. */
const atOnce = 16;
const smallBytes = 256 * 1024;
const deflated = 8;
const typeMask = 0o170000;
const regularFile = 0o100000;

export async function unzip(
  archive: string,
  files: readonly SnapshotFile[],
  store: (file: SnapshotFile, content: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const zip = await openPromise(archive, { autoClose: false, strictFileNames: true }).catch(asRefusal);
  try {
    if (zip.entryCount > 2 * files.length + 10_000) throw refused(`it has ${zip.entryCount} entries`);
    const wanted = new Map(files.map((file) => [file.path, file]));
    await eachEntry(zip, async (entry) => {
      const file = announced(entry, wanted);
      if (file) await store(file, contentOf(zip, entry));
    });
  } finally {
    zip.close();
  }
}

/** Entries are read one after another, and handled a few at a time. The first failure ends it. */
async function eachEntry(zip: ZipFile, handle: (entry: Entry) => Promise<void>): Promise<void> {
  const entries = zip.eachEntry();
  let over = false;
  let turn: Promise<unknown> = Promise.resolve();
  const next = (): Promise<Entry | undefined> => {
    const taken = turn.then(async () => {
      if (over) return undefined;
      const { done, value } = await entries.next().catch(asRefusal);
      over ||= done === true;
      return over ? undefined : value;
    });
    turn = taken.catch(() => {});
    return taken;
  };
  const worker = async () => {
    try {
      for (let entry = await next(); entry; entry = await next()) await handle(entry);
    } finally {
      over = true;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: atOnce }, worker));
  for (const { reason } of ended.filter((end) => end.status === 'rejected')) throw reason;
}

/**
 * The listing's file that an entry brings; undefined for a folder. Each can be brought once. A name that is not marked as UTF-8 is read in
 * the code page of DOS, which has pictures for control characters; Python marks none that is ASCII, so the name as it stands counts too.
 */
function announced(entry: Entry, wanted: Map<string, SnapshotFile>): SnapshotFile | undefined {
  const name = JSON.stringify(entry.fileName.slice(0, 200));
  const type = (entry.externalFileAttributes >>> 16) & typeMask;
  if (entry.isEncrypted()) throw refused(`${name} is encrypted`);
  if (entry.fileName.endsWith('/')) return undefined;
  if (type !== 0 && type !== regularFile) throw refused(`${name} is not a plain file`);
  const path = wanted.has(entry.fileName) ? entry.fileName : entry.fileNameRaw.toString();
  const file = wanted.get(path);
  if (!file) throw refused(`${name} is not in the listing of the snapshot, or is there twice`);
  if (entry.uncompressedSize !== file.sizeBytes)
    throw refused(`${name} has ${entry.uncompressedSize} bytes, where the listing says ${file.sizeBytes}`);
  wanted.delete(path);
  return file;
}

async function* contentOf(zip: ZipFile, entry: Entry): AsyncGenerator<Uint8Array> {
  try {
    if (Math.max(entry.uncompressedSize, entry.compressedSize) > smallBytes || entry.compressionMethod !== deflated)
      yield* (await zip.openReadStreamPromise(entry)) as AsyncIterable<Uint8Array>;
    else yield await inflated(zip, entry);
  } catch (error) {
    asRefusal(error as Error);
  }
}

/** Much quicker than a stream for each of thousands of small files. */
async function inflated(zip: ZipFile, entry: Entry): Promise<Uint8Array> {
  const compressed = await buffer(await zip.openReadStreamPromise(entry, { decodeFileData: false }));
  const content = inflateRawSync(compressed, { maxOutputLength: entry.uncompressedSize + 1 });
  if (content.length === entry.uncompressedSize) return content;
  throw refused(`${JSON.stringify(entry.fileName.slice(0, 200))} is not as large as it says`);
}

function refused(why: string): ServiceError {
  return new ServiceError('invalid-argument', 'archive.invalid', `The archive cannot be used: ${why}.`);
}

/** What yauzl says is about the archive. */
function asRefusal(error: Error): never {
  throw error instanceof ServiceError ? error : refused(error.message);
}
