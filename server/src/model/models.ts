// The model registry: models by name and version, from the files of a run or from outside; found, downloaded, and deleted unless used.
// Invariants: a version, once returned, never changes its bytes or its number, and its number is never given again; an alias
// points at one version; properties are set once; a model that an image uses cannot be deleted; what is deleted lies in the trash first;
// a run's token registers only from its run and what descends from it.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Model } from '@stellwerk/contract/model.ts';
import { checkPath } from '@stellwerk/contract/paths.ts';
import type { TrashEntry } from '@stellwerk/contract/trash.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { type Caller, nameOf } from '../access/access.ts';
import { downloadArchive } from '../blob/archive.ts';
import type { Bytes } from '../blob/bytes.ts';
import { type Asked, type Download, downloadContent } from '../blob/download.ts';
import type { Database } from '../db/database.ts';
import { pageFrom } from '../db/paging.ts';
import type { Discarded, Trash } from '../trash/trash.ts';
import { modelSearches } from './search.ts';
import { type FilesOf, modelFiles } from './source.ts';
import { type FileOfModel, type ModelRecord, modelReadings, modelTransactions } from './store.ts';

export { releaseModels, useModels } from './store.ts';

export interface ModelNeeds {
  stores: { db: Database; bytes: Bytes; trash: Pick<Trash, 'disposal' | 'discarded'> };
  now(): number;
  /** The size of a content that the workspace has. */
  /** Undefined where the caller has no such content in the workspace. */
  sizeOf(workspace: string, digest: string, caller: Caller): Promise<number | undefined>;
  filesOf: FilesOf;
  /** Whether a run is the other one, or descends from it. */
  within(workspace: string, ancestor: string, run: string): Promise<boolean>;
}

type Nothing = Record<string, never>;

export class Models {
  readonly #needs: ModelNeeds;

  constructor(needs: ModelNeeds) {
    this.#needs = needs;
  }

  async register(input: CheckedOf<'models', 'register'>, caller: Caller): Promise<Model> {
    if (caller.kind === 'run') await this.#permit(input.workspace, caller.run, input.run);
    const { filesOf, sizeOf } = this.#needs;
    const source = await modelFiles(input, filesOf, (workspace, digest) => sizeOf(workspace, digest, caller));
    const record = await this.#needs.stores.db.transact(modelTransactions.register, {
      row: {
        workspace: input.workspace,
        name: input.name,
        description: input.description ?? null,
        framework: input.framework ?? null,
        framework_version: input.frameworkVersion ?? null,
        run: input.run ?? null,
        experiment: source.experiment ?? null,
        path: input.path ?? null,
        is_folder: Number(source.isFolder),
        file_count: source.files.length,
        size_bytes: source.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
        created_at: new Date(this.#needs.now()).toISOString(),
        created_by: nameOf(caller),
      },
      files: source.files,
      tags: Object.entries(input.tags ?? {}),
      properties: Object.entries(input.properties ?? {}),
    });
    return { ...shown(record), files: source.files, images: [] };
  }

  /** A run's token finds the models of its run and what descends from it; of its run, unless another one is named. */
  async list(input: CheckedOf<'models', 'list'>, caller: Caller): Promise<OutputOf<'models', 'list'>> {
    const search = caller.kind === 'run' ? { ...input, run: input.run ?? caller.run } : input;
    if (caller.kind === 'run') await this.#permit(input.workspace, caller.run, search.run);
    const records = await this.#needs.stores.db.transact(modelSearches.list, search);
    return pageFrom(records, input, shown, ({ row }) => [row.key]);
  }

  async get(input: CheckedOf<'models', 'get'>): Promise<Model> {
    const { files, images, ...record } = await this.#details(input);
    return { ...shown(record), files, images };
  }

  async update(input: CheckedOf<'models', 'update'>): Promise<Model> {
    const { workspace, name, version, description } = input;
    await this.#needs.stores.db.transact(modelTransactions.update, {
      workspace,
      name,
      version,
      description,
      tags: Object.entries(input.tags ?? {}),
      properties: Object.entries(input.properties ?? {}),
    });
    return this.get({ workspace, name, version });
  }

  async delete({ workspace, name, version }: CheckedOf<'models', 'delete'>, caller: Caller): Promise<TrashEntry> {
    const { db, trash } = this.#needs.stores;
    const disposal = trash.disposal(nameOf(caller));
    return trash.discarded(await db.transact(modelTransactions.discard, { workspace, name, version, disposal }));
  }

  archive(input: CheckedOf<'models', 'archive'>): Promise<Model> {
    return this.#archive(input, new Date(this.#needs.now()).toISOString());
  }

  reactivate(input: CheckedOf<'models', 'reactivate'>): Promise<Model> {
    return this.#archive(input, null);
  }

  async #archive({ workspace, name, version }: CheckedOf<'models', 'archive'>, at: string | null): Promise<Model> {
    const row = await this.#needs.stores.db.transact(modelTransactions.archive, { workspace, name, version, at });
    return this.get({ workspace, name: row.name, version: String(row.version) });
  }

  /** For the trash. */
  get discarded(): Discarded {
    const { db } = this.#needs.stores;
    return {
      restore: (entry) => db.transact(modelTransactions.restore, { entry }),
      remove: (entry) => db.transact(modelTransactions.remove, { entry }),
    };
  }

  /** The files of the models in an entry of the trash. */
  filesInTrash(entry: number): Promise<FileOfModel[][]> {
    return this.#needs.stores.db.transact(modelReadings.trashed, { entry });
  }

  async getFile(input: CheckedOf<'models', 'getFile'>, _caller?: unknown, asked?: Asked): Promise<Download> {
    const path = checkPath(input.path);
    const { row, files } = await this.#details(input);
    const file = files.find((one) => one.path === path);
    if (file) return downloadContent(this.#needs.stores.bytes, file, asked);
    throw new ServiceError(
      'not-found',
      'model.file-not-found',
      `There is no file ${JSON.stringify(path)} in the model ${row.name}:${row.version}.`,
    );
  }

  async download(input: CheckedOf<'models', 'download'>, _caller?: unknown, asked?: Asked): Promise<Download> {
    const { row, files } = await this.#details(input);
    const filename = `${row.name}-${row.version}.zip`;
    return downloadArchive(this.#needs.stores.bytes, files, { filename, compress: false, signal: asked?.signal });
  }

  async setAlias(input: CheckedOf<'models', 'setAlias'>): Promise<Model> {
    const { workspace, name, alias, version } = input;
    if (alias.toLowerCase() === 'latest')
      throw new ServiceError(
        'invalid-argument',
        'request.invalid',
        'The alias `latest` always means the latest version and cannot be set.',
      );
    await this.#needs.stores.db.transact(modelTransactions.setAlias, { workspace, name, alias, version });
    return this.get({ workspace, name, version: String(version) });
  }

  async deleteAlias({ workspace, name, alias }: CheckedOf<'models', 'deleteAlias'>): Promise<Nothing> {
    await this.#needs.stores.db.transact(modelTransactions.deleteAlias, { workspace, name, alias });
    return {};
  }

  /** The model of a reference: `name:version`, `name:alias`, or a name for its latest version. With its files. */
  async require(workspace: string, reference: string): Promise<Model> {
    const { name, version } = await this.#needs.stores.db.transact(modelReadings.resolve, { workspace, reference });
    return this.get({ workspace, name, version: String(version) });
  }

  #details({ workspace, name, version }: CheckedOf<'models', 'get'>) {
    return this.#needs.stores.db.transact(modelReadings.get, { workspace, name, version });
  }

  async #permit(workspace: string, own: string, run: string | undefined): Promise<void> {
    if (run !== undefined && (run === own || (await this.#needs.within(workspace, own, run)))) return;
    throw new ServiceError(
      'permission-denied',
      'access.run-token-scope',
      `The token of the run ${own} reaches models of that run and of runs that descend from it only.`,
    );
  }
}

function shown({ row, tags, properties, aliases }: ModelRecord): Model {
  return {
    name: row.name,
    version: row.version,
    id: `${row.name}:${row.version}`,
    ...(row.description !== null && { description: row.description }),
    ...(row.framework !== null && { framework: row.framework }),
    ...(row.framework_version !== null && { frameworkVersion: row.framework_version }),
    tags: Object.fromEntries(tags),
    properties: Object.fromEntries(properties),
    aliases,
    ...(row.run !== null && { run: row.run }),
    ...(row.experiment !== null && { experiment: row.experiment }),
    ...(row.path !== null && { path: row.path }),
    isFolder: row.is_folder === 1,
    fileCount: row.file_count,
    sizeBytes: row.size_bytes,
    createdAt: row.created_at,
    createdBy: row.created_by,
    ...(row.archived_at !== null && { archivedAt: row.archived_at }),
  };
}
