// Whether an installation is whole: its database, every content that it refers to, logs, datastores and the key. Reads only, so it may
// be asked while the server runs on the same folder. What is wrong is named, with what to do.
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { access, constants, readdir, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { missingParts } from '../db/expected-schema.ts';
import { appliedTo, type Migration } from '../db/migrations.ts';
import { parseListing } from '../snapshot/listing.ts';
import { logFile } from '../telemetry/logs.ts';
import { databaseName, keyName } from './archive.ts';
import { contentsOf, type HeldContent } from './contents.ts';

export interface Problem {
  what: string;
  hint: string;
}

export interface Verification {
  contents: { count: number; sizeBytes: number };
  references: number;
  snapshots: number;
  logs: number;
  datastoreFiles: number;
  problems: Problem[];
}

export interface VerifyOptions {
  data: string;
  /** Without, only that each content is there in its size. */
  hashes?: boolean;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

interface LogRow {
  key: number;
  workspace: string;
  id: string;
  name: string;
  complete: number;
  size_bytes: number;
}

const again = 'Restore a backup, or delete what uses it.';
const keyBytes = 32;
/** SQLITE_CORRUPT, SQLITE_NOTADB. */
const damagedCodes = new Set([11, 26]);

export async function verify(options: VerifyOptions, migrations: readonly Migration[]): Promise<Verification> {
  const data = resolve(options.data);
  const file = join(data, databaseName);
  if (!existsSync(file)) throw new Error(`There is no installation in ${data}: it has no ${databaseName}.`);
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    return await new Verifier(data, database, options).run(migrations);
  } finally {
    database.close();
  }
}

class Verifier {
  readonly #data: string;
  readonly #database: DatabaseSync;
  readonly #options: VerifyOptions;
  readonly #problems: Problem[] = [];

  constructor(data: string, database: DatabaseSync, options: VerifyOptions) {
    this.#data = data;
    this.#database = database;
    this.#options = options;
  }

  async run(migrations: readonly Migration[]): Promise<Verification> {
    const seen = { contents: { count: 0, sizeBytes: 0 }, references: 0, snapshots: 0, logs: 0 };
    await this.#checkKey();
    try {
      this.#database.exec('PRAGMA busy_timeout = 5000');
      if (this.#checkDatabase(migrations)) {
        seen.contents = await this.#checkContents();
        seen.references = this.#checkReferences();
        seen.snapshots = await this.#checkSnapshots();
        seen.logs = await this.#checkLogs();
      }
    } catch (error) {
      if (!damagedCodes.has((error as { errcode?: number }).errcode ?? 0)) throw error;
      this.#say(`The database is damaged: ${(error as Error).message}.`, 'Stop the server and restore a backup.');
    }
    const datastoreFiles = await this.#checkFiles(join(this.#data, 'datastores'));
    return { ...seen, datastoreFiles, problems: this.#problems };
  }

  #say(what: string, hint: string): void {
    this.#problems.push({ what, hint });
  }

  #rows<Row>(sql: string, ...parameters: string[]): Row[] {
    return this.#database.prepare(sql).all(...parameters) as unknown as Row[];
  }

  /** Whether more can be read from it. */
  #checkDatabase(migrations: readonly Migration[]): boolean {
    const applied = new Set(appliedTo(this.#database, migrations));
    const known = migrations.filter(({ name }) => applied.has(name));
    const flaws = this.#rows<{ integrity_check: string }>('PRAGMA integrity_check(20)').map(
      (row) => row.integrity_check,
    );
    for (const flaw of flaws.filter((text) => text !== 'ok'))
      this.#say(`The database is damaged: ${flaw}.`, 'Stop the server and restore a backup.');
    for (const { table, parent } of this.#rows<{ table: string; parent: string }>('PRAGMA foreign_key_check'))
      this.#say(`A row of ${table} refers to one of ${parent} that is not there.`, 'Restore a backup.');
    const missing = missingParts(this.#database, known);
    for (const { type, name } of missing)
      this.#say(
        `The ${type} ${name} is missing in the database.`,
        type === 'index' ? 'Start the server again: it makes the index again.' : 'Restore a backup.',
      );
    if (known.length < migrations.length)
      this.#say(
        'The data folder is of an older version of Stellwerk; what its database refers to was not looked at.',
        'Start the server, which brings it up to date, and verify again; or verify with the version that wrote it.',
      );
    return migrations.length === known.length && !missing.some(({ type }) => type === 'table');
  }

  async #checkKey(): Promise<void> {
    const file = join(this.#data, keyName);
    const hint = 'Put the key from a backup there; without it no secret can be read.';
    const key = await readFile(file).catch(() => undefined);
    if (!key) return this.#say(`The master key ${file} is missing.`, hint);
    if (key.length !== keyBytes) this.#say(`The master key ${file} has ${key.length} bytes, not ${keyBytes}.`, hint);
    const { mode } = await stat(file);
    if ((mode & 0o077) !== 0) this.#say(`Others can read the master key ${file}.`, `Close it: chmod 600 ${file}`);
  }

  async #checkContents(): Promise<Verification['contents']> {
    const sum = this.#rows<{ count: number; size: number }>(
      'SELECT count(*) AS count, coalesce(sum(size), 0) AS size FROM (SELECT max(size_bytes) AS size FROM blob_held GROUP BY digest)',
    )[0]!;
    const done = { count: 0, sizeBytes: 0 };
    for (const content of contentsOf(this.#database)) {
      const flaw = await this.#flawOf(content);
      // One that was collected since the page was read is no loss.
      if (flaw && this.#rows('SELECT 1 FROM blob_held WHERE digest = ?', content.digest).length > 0)
        this.#say(`The content ${content.digest} ${flaw}. It is used by ${this.#usersOf(content.digest)}.`, again);
      done.count++;
      done.sizeBytes += content.sizeBytes;
      this.#options.onProgress?.(done.sizeBytes, sum.size);
    }
    return done;
  }

  async #flawOf({ digest, sizeBytes }: HeldContent): Promise<string | undefined> {
    const file = this.#fileOf(digest);
    const found = await stat(file).catch(() => undefined);
    if (!found) return 'is missing';
    if (found.size !== sizeBytes) return `has ${found.size} bytes, not ${sizeBytes}`;
    if (this.#options.hashes === false) return undefined;
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
    return `sha256:${hash.digest('hex')}` === digest ? undefined : 'is damaged: its bytes have another digest';
  }

  #fileOf(digest: string): string {
    const hex = digest.slice('sha256:'.length);
    return join(this.#data, 'blobs', 'sha256', hex.slice(0, 2), hex);
  }

  #usersOf(digest: string): string {
    const users = this.#rows<{ workspace: string; owner_kind: string; owner_id: string }>(
      'SELECT workspace, owner_kind, owner_id FROM blob_ref WHERE digest = ? LIMIT 5',
      digest,
    );
    const named = users.map(({ workspace, owner_kind, owner_id }) => `${owner_kind} ${owner_id} in ${workspace}`);
    return named.length > 0 ? named.join(', ') : 'nothing that refers to it by itself';
  }

  /** What is referred to must be held by the workspace that refers to it. */
  #checkReferences(): number {
    const loose = this.#rows<{ workspace: string; digest: string; owner_kind: string; owner_id: string }>(
      `SELECT r.* FROM blob_ref r LEFT JOIN blob_held h ON h.workspace = r.workspace AND h.digest = r.digest
       WHERE h.digest IS NULL LIMIT 100`,
    );
    for (const { workspace, digest, owner_kind, owner_id } of loose)
      this.#say(`The ${owner_kind} ${owner_id} of ${workspace} refers to ${digest}, which is not there.`, again);
    const files = this.#rows<{ workspace: string; id: string; path: string; digest: string }>(
      `SELECT r.workspace, r.id, f.path, f.digest FROM run_file f JOIN run r ON r.key = f.run_key
       LEFT JOIN blob_held h ON h.workspace = r.workspace AND h.digest = f.digest WHERE h.digest IS NULL LIMIT 100`,
    );
    for (const { workspace, id, path, digest } of files)
      this.#say(`The file ${path} of the run ${id} of ${workspace} is ${digest}, which is not there.`, again);
    return this.#rows<{ count: number }>('SELECT count(*) AS count FROM blob_ref')[0]!.count;
  }

  /** A snapshot's files are referred to through its listing. */
  async #checkSnapshots(): Promise<number> {
    const snapshots = this.#rows<{ workspace: string; digest: string }>(
      'SELECT workspace, digest FROM snapshot WHERE complete = 1',
    );
    const held = this.#database.prepare('SELECT 1 FROM blob_held WHERE workspace = ? AND digest = ?');
    for (const { workspace, digest } of snapshots) {
      const listing = await readFile(this.#fileOf(digest), 'utf8').catch(() => undefined);
      if (listing === undefined) continue; // named among the contents
      for (const file of parseListing(listing))
        if (!held.get(workspace, file.digest))
          this.#say(`The file ${file.path} of the snapshot ${digest} of ${workspace} is not there.`, again);
    }
    return snapshots.length;
  }

  /** A log grows; it is never shorter than what was written down of it. */
  async #checkLogs(): Promise<number> {
    const logs = this.#rows<LogRow>(
      'SELECT r.key, r.workspace, r.id, l.name, l.complete, l.size_bytes FROM run_log l JOIN run r ON r.key = l.run_key',
    );
    // Of a run that is removed meanwhile nothing is lost: its logs go before its rows.
    const still = this.#database.prepare(
      `SELECT 1 FROM run_log l JOIN run r ON r.key = l.run_key LEFT JOIN trash t ON t.id = r.trash
       WHERE l.run_key = ? AND l.name = ? AND t.state IS NOT 'going'`,
    );
    for (const { key, workspace, id, name, complete, size_bytes } of logs) {
      const found = await stat(logFile(join(this.#data, 'logs'), workspace, id, name)).catch(() => undefined);
      const isWhole = found ? found.size >= size_bytes : size_bytes === 0 && !complete;
      if (isWhole || !still.get(key, name)) continue;
      const flaw = found ? `has ${found.size} bytes; ${size_bytes} had been kept` : 'is missing';
      this.#say(`The log ${name} of the run ${id} of ${workspace} ${flaw}.`, 'Restore a backup.');
    }
    return logs.length;
  }

  /** Of datastores nothing is written down: what is there must be readable. */
  async #checkFiles(folder: string): Promise<number> {
    let count = 0;
    const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') this.#say(`The folder ${folder} cannot be read.`, 'Give it back to the server.');
      return [];
    });
    for (const entry of entries) {
      const place = join(folder, entry.name);
      if (entry.isDirectory()) count += await this.#checkFiles(place);
      else if (
        await access(place, constants.R_OK).then(
          () => false,
          () => true,
        )
      )
        this.#say(`The file ${place} cannot be read.`, 'Give it back to the server.');
      else count++;
    }
    return count;
  }
}
