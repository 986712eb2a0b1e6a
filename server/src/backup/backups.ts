// A backup of the whole installation while it serves: one archive of the database as it is at one moment and of all bytes that it
// refers to, from which `restore` makes an equal one; and `verify`, which tells whether an installation is whole.
// Invariants: no content is removed before the archive has it; what grows (logs) is taken as long as it was when the copy was made,
// which holds at least what the copy knows of; writers do not wait.
import { randomUUID } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Readable } from 'node:stream';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import type { Digest } from '../blob/bytes.ts';
import type { Download } from '../blob/download.ts';
import type { FileBytes } from '../blob/files.ts';
import { copyDatabase } from '../db/copy.ts';
import { ArchiveWriter, databaseName, type FileToArchive, keyName } from './archive.ts';
import { contentsOf } from './contents.ts';

export { ArchiveRefused, type Manifest, readArchive } from './archive.ts';
export { restore } from './restore.ts';
export { type Verification, verify } from './verify.ts';

export interface BackupNeeds {
  /** The data folder. */
  folder: string;
  bytes: FileBytes;
  now(): number;
  version: string;
}

/** What lies in the data folder beside the database and the contents, and cannot be made again. */
const grown = ['logs', 'activities'];
const written = ['datastores'];
/** Of who has the key: the authority's own lies there. */
const secret = ['authority'];

export class Backups {
  readonly #needs: BackupNeeds;
  /** Copies of the database, while they are sent. */
  readonly #copies: string;

  constructor(needs: BackupNeeds) {
    this.#needs = needs;
    this.#copies = join(needs.folder, 'backups', 'sending');
    rmSync(this.#copies, { recursive: true, force: true }); // of a server that was killed
  }

  async create({ withoutKey = false }: CheckedOf<'server', 'backup'>): Promise<Download> {
    const { folder, bytes, now } = this.#needs;
    const hold = bytes.holdRemovals();
    mkdirSync(this.#copies, { recursive: true, mode: 0o700 });
    const copy = join(this.#copies, `${randomUUID()}.db`);
    const end = async () => {
      hold[Symbol.dispose]();
      for (const file of [copy, `${copy}-wal`, `${copy}-shm`]) await rm(file, { force: true });
    };
    try {
      const createdAt = new Date(now()).toISOString();
      await copyDatabase(join(folder, databaseName), copy);
      const files = await this.#filesBeside(withoutKey);
      await this.#requireContents(copy);
      const stream = Readable.from(this.#archive(copy, files, createdAt, end), { objectMode: false });
      // One that is never read does not begin, and so does not end by itself.
      stream.once('close', () => void end());
      const filename = `stellwerk-${createdAt.slice(0, 19).replaceAll(':', '')}.tar`;
      return { stream, contentType: 'application/x-tar', filename };
    } catch (error) {
      await end();
      throw error;
    }
  }

  async *#archive(
    copy: string,
    files: readonly FileToArchive[],
    createdAt: string,
    end: () => Promise<void>,
  ): AsyncGenerator<Buffer> {
    const { folder, bytes, version } = this.#needs;
    const writer = new ArchiveWriter();
    try {
      yield* writer.add({ path: databaseName, file: copy });
      for (const file of files) yield* writer.add(file);
      for (const { digest } of contentsIn(copy)) {
        const hex = digest.slice('sha256:'.length);
        const path = `blobs/sha256/${hex.slice(0, 2)}/${hex}`;
        yield* writer.add({ path, file: bytes.path(digest as Digest), digest });
      }
      yield* writer.end({ version, createdAt, data: folder });
    } finally {
      await end();
    }
  }

  /** Right after the copy of the database was made: what grows is at least as long as the copy knows. */
  async #filesBeside(withoutKey: boolean): Promise<FileToArchive[]> {
    const { folder } = this.#needs;
    const files: FileToArchive[] = withoutKey ? [] : [{ path: keyName, file: join(folder, keyName) }];
    for (const top of [...grown, ...written, ...(withoutKey ? [] : secret)]) {
      for await (const path of filesBelow(folder, top)) {
        const file = join(folder, path);
        const found = grown.includes(top) ? await stat(file).catch(() => undefined) : undefined;
        if (!grown.includes(top)) files.push({ path, file });
        else if (found) files.push({ path, file, sizeBytes: found.size });
      }
    }
    return files;
  }

  /** Before a byte is sent: an archive that breaks off tells nobody why. */
  async #requireContents(copy: string): Promise<void> {
    const { bytes } = this.#needs;
    for (const { digest, sizeBytes } of contentsIn(copy)) {
      const found = await bytes.sizeOf(digest as Digest).catch(() => undefined);
      if (found !== sizeBytes)
        throw new ServiceError(
          'failed-precondition',
          'server.damaged',
          `The content ${digest} ${found === undefined ? 'is missing' : `has ${found} bytes, not ${sizeBytes}`}: what the server keeps is not whole, and a backup of it would not be either.`,
        );
    }
  }
}

function* contentsIn(copy: string): Generator<{ digest: string; sizeBytes: number }> {
  const database = new DatabaseSync(copy, { readOnly: true });
  try {
    yield* contentsOf(database);
  } finally {
    database.close();
  }
}

/** Paths of the regular files; what is still being written to a datastore is none of them. */
async function* filesBelow(folder: string, path: string): AsyncGenerator<string> {
  const entries = await readdir(join(folder, path), { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const entry of entries) {
    if (entry.name === '.stellwerk-partial') continue;
    if (entry.isDirectory()) yield* filesBelow(folder, `${path}/${entry.name}`);
    else if (entry.isFile()) yield `${path}/${entry.name}`;
  }
}
