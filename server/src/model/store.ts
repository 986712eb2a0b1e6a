// Rows of models: a version is a row with a key of its own; tags and properties are rows too, to be searched by.
// Invariants: a name's versions count up and none is given twice, not even after it was deleted; what an image uses stays.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import { addReferences, removeReferences } from '../blob/blobs.ts';
import type { Migration } from '../db/migrations.ts';
import { readings, sql, type Transaction, transactions } from '../db/transactions.ts';
import { comeBack, type Disposal, discard, dropEntry, entryRow, type TrashRow } from '../trash/trash.ts';

export interface ModelRow {
  key: number;
  workspace: string;
  name: string;
  version: number;
  description: string | null;
  framework: string | null;
  framework_version: string | null;
  run: string | null;
  experiment: string | null;
  path: string | null;
  is_folder: number;
  file_count: number;
  size_bytes: number;
  created_at: string;
  created_by: string;
  archived_at: string | null;
  /** The entry of the trash it lies in. */
  trash: number | null;
}

export interface FileOfModel {
  path: string;
  digest: string;
  sizeBytes: number;
}

declare module '../db/schema.ts' {
  interface Schema {
    model_name: { workspace: string; name: string; last_version: number };
    model: ModelRow;
    /** JSON of FileOfModel[]. */
    model_files: { model: number; files: string };
    model_tag: { model: number; workspace: string; key: string; value: string };
    model_property: { model: number; key: string; value: string };
    model_alias: { workspace: string; name: string; alias: string; version: number };
    model_use: { workspace: string; name: string; version: number; image: string };
  }
}

export const modelMigrations: Migration[] = [
  {
    name: '0009-model',
    up: `
      CREATE TABLE model_name (
        workspace TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL, last_version INTEGER NOT NULL, PRIMARY KEY (workspace, name)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE model (
        key INTEGER PRIMARY KEY AUTOINCREMENT, workspace TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL, version INTEGER NOT NULL,
        description TEXT, framework TEXT COLLATE NOCASE, framework_version TEXT, run TEXT, experiment TEXT, path TEXT, is_folder INTEGER NOT NULL,
        file_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
        UNIQUE (workspace, name, version)
      ) STRICT;
      CREATE INDEX model_by_workspace ON model (workspace, key);
      CREATE INDEX model_by_name ON model (workspace, name, key);
      CREATE INDEX model_by_run ON model (workspace, run, key) WHERE run IS NOT NULL;
      CREATE INDEX model_by_framework ON model (workspace, framework, key) WHERE framework IS NOT NULL;
      CREATE TABLE model_files (model INTEGER PRIMARY KEY REFERENCES model ON DELETE CASCADE, files TEXT NOT NULL) STRICT;
      CREATE TABLE model_tag (
        model INTEGER NOT NULL REFERENCES model ON DELETE CASCADE, workspace TEXT NOT NULL COLLATE NOCASE, key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (model, key)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX model_by_tag ON model_tag (workspace, key, value, model);
      CREATE TABLE model_property (
        model INTEGER NOT NULL REFERENCES model ON DELETE CASCADE, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (model, key)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE model_alias (
        workspace TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (workspace, name, alias)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE model_use (
        workspace TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL, version INTEGER NOT NULL, image TEXT NOT NULL,
        PRIMARY KEY (workspace, name, version, image)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX model_use_by_image ON model_use (workspace, image);
    `,
  },
  {
    name: '0036-model-trash',
    up: `
      ALTER TABLE model ADD COLUMN archived_at TEXT;
      ALTER TABLE model ADD COLUMN trash INTEGER;
      CREATE INDEX model_by_trash ON model (trash) WHERE trash IS NOT NULL;
    `,
  },
];

/** A model as it is told, without files and images. */
export interface ModelRecord {
  row: ModelRow;
  tags: [string, string][];
  properties: [string, string][];
  aliases: string[];
}

export interface ModelVersion {
  name: string;
  version: number;
}

/** `version`: a number, `v` and a number, an alias, or `latest`. Undefined if there is none. */
export function findModel(tx: Transaction, workspace: string, name: string, version: string): ModelRow | undefined {
  const named = sql.selectFrom('model').selectAll().where('workspace', '=', workspace).where('name', '=', name);
  if (version === 'latest') return tx.first(named.where('trash', 'is', null).orderBy('version', 'desc').limit(1));
  const number = /^v?(\d{1,15})$/i.exec(version)?.[1];
  if (number !== undefined) return tx.first(named.where('version', '=', Number(number)));
  const alias = sql
    .selectFrom('model_alias')
    .select('version')
    .where('workspace', '=', workspace)
    .where('name', '=', name)
    .where('alias', '=', version);
  return tx.first(named.where('version', '=', alias));
}

export function modelNamed(tx: Transaction, workspace: string, name: string, version: string): ModelRow {
  const row = findModel(tx, workspace, name, version);
  if (row?.trash === null) return row;
  if (row)
    throw new ServiceError(
      'not-found',
      'model.in-trash',
      `The model ${name}:${row.version} of the workspace ${workspace} lies in the trash, in the entry ${row.trash}.`,
      { entry: row.trash },
    );
  throw new ServiceError(
    'not-found',
    'model.not-found',
    `There is no model ${name}:${version} in the workspace ${workspace}.`,
  );
}

export function recordOf(tx: Transaction, row: ModelRow): ModelRecord {
  const pairs = (table: string) =>
    tx
      .statement<{ key: string; value: string }>(`SELECT key, value FROM ${table} WHERE model = ? ORDER BY key`)
      .all(row.key)
      .map(({ key, value }): [string, string] => [key, value]);
  const aliases = tx
    .statement<{ alias: string }>(
      'SELECT alias FROM model_alias WHERE workspace = ? AND name = ? AND version = ? ORDER BY alias',
    )
    .all(row.workspace, row.name, row.version);
  return {
    row,
    tags: pairs('model_tag'),
    properties: pairs('model_property'),
    aliases: aliases.map(({ alias }) => alias),
  };
}

export function filesOfModel(tx: Transaction, key: number): FileOfModel[] {
  const found = tx.first(sql.selectFrom('model_files').select('files').where('model', '=', key));
  return JSON.parse(found?.files ?? '[]');
}

export function imagesUsing(tx: Transaction, { workspace, name, version }: ModelRow): string[] {
  const uses = sql
    .selectFrom('model_use')
    .select('image')
    .where('workspace', '=', workspace)
    .where('name', '=', name)
    .where('version', '=', version)
    .orderBy('image');
  return tx.all(uses).map(({ image }) => image);
}

/** For the image room, in its own transaction: from now on the models cannot be deleted. Refused if one is not there any more. */
export function useModels(tx: Transaction, workspace: string, image: string, models: readonly ModelVersion[]): void {
  for (const { name, version } of models) {
    modelNamed(tx, workspace, name, String(version));
    tx.run(
      sql
        .insertInto('model_use')
        .values({ workspace, name, version, image })
        .onConflict((conflict) => conflict.doNothing()),
    );
  }
}

/** For the image room, in its own transaction: the image is gone. */
export function releaseModels(tx: Transaction, workspace: string, image: string): void {
  tx.run(sql.deleteFrom('model_use').where('workspace', '=', workspace).where('image', '=', image));
}

const ownerOf = (row: Pick<ModelRow, 'key'>) => ({ kind: 'model', id: String(row.key) });

export interface Registration {
  row: Omit<ModelRow, 'key' | 'version' | 'archived_at' | 'trash'>;
  files: FileOfModel[];
  tags: [string, string][];
  properties: [string, string][];
}

export interface ModelChange {
  workspace: string;
  name: string;
  version: string;
  description?: string | undefined;
  /** null removes one. */
  tags: [string, string | null][];
  properties: [string, string][];
}

export const modelTransactions = transactions('model', {
  register(tx: Transaction, { row, files, tags, properties }: Registration): ModelRecord {
    const { last_version: version } = tx
      .statement<{ last_version: number }>(
        `INSERT INTO model_name (workspace, name, last_version) VALUES (?, ?, 1)
         ON CONFLICT (workspace, name) DO UPDATE SET last_version = last_version + 1 RETURNING last_version`,
      )
      .get(row.workspace, row.name)!;
    tx.run(sql.insertInto('model').values({ ...row, version, archived_at: null, trash: null } as ModelRow));
    const inserted = modelNamed(tx, row.workspace, row.name, String(version));
    tx.run(sql.insertInto('model_files').values({ model: inserted.key, files: JSON.stringify(files) }));
    addReferences(tx, row.workspace, ownerOf(inserted), [...new Set(files.map(({ digest }) => digest))]);
    setTags(tx, inserted, tags);
    setProperties(tx, inserted, properties);
    return recordOf(tx, inserted);
  },

  update(tx: Transaction, { workspace, name, version, description, tags, properties }: ModelChange): ModelRecord {
    const row = modelNamed(tx, workspace, name, version);
    if (description !== undefined) tx.run(sql.updateTable('model').set({ description }).where('key', '=', row.key));
    setTags(tx, row, tags);
    setProperties(tx, row, properties);
    return recordOf(tx, modelNamed(tx, workspace, name, String(row.version)));
  },

  discard(
    tx: Transaction,
    { workspace, name, version, disposal }: { workspace: string; name: string; version: string; disposal: Disposal },
  ): TrashRow {
    const trash = findModel(tx, workspace, name, version)?.trash;
    const before = trash == null ? undefined : entryRow(tx, trash);
    if (before?.state === 'kept') return before; // deleted again
    const row = modelNamed(tx, workspace, name, version);
    const images = imagesUsing(tx, row);
    if (images.length > 0)
      throw new ServiceError(
        'failed-precondition',
        'model.in-use',
        `The model ${row.name}:${row.version} cannot be deleted: ${images.length === 1 ? 'the image' : 'the images'} ${images.join(', ')} ${images.length === 1 ? 'uses' : 'use'} it.`,
        { images },
      );
    const entry = discard(tx, { workspace, kind: 'model', name: `${row.name}:${row.version}` }, disposal);
    tx.run(sql.updateTable('model').set({ trash: entry.id }).where('key', '=', row.key));
    return entry;
  },

  restore(tx: Transaction, { entry }: { entry: TrashRow }): void {
    comeBack(tx, entry);
    tx.run(sql.updateTable('model').set({ trash: null }).where('trash', '=', entry.id));
    dropEntry(tx, entry.id);
  },

  /** For good. Its number is not given again. */
  remove(tx: Transaction, { entry }: { entry: TrashRow }): void {
    for (const row of tx.all(sql.selectFrom('model').selectAll().where('trash', '=', entry.id))) {
      removeReferences(tx, row.workspace, ownerOf(row));
      tx.run(aliasesOf(row).where('version', '=', row.version));
      tx.run(sql.deleteFrom('model').where('key', '=', row.key));
    }
  },

  archive(
    tx: Transaction,
    { workspace, name, version, at }: { workspace: string; name: string; version: string; at: string | null },
  ): ModelVersion {
    const row = modelNamed(tx, workspace, name, version);
    tx.run(sql.updateTable('model').set({ archived_at: at }).where('key', '=', row.key));
    return row;
  },

  use(
    tx: Transaction,
    { workspace, image, models }: { workspace: string; image: string; models: ModelVersion[] },
  ): void {
    useModels(tx, workspace, image, models);
  },

  release(tx: Transaction, { workspace, image }: { workspace: string; image: string }): void {
    releaseModels(tx, workspace, image);
  },

  setAlias(
    tx: Transaction,
    { workspace, name, alias, version }: { workspace: string; name: string; alias: string; version: number },
  ): ModelRecord {
    const row = modelNamed(tx, workspace, name, String(version));
    tx.run(
      sql
        .insertInto('model_alias')
        .values({ workspace, name, alias, version })
        .onConflict((conflict) => conflict.columns(['workspace', 'name', 'alias']).doUpdateSet({ version })),
    );
    return recordOf(tx, row);
  },

  deleteAlias(tx: Transaction, { workspace, name, alias }: { workspace: string; name: string; alias: string }): void {
    if (tx.run(aliasesOf({ workspace, name }).where('alias', '=', alias)) > 0) return;
    throw new ServiceError('not-found', 'model.alias-not-found', `The model ${name} has no alias ${alias}.`);
  },
});

function aliasesOf({ workspace, name }: { workspace: string; name: string }) {
  return sql.deleteFrom('model_alias').where('workspace', '=', workspace).where('name', '=', name);
}

function setTags(tx: Transaction, row: ModelRow, tags: [string, string | null][]): void {
  for (const [key, value] of tags) {
    if (value === null) tx.run(sql.deleteFrom('model_tag').where('model', '=', row.key).where('key', '=', key));
    else
      tx.run(
        sql
          .insertInto('model_tag')
          .values({ model: row.key, workspace: row.workspace, key, value })
          .onConflict((conflict) => conflict.columns(['model', 'key']).doUpdateSet({ value })),
      );
  }
  refuseTooMany(tx, row, 'model_tag', 'tags');
}

/** What is set already may be said again, but not otherwise. */
function setProperties(tx: Transaction, row: ModelRow, properties: [string, string][]): void {
  for (const [key, value] of properties) {
    const set = tx.first(
      sql.selectFrom('model_property').select('value').where('model', '=', row.key).where('key', '=', key),
    );
    if (set && set.value !== value)
      throw new ServiceError(
        'conflict',
        'model.property-set',
        `The property ${key} of the model ${row.name}:${row.version} is set already, to another value.`,
      );
    if (!set) tx.run(sql.insertInto('model_property').values({ model: row.key, key, value }));
  }
  refuseTooMany(tx, row, 'model_property', 'properties');
}

function refuseTooMany(tx: Transaction, row: ModelRow, table: 'model_tag' | 'model_property', what: string): void {
  const { count } = tx
    .statement<{ count: number }>(`SELECT count(*) AS count FROM ${table} WHERE model = ?`)
    .get(row.key)!;
  if (count > limits.tags)
    throw new ServiceError(
      'invalid-argument',
      'request.invalid',
      `The model ${row.name}:${row.version} would have ${count} ${what}; at most ${limits.tags} are allowed.`,
    );
}

export const modelReadings = readings('model', {
  /** The files of the models in an entry of the trash. */
  trashed(tx: Transaction, { entry }: { entry: number }): FileOfModel[][] {
    const rows = tx.all(sql.selectFrom('model').selectAll().where('trash', '=', entry));
    return rows.map(({ key }) => filesOfModel(tx, key));
  },

  /** One model with all that is known of it. */
  get(
    tx: Transaction,
    { workspace, name, version }: { workspace: string; name: string; version: string },
  ): ModelRecord & { files: FileOfModel[]; images: string[] } {
    const row = modelNamed(tx, workspace, name, version);
    return { ...recordOf(tx, row), files: filesOfModel(tx, row.key), images: imagesUsing(tx, row) };
  },

  /** `name:version`, `name:alias`, or a name, whose latest version is meant. A name may have colons itself. */
  resolve(tx: Transaction, { workspace, reference }: { workspace: string; reference: string }): ModelVersion {
    const colon = reference.lastIndexOf(':');
    const row =
      (colon > 0 && findModel(tx, workspace, reference.slice(0, colon), reference.slice(colon + 1))) ||
      findModel(tx, workspace, reference, 'latest');
    if (row && row.trash !== null) modelNamed(tx, workspace, row.name, String(row.version)); // says where it lies
    if (row) return { name: row.name, version: row.version };
    throw new ServiceError(
      'not-found',
      'model.not-found',
      `There is no model ${reference} in the workspace ${workspace}.`,
    );
  },
});
