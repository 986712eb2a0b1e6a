// The archive of a backup: a tar whose paths are those of the data folder, and in the end a manifest with the SHA-256 of every file.
// Invariants: an archive without a manifest at its end is no backup; a content is named by its SHA-256 and checked against it
// while it is read; memory does not grow with what is in the archive.
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { parseJson } from '@stellwerk/contract/json-shape.ts';
import { blockBytes, headerBlocks, paddingOf } from '../oci/tar-header.ts';
import { type TarMember, tarMembers } from '../oci/tar-read.ts';

export const manifestName = 'manifest.json';
export const databaseName = 'stellwerk.db';
export const keyName = 'master.key';
const format = 1;
const chunkBytes = 1024 * 1024;
const manifestLimitBytes = 1024 ** 3;
const contentPath = /^blobs\/sha256\/([0-9a-f]{2})\/(\1[0-9a-f]{62})$/;
/** What a data folder may get from an archive: nothing that would act by being there. */
const otherPath = /^(stellwerk\.db|master\.key|(logs|activities|datastores|authority)\/.+)$/s;

export interface ArchivedFile {
  path: string;
  sizeBytes: number;
  digest: string;
}

/** Contents are counted only: their names say what they are, and the database says which there must be. */
export interface Manifest {
  format: number;
  /** The version of Stellwerk that wrote it. */
  version: string;
  createdAt: string;
  /** Where the data folder was. */
  data: string;
  files: ArchivedFile[];
  contents: { count: number; sizeBytes: number };
}

export class ArchiveRefused extends Error {}

export interface FileToArchive {
  path: string;
  /** Where it lies. */
  file: string;
  /** Of a file that grows: so much of it. */
  sizeBytes?: number;
  /** What it must be. */
  digest?: string;
}

export class ArchiveWriter {
  readonly #files: ArchivedFile[] = [];
  readonly #contents = { count: 0, sizeBytes: 0 };

  /**
   * One file, in chunks. A file of a datastore that is gone since it was listed is left out; the log of a run that was deleted for good
   * meanwhile is empty, since the database still has it; a content that is not there is a fault.
   */
  async *add(given: FileToArchive): AsyncGenerator<Buffer> {
    const handle = await open(given.file, 'r').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' && given.digest === undefined) return undefined;
      throw error;
    });
    if (!handle) {
      if (given.sizeBytes === undefined) return;
      yield headerBlocks(memberOf(given.path, 0));
      return this.#note(given, 0, `sha256:${createHash('sha256').digest('hex')}`);
    }
    try {
      const sizeBytes = given.sizeBytes ?? (await handle.stat()).size;
      yield headerBlocks(memberOf(given.path, sizeBytes));
      const hash = createHash('sha256');
      for await (const chunk of chunksOf(handle, sizeBytes)) {
        hash.update(chunk);
        yield chunk;
      }
      yield Buffer.alloc(paddingOf(sizeBytes));
      this.#note(given, sizeBytes, `sha256:${hash.digest('hex')}`);
    } finally {
      await handle.close();
    }
  }

  #note({ path, digest: expected }: FileToArchive, sizeBytes: number, digest: string): void {
    if (expected === undefined) return void this.#files.push({ path, sizeBytes, digest });
    if (digest !== expected)
      throw new Error(`The content ${expected} is damaged on the disk: it has become ${digest}.`);
    this.#contents.count++;
    this.#contents.sizeBytes += sizeBytes;
  }

  *end(about: Pick<Manifest, 'version' | 'createdAt' | 'data'>): Generator<Buffer> {
    const manifest: Manifest = { format, ...about, files: this.#files, contents: this.#contents };
    const text = Buffer.from(JSON.stringify(manifest));
    yield headerBlocks(memberOf(manifestName, text.length));
    yield text;
    yield Buffer.alloc(paddingOf(text.length) + 2 * blockBytes);
  }
}

const memberOf = (path: string, sizeBytes: number) =>
  ({ path, type: 'file', mode: 0o600, sizeBytes, linkTarget: '' }) as const;

async function* chunksOf(handle: FileHandle, sizeBytes: number, offset = 0): AsyncGenerator<Buffer> {
  for (let at = 0; at < sizeBytes; ) {
    const chunk = Buffer.allocUnsafeSlow(Math.min(chunkBytes, sizeBytes - at));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, offset + at);
    if (bytesRead === 0) throw new ArchiveRefused('A file became shorter while it was read.');
    at += bytesRead;
    yield chunk.subarray(0, bytesRead);
  }
}

/** A file of an archive as it is read: `chunks` must be read to its end. */
export interface FoundFile {
  path: string;
  sizeBytes: number;
  chunks: AsyncIterable<Buffer>;
}

/** Reads an archive to its end, and checks every byte of it. What is given to `take` is proved only when this has returned. */
export async function readArchive(archive: string, take: (file: FoundFile) => Promise<void>): Promise<Manifest> {
  await using handle = await open(archive, 'r');
  const found = new Map<string, ArchivedFile>();
  const contents = { count: 0, sizeBytes: 0 };
  let manifest: Manifest | undefined;
  for await (const member of tarMembers(archive, undefined, Number.POSITIVE_INFINITY)) {
    if (manifest) throw new ArchiveRefused(`${archive} goes on after its end: it is no backup as it was made.`);
    if (member.path === manifestName) {
      manifest = await manifestIn(handle, member);
      continue;
    }
    const hex = contentPath.exec(member.path)?.[2];
    if (member.type !== 'file' || (hex === undefined && !otherPath.test(member.path)))
      throw new ArchiveRefused(`${archive} holds ${JSON.stringify(member.path)}, which no backup has.`);
    const digest = await taken(handle, member, take);
    if (hex !== undefined) {
      if (digest !== `sha256:${hex}`) throw damaged(archive, member.path);
      contents.count++;
      contents.sizeBytes += member.sizeBytes;
    } else found.set(member.path, { path: member.path, sizeBytes: member.sizeBytes, digest });
  }
  if (!manifest) throw new ArchiveRefused(`${archive} is cut off: its manifest, which comes last, is missing.`);
  compare(archive, manifest, found, contents);
  return manifest;
}

async function taken(handle: FileHandle, member: TarMember, take: (file: FoundFile) => Promise<void>): Promise<string> {
  const hash = createHash('sha256');
  async function* hashed() {
    for await (const chunk of chunksOf(handle, member.sizeBytes, member.offset)) {
      hash.update(chunk);
      yield chunk;
    }
  }
  await take({ path: member.path, sizeBytes: member.sizeBytes, chunks: hashed() });
  return `sha256:${hash.digest('hex')}`;
}

async function manifestIn(handle: FileHandle, { sizeBytes, offset }: TarMember): Promise<Manifest> {
  if (sizeBytes > manifestLimitBytes) throw new ArchiveRefused('The manifest of the archive is too large.');
  const chunks: Buffer[] = [];
  for await (const chunk of chunksOf(handle, sizeBytes, offset)) chunks.push(chunk);
  const manifest = manifestOf(Buffer.concat(chunks));
  if (manifest.format !== format)
    throw new ArchiveRefused(
      `The archive was written by Stellwerk ${manifest.version} in a form that this version does not know: restore it with that one.`,
    );
  return manifest;
}

function manifestOf(document: Buffer): Manifest {
  try {
    const manifest = parseJson(document.toString('utf8'));
    if (typeof manifest === 'object' && manifest !== null) return manifest as Manifest;
  } catch {
    // said below
  }
  throw new ArchiveRefused('The manifest of the archive cannot be read: it is damaged. Take another backup.');
}

function compare(
  archive: string,
  manifest: Manifest,
  found: ReadonlyMap<string, ArchivedFile>,
  contents: Manifest['contents'],
): void {
  for (const { path, sizeBytes, digest } of manifest.files) {
    const file = found.get(path);
    if (file?.digest !== digest || file.sizeBytes !== sizeBytes) throw damaged(archive, path);
  }
  if (found.size !== manifest.files.length || contents.count !== manifest.contents.count)
    throw new ArchiveRefused(`${archive} does not hold what its manifest lists.`);
}

function damaged(archive: string, path: string): ArchiveRefused {
  return new ArchiveRefused(`${archive} is damaged: ${path} is not what was saved. Take another backup.`);
}
