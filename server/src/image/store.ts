// Rows of images and of the layers that were made for them.

import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Image } from '@stellwerk/contract/image.ts';
import { limits } from '@stellwerk/contract/values.ts';
import { type Beginning, beginActivity, changeActivity, isHeld } from '../activity/activities.ts';
import { addReferences, hold, type Owner, removeReferences, takeOwn } from '../blob/blobs.ts';
import type { Stored } from '../blob/bytes.ts';
import type { Migration } from '../db/migrations.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';
import { releaseModels, useModels } from '../model/models.ts';
import type { BuiltImage, ImageKind } from './driver.ts';

export interface ImageRow {
  workspace: string;
  name: string;
  version: number;
  kind: ImageKind;
  state: Image['state'];
  description: string | null;
  /** JSON. */
  tags: string;
  properties: string;
  scoring_script: string;
  /** JSON of Image['environment']. */
  environment: string | null;
  base: string | null;
  digest: string | null;
  size_bytes: number | null;
  /** JSON of what it is built from. */
  recipe: string;
  activity: string;
  created_at: string;
  created_by: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    image: ImageRow;
    /** Counts versions up, past deleted ones. */
    image_name: { workspace: string; name: string; last_version: number };
    image_model: {
      workspace: string;
      image_name: string;
      image_version: number;
      model_name: string;
      model_version: number;
      position: number;
    };
    image_tag: { workspace: string; image_name: string; image_version: number; key: string; value: string };
    image_layer: { key: string; digest: string; size_bytes: number };
    /** Who needs it: deployments write their own rows. */
    image_use: { workspace: string; image_name: string; image_version: number; user: string };
  }
}

export const imageMigrations: Migration[] = [
  {
    name: '0010-image',
    up: `
      CREATE TABLE image_name (workspace TEXT NOT NULL, name TEXT NOT NULL, last_version INTEGER NOT NULL, PRIMARY KEY (workspace, name)) STRICT;
      CREATE TABLE image (
        workspace TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, description TEXT,
        tags TEXT NOT NULL, properties TEXT NOT NULL, scoring_script TEXT NOT NULL, environment TEXT, base TEXT, digest TEXT, size_bytes INTEGER,
        recipe TEXT NOT NULL, activity TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL, PRIMARY KEY (workspace, name, version)
      ) STRICT;
      CREATE INDEX image_by_time ON image (workspace, created_at, name, version);
      CREATE TABLE image_model (
        workspace TEXT NOT NULL, image_name TEXT NOT NULL, image_version INTEGER NOT NULL, model_name TEXT NOT NULL, model_version INTEGER NOT NULL,
        position INTEGER NOT NULL, PRIMARY KEY (workspace, image_name, image_version, position)
      ) STRICT;
      CREATE INDEX image_model_by_model ON image_model (workspace, model_name, model_version);
      CREATE TABLE image_tag (
        workspace TEXT NOT NULL, image_name TEXT NOT NULL, image_version INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (workspace, image_name, image_version, key)
      ) STRICT;
      CREATE INDEX image_tag_by_key ON image_tag (workspace, key, value);
      CREATE TABLE image_use (
        workspace TEXT NOT NULL, image_name TEXT NOT NULL, image_version INTEGER NOT NULL, user TEXT NOT NULL,
        PRIMARY KEY (workspace, image_name, image_version, user)
      ) STRICT;
      CREATE TABLE image_layer (key TEXT PRIMARY KEY, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL) STRICT;
    `,
  },
];

export interface ImageId {
  workspace: string;
  name: string;
  version: number;
}

function found(tx: Transaction, { workspace, name, version }: ImageId): ImageRow {
  const row = tx.first(
    sql
      .selectFrom('image')
      .selectAll()
      .where('workspace', '=', workspace)
      .where('name', '=', name)
      .where('version', '=', version),
  );
  if (!row)
    throw new ServiceError(
      'not-found',
      'image.not-found',
      `There is no image ${name}:${version} in the workspace ${workspace}.`,
    );
  return row;
}

function write(tx: Transaction, { workspace, name, version }: ImageId, set: Partial<ImageRow>): void {
  tx.run(
    sql
      .updateTable('image')
      .set(set)
      .where('workspace', '=', workspace)
      .where('name', '=', name)
      .where('version', '=', version),
  );
}

/** For whoever deploys it, inside their transaction: it must be built, and cannot be deleted until they release it. */
export function useImage(tx: Transaction, id: ImageId, user: string): void {
  const { name, version } = id;
  const { state } = found(tx, id);
  if (state !== 'succeeded')
    throw new ServiceError(
      'failed-precondition',
      'image.not-ready',
      `The image ${name}:${version} cannot be deployed: its building ${state === 'building' ? 'goes on' : state}.`,
    );
  tx.run(
    sql
      .insertInto('image_use')
      .values({ workspace: id.workspace, image_name: name, image_version: version, user })
      .onConflict((c) => c.doNothing()),
  );
}

/** All images that the user needs no longer: all but `keep`. */
export function releaseImages(
  tx: Transaction,
  workspace: string,
  user: string,
  keep: readonly { name: string; version: number }[] = [],
): void {
  for (const used of tx.all(
    sql.selectFrom('image_use').selectAll().where('workspace', '=', workspace).where('user', '=', user),
  )) {
    if (keep.some(({ name, version }) => name === used.image_name && version === used.image_version)) continue;
    tx.run(
      sql
        .deleteFrom('image_use')
        .where('workspace', '=', workspace)
        .where('user', '=', user)
        .where('image_name', '=', used.image_name)
        .where('image_version', '=', used.image_version),
    );
  }
}

function ownerOf({ name, version }: ImageId): Owner {
  return { kind: 'image', id: `${name}:${version}` };
}

/** Beside the JSON, for searching. */
function writeTags(tx: Transaction, { workspace, name, version }: ImageId, tags: Record<string, string>): void {
  tx.run(
    sql
      .deleteFrom('image_tag')
      .where('workspace', '=', workspace)
      .where('image_name', '=', name)
      .where('image_version', '=', version),
  );
  for (const [key, value] of Object.entries(tags))
    tx.run(sql.insertInto('image_tag').values({ workspace, image_name: name, image_version: version, key, value }));
}

/** A number that no version of this name ever had. */
function nextVersion(tx: Transaction, workspace: string, name: string): number {
  const counted = sql.selectFrom('image_name').select('last_version').where('workspace', '=', workspace);
  const version = (tx.first(counted.where('name', '=', name))?.last_version ?? 0) + 1;
  tx.run(
    sql
      .insertInto('image_name')
      .values({ workspace, name, last_version: version })
      .onConflict((c) => c.columns(['workspace', 'name']).doUpdateSet({ last_version: version })),
  );
  return version;
}

export const imageTransactions = transactions('image', {
  insert(
    tx: Transaction,
    given: {
      row: Omit<ImageRow, 'version'>;
      models: { name: string; version: number }[];
      contents: string[];
      activity: Omit<Beginning, 'subject' | 'input'>;
    },
  ): ImageRow {
    const { workspace, name } = given.row;
    const version = nextVersion(tx, workspace, name);
    const row: ImageRow = { ...given.row, version };
    tx.run(sql.insertInto('image').values(row));
    for (const [position, model] of given.models.entries()) {
      const of = { workspace, image_name: name, image_version: version, position };
      tx.run(sql.insertInto('image_model').values({ ...of, model_name: model.name, model_version: model.version }));
    }
    writeTags(tx, row, JSON.parse(row.tags));
    addReferences(tx, workspace, ownerOf(row), given.contents);
    useModels(tx, workspace, `${name}:${version}`, given.models);
    beginActivity(tx, { ...given.activity, subject: `${name}:${version}`, input: { workspace, name, version } });
    return row;
  },

  /** The end of a build; the activity ends with it. */
  succeed(
    tx: Transaction,
    { id, built, fence, at }: { id: ImageId; built: BuiltImage; fence: number; at: string },
  ): void {
    const row = found(tx, id);
    const ended = changeActivity(
      tx,
      row.activity,
      { state: 'succeeded', fraction: 1, message: `Built ${built.digest}.`, at },
      fence,
    );
    if (!ended) return;
    takeOwn(tx, id.workspace, ownerOf(id), built.parts, at);
    write(tx, id, {
      state: 'succeeded',
      digest: built.digest,
      size_bytes: built.sizeBytes,
      base: built.base,
      environment: JSON.stringify(built.environment),
    });
  },

  /** For images of an older version of the server, which did not refer to what they consist of. */
  takeParts(tx: Transaction, { id, parts, at }: { id: ImageId; parts: Stored[]; at: string }): void {
    found(tx, id);
    for (const part of parts) hold(tx, id.workspace, part, at);
    const digests = parts.map(({ digest }) => digest);
    addReferences(tx, id.workspace, ownerOf(id), digests);
  },

  /** Of layers that were collected nothing need be remembered. */
  forgetLayers(tx: Transaction): void {
    tx.statement(
      "DELETE FROM image_layer WHERE digest NOT IN (SELECT digest FROM blob_held WHERE workspace = '')",
    ).run();
  },

  /** The activity is ended by its worker, which knows the error; unless another one has taken it. */
  fail(tx: Transaction, { id, state, fence }: { id: ImageId; state: 'failed' | 'canceled'; fence: number }): void {
    const row = found(tx, id);
    if (row.state === 'building' && isHeld(tx, row.activity, fence)) write(tx, id, { state });
  },

  update(
    tx: Transaction,
    { id, description, tags }: { id: ImageId; description?: string; tags?: Record<string, string | null> },
  ): ImageRow {
    const row = found(tx, id);
    const merged = Object.entries({ ...JSON.parse(row.tags), ...tags }).filter(([, value]) => value !== null);
    if (merged.length > limits.tags)
      throw new ServiceError(
        'invalid-argument',
        'request.invalid',
        `The image ${id.name}:${id.version} would have ${merged.length} tags; ${limits.tags} are allowed.`,
      );
    const set = { ...(description !== undefined && { description }), tags: JSON.stringify(Object.fromEntries(merged)) };
    write(tx, id, set);
    writeTags(tx, id, Object.fromEntries(merged) as Record<string, string>);
    return { ...row, ...set };
  },

  delete(tx: Transaction, id: ImageId): void {
    const row = found(tx, id);
    if (row.state === 'building')
      throw new ServiceError(
        'failed-precondition',
        'image.not-ready',
        `The image ${id.name}:${id.version} is being built; cancel its activity ${row.activity} first.`,
      );
    const used = sql
      .selectFrom('image_use')
      .select('user')
      .where('workspace', '=', id.workspace)
      .where('image_name', '=', id.name)
      .where('image_version', '=', id.version);
    const users = tx.all(used).map(({ user }) => user);
    if (users.length > 0)
      throw new ServiceError(
        'failed-precondition',
        'image.in-use',
        `The image ${id.name}:${id.version} is used by ${users.join(', ')}.`,
      );
    writeTags(tx, id, {});
    removeReferences(tx, id.workspace, ownerOf(id));
    releaseModels(tx, id.workspace, `${id.name}:${id.version}`);
    tx.run(
      sql
        .deleteFrom('image_model')
        .where('workspace', '=', id.workspace)
        .where('image_name', '=', id.name)
        .where('image_version', '=', id.version),
    );
    tx.run(
      sql
        .deleteFrom('image')
        .where('workspace', '=', id.workspace)
        .where('name', '=', id.name)
        .where('version', '=', id.version),
    );
  },

  putLayer(tx: Transaction, layer: { key: string; digest: string; size_bytes: number }): void {
    tx.run(
      sql
        .insertInto('image_layer')
        .values(layer)
        .onConflict((c) => c.column('key').doUpdateSet(layer)),
    );
  },
});
