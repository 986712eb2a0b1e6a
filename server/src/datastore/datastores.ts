// Named storage of a workspace: files go up and down, and runs get them by data reference. Each workspace has a default datastore.
// Invariants: a file is seen whole or not at all; nothing outside of the datastore is ever opened, whatever the path says; a run's
// token reads and writes only what its run's data references name.
import type { Datastore, DatastoreFile } from '@stellwerk/contract/datastore.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath } from '@stellwerk/contract/paths.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import type { Caller, RunCaller } from '../access/access.ts';
import { type Asked, type Download, downloadOf } from '../blob/download.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import type { Content, DatastoreDriver } from './driver.ts';
import { kinds } from './kinds.ts';
import { type DatastoreRow, datastoreTransactions } from './store.ts';

export interface DatastoreNeeds {
  db: Database;
  now(): number;
  /** Where the default datastores of the workspaces lie. */
  folderOf(workspace: string): string;
  /** A content that was uploaded to the workspace. */
  contentOf(workspace: string, digest: string, caller: Caller): Promise<Content>;
  /** Whether the data references of the caller's run name the path for reading, or for writing. */
  mayUse(caller: RunCaller, datastore: string, path: string, way: 'read' | 'write'): Promise<boolean>;
}

interface Place {
  workspace: string;
  datastore: string;
}

export class Datastores {
  readonly #needs: DatastoreNeeds;
  readonly #drivers = new Map<string, DatastoreDriver>();

  constructor(needs: DatastoreNeeds) {
    this.#needs = needs;
  }

  async list(input: CheckedOf<'datastores', 'list'>): Promise<OutputOf<'datastores', 'list'>> {
    const after = keyOf(input, 1);
    let query = sql
      .selectFrom('datastore')
      .selectAll()
      .where('workspace', '=', input.workspace)
      .orderBy('name')
      .limit(rowsFor(input));
    if (after) query = query.where('name', '>', String(after[0]));
    return pageFrom(await this.#needs.db.all(query), input, shown, (row) => [row.name]);
  }

  async get(input: CheckedOf<'datastores', 'get'>): Promise<Datastore> {
    return shown(await this.#row(input));
  }

  async listFiles(
    input: CheckedOf<'datastores', 'listFiles'>,
    caller: Caller,
  ): Promise<OutputOf<'datastores', 'listFiles'>> {
    const prefix = (input.prefix ?? '').replace(/\/$/, '');
    if (prefix !== '') checkPath(prefix);
    await this.#permit(input, caller, prefix, 'read');
    const driver = await this.#driver(input);
    const files: DatastoreFile[] = [];
    for await (const file of driver.list(prefix, String(keyOf(input, 1)?.[0] ?? ''))) {
      files.push(file);
      if (files.length === rowsFor(input)) break;
    }
    return pageFrom(
      files,
      input,
      (file) => file,
      (file) => [file.path],
    );
  }

  async putFile(input: CheckedOf<'datastores', 'putFile'>, caller: Caller): Promise<DatastoreFile> {
    const path = checkPath(input.path);
    await this.#permit(input, caller, path, 'write');
    const driver = await this.#driver(input);
    const content = await this.#needs.contentOf(input.workspace, input.digest, caller);
    const written = await driver.write(path, content, input.overwrite);
    if (written !== 'taken') return written;
    throw new ServiceError(
      'conflict',
      'datastore.path-taken',
      `The path ${JSON.stringify(path)} of the datastore ${input.datastore} is taken by another file or a folder.`,
    );
  }

  async getFile(input: CheckedOf<'datastores', 'getFile'>, caller: Caller, asked?: Asked): Promise<Download> {
    const path = checkPath(input.path);
    await this.#permit(input, caller, path, 'read');
    const file = await (await this.#driver(input)).open(path);
    if (!file) throw noFile(input, path);
    const filename = path.slice(path.lastIndexOf('/') + 1);
    if (file.sizeBytes === 0) await file.close();
    return downloadOf({ sizeBytes: file.sizeBytes, etag: file.etag, filename }, asked, file.read);
  }

  async deleteFiles(input: CheckedOf<'datastores', 'deleteFiles'>): Promise<OutputOf<'datastores', 'deleteFiles'>> {
    const path = checkPath(input.path.replace(/(?<=.)\/$/, ''));
    const deleted = await (await this.#driver(input)).delete(path);
    if (deleted === 0) throw noFile(input, path);
    return { deleted };
  }

  /** The default datastore of a new workspace. Safe to repeat. */
  async createDefault(workspace: string, name: string): Promise<void> {
    await this.#needs.db.transact(datastoreTransactions.insertDefault, {
      workspace,
      name,
      kind: 'local',
      settings: '{}',
      is_default: 1,
      created_at: new Date(this.#needs.now()).toISOString(),
    });
  }

  /** Removes the default datastore's files when its workspace is gone. Safe to repeat. */
  async destroyDefault(workspace: string): Promise<void> {
    await kinds.local({ folder: this.#needs.folderOf(workspace) }).destroy();
    for (const key of [...this.#drivers.keys()]) if (key.startsWith(keyFor(workspace, ''))) this.#drivers.delete(key);
  }

  async #row({ workspace, datastore }: Place): Promise<DatastoreRow> {
    const row = await this.#needs.db.first(
      sql.selectFrom('datastore').selectAll().where('workspace', '=', workspace).where('name', '=', datastore),
    );
    if (row) return row;
    throw new ServiceError(
      'not-found',
      'datastore.not-found',
      `There is no datastore ${datastore} in the workspace ${workspace}.`,
    );
  }

  /** One driver for each datastore: it may look after what is unfinished in it. */
  async #driver(place: Place): Promise<DatastoreDriver> {
    const row = await this.#row(place);
    const key = keyFor(row.workspace, row.name);
    const driver = this.#drivers.get(key) ?? kinds[row.kind]({ folder: this.#needs.folderOf(row.workspace) });
    this.#drivers.set(key, driver);
    return driver;
  }

  async #permit(place: Place, caller: Caller, path: string, way: 'read' | 'write'): Promise<void> {
    if (caller.kind !== 'run') return;
    if (await this.#needs.mayUse(caller, place.datastore, path, way)) return;
    throw new ServiceError(
      'permission-denied',
      'access.run-token-scope',
      `The data references of the run ${caller.run} do not let it ${way} ${JSON.stringify(path)} in the datastore ${place.datastore}.`,
    );
  }
}

function keyFor(workspace: string, name: string): string {
  return `${workspace}/${name}`.toLowerCase();
}

function shown(row: DatastoreRow): Datastore {
  return { name: row.name, kind: row.kind, isDefault: row.is_default === 1, createdAt: row.created_at };
}

function noFile({ datastore }: Place, path: string): ServiceError {
  return new ServiceError(
    'not-found',
    'datastore.file-not-found',
    `There is no ${JSON.stringify(path)} in the datastore ${datastore}.`,
  );
}
