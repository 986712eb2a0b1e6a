// Images: models, a scoring script and what they need, built by this server and registered by name and version.
// Invariants: a version never changes its bytes or number; the same content gives the same digest; an image that a deployment
// uses, and a model that an image uses, cannot be deleted.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Image } from '@stellwerk/contract/image.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { type Caller, nameOf } from '../access/access.ts';
import type { Digest, Stored } from '../blob/bytes.ts';
import type { Download } from '../blob/download.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import type { Models } from '../model/models.ts';
import type { Registry } from '../registry/registry.ts';
import type { ReplicaTemplate } from './driver.ts';
import type { ImageKinds } from './kinds.ts';
import type { Recipes } from './recipe.ts';
import { type ImageId, type ImageRow, imageTransactions } from './store.ts';

export { ImageBuilding } from './build.ts';
export { imageLayerCache } from './layer-cache.ts';
export { Recipes } from './recipe.ts';
export { imageShelf } from './shelf.ts';
export { releaseImages, useImage } from './store.ts';

export interface ImageNeeds {
  stores: { db: Database; registry: Pick<Registry, 'locationOf'> };
  kinds: ImageKinds;
  models: Models;
  recipes: Recipes;
  now(): number;
  newId(): string;
}

export class Images {
  readonly #needs: ImageNeeds;

  constructor(needs: ImageNeeds) {
    this.#needs = needs;
  }

  async create(input: CheckedOf<'images', 'create'>, caller: Caller): Promise<Image> {
    const { workspace, name } = input;
    const models = await Promise.all(input.models.map((reference) => this.#needs.models.require(workspace, reference)));
    const recipe = await this.#needs.recipes.check(input);
    const at = new Date(this.#needs.now()).toISOString();
    const activity = {
      id: this.#needs.newId(),
      workspace,
      kind: 'image.build',
      message: 'Waiting to be built.',
      createdBy: nameOf(caller),
      at,
      dueAt: this.#needs.now(),
    } as const;
    const row: Omit<ImageRow, 'version'> = {
      workspace,
      name,
      kind: 'docker',
      state: 'building',
      description: input.description ?? null,
      tags: JSON.stringify(input.tags ?? {}),
      properties: JSON.stringify(input.properties ?? {}),
      scoring_script: input.scoringScript,
      environment: null,
      base: null,
      digest: null,
      size_bytes: null,
      recipe: JSON.stringify(recipe),
      activity: activity.id,
      created_at: at,
      created_by: nameOf(caller),
    };
    const inserted = await this.#needs.stores.db.transact(imageTransactions.insert, {
      row,
      models: models.map((model) => ({ name: model.name, version: model.version })),
      contents: [...new Set(input.files.map(({ digest }) => digest))],
      activity,
    });
    return this.#shown(inserted);
  }

  async list(input: CheckedOf<'images', 'list'>): Promise<OutputOf<'images', 'list'>> {
    const before = keyOf(input, 3);
    let query = sql.selectFrom('image').selectAll('image').where('image.workspace', '=', input.workspace);
    query = query
      .orderBy('created_at', 'desc')
      .orderBy('name', 'desc')
      .orderBy('version', 'desc')
      .limit(rowsFor(input));
    if (input.name !== undefined) query = query.where('name', '=', input.name);
    for (const tag of input.tag ?? []) {
      const [key, ...value] = tag.split('=');
      query = query.where((e) => {
        const tagged = e
          .selectFrom('image_tag')
          .select('key')
          .whereRef('image_tag.workspace', '=', 'image.workspace')
          .whereRef('image_name', '=', 'image.name')
          .whereRef('image_version', '=', 'image.version')
          .where('key', '=', key!);
        return e.exists(value.length > 0 ? tagged.where('value', '=', value.join('=')) : tagged);
      });
    }
    if (input.model !== undefined) {
      const [, model, modelVersion] = /^(.*?)(?::(\d+))?$/s.exec(input.model)!;
      query = query.where((e) => {
        const used = e
          .selectFrom('image_model')
          .select('position')
          .whereRef('image_model.workspace', '=', 'image.workspace')
          .whereRef('image_name', '=', 'image.name')
          .whereRef('image_version', '=', 'image.version')
          .where('model_name', '=', model!);
        return e.exists(modelVersion === undefined ? used : used.where('model_version', '=', Number(modelVersion)));
      });
    }
    if (before) {
      const [at, name, version] = [String(before[0]), String(before[1]), Number(before[2])];
      query = query.where((e) => e(e.refTuple('created_at', 'name', 'version'), '<', e.tuple(at, name, version)));
    }
    const page = pageFrom(
      await this.#needs.stores.db.all(query),
      input,
      (row) => row,
      (row) => [row.created_at, row.name, row.version],
    );
    return { ...page, items: await Promise.all(page.items.map((row) => this.#shown(row))) };
  }

  async get({ workspace, name, version }: CheckedOf<'images', 'get'>): Promise<Image> {
    return this.#shown(await this.#row(workspace, name, version));
  }

  async update({ workspace, name, version, description, tags }: CheckedOf<'images', 'update'>): Promise<Image> {
    const id = await this.#row(workspace, name, version);
    const change = { ...(description !== undefined && { description }), ...(tags !== undefined && { tags }) };
    return this.#shown(await this.#needs.stores.db.transact(imageTransactions.update, { id: idOf(id), ...change }));
  }

  async delete({ workspace, name, version }: CheckedOf<'images', 'delete'>): Promise<Record<string, never>> {
    await this.#needs.stores.db.transact(imageTransactions.delete, idOf(await this.#row(workspace, name, version)));
    return {};
  }

  async export(
    { workspace, name, version, format }: CheckedOf<'images', 'export'>,
    _caller: Caller,
    { signal }: { signal: AbortSignal },
  ): Promise<Download> {
    const row = await this.#built(workspace, name, version);
    const reference = `${row.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}:${row.version}`;
    const stream = await this.#needs.kinds[row.kind].export(row.digest as Digest, { format, name: reference, signal });
    return { stream, contentType: 'application/gzip', filename: `${row.name}-${row.version}.tar.gz` };
  }

  /** From `name:version` or `name` to an image that is there. */
  async resolve(workspace: string, reference: string): Promise<ImageId> {
    const [, name, version] = /^(.*?)(?::(\d+|latest))?$/s.exec(reference)!;
    return idOf(await this.#row(workspace, name!, version ?? 'latest'));
  }

  /** Unpacks an image, once, and says how to run it. */
  async unpack(workspace: string, name: string, version: number, signal?: AbortSignal): Promise<ReplicaTemplate> {
    const row = await this.#built(workspace, name, String(version));
    return this.#needs.kinds[row.kind].unpack(row.digest as Digest, signal);
  }

  async modelsOf(workspace: string, name: string, version: number): Promise<string[]> {
    const rows = await this.#needs.stores.db.all(
      sql
        .selectFrom('image_model')
        .select(['model_name', 'model_version'])
        .where('workspace', '=', workspace)
        .where('image_name', '=', name)
        .where('image_version', '=', version)
        .orderBy('position'),
    );
    return rows.map((row) => `${row.model_name}:${row.model_version}`);
  }

  /** The digests of images that web services run. */
  async inUse(): Promise<Digest[]> {
    const rows = await this.#needs.stores.db.all(
      sql
        .selectFrom('image')
        .innerJoin('image_use', (join) =>
          join
            .onRef('image_use.workspace', '=', 'image.workspace')
            .onRef('image_use.image_name', '=', 'image.name')
            .onRef('image_use.image_version', '=', 'image.version'),
        )
        .select('image.digest')
        .distinct(),
    );
    return rows.flatMap(({ digest }) => (digest === null ? [] : [digest as Digest]));
  }

  /** Before what nobody refers to is collected: images of an older version of the server refer to what they consist of. */
  async referToParts(partsOf: (digest: Digest) => Promise<Stored[]>): Promise<void> {
    const rows = await this.#needs.stores.db.all(
      sql
        .selectFrom('image')
        .selectAll()
        .where('digest', 'is not', null)
        .where((e) =>
          e.not(
            e.exists(
              e
                .selectFrom('blob_ref')
                .select('digest')
                .whereRef('blob_ref.workspace', '=', 'image.workspace')
                .whereRef('blob_ref.digest', '=', 'image.digest')
                .where('owner_kind', '=', 'image'),
            ),
          ),
        ),
    );
    const at = new Date(this.#needs.now()).toISOString();
    for (const row of rows) {
      const parts = await partsOf(row.digest as Digest);
      await this.#needs.stores.db.transact(imageTransactions.takeParts, { id: idOf(row), parts, at });
    }
  }

  /** After layers were collected. */
  async forgetLayers(): Promise<void> {
    await this.#needs.stores.db.transact(imageTransactions.forgetLayers, undefined);
  }

  async #built(workspace: string, name: string, version: string): Promise<ImageRow> {
    const row = await this.#row(workspace, name, version);
    if (row.state === 'succeeded') return row;
    throw new ServiceError(
      'failed-precondition',
      'image.not-ready',
      `The image ${row.name}:${row.version} has not been built: it is ${row.state}.`,
    );
  }

  async #row(workspace: string, name: string, version: string): Promise<ImageRow> {
    let query = sql.selectFrom('image').selectAll().where('workspace', '=', workspace).where('name', '=', name);
    query = /^\d+$/.test(version)
      ? query.where('version', '=', Number(version))
      : query.orderBy('version', 'desc').limit(1);
    const row = version === 'latest' || /^\d+$/.test(version) ? await this.#needs.stores.db.first(query) : undefined;
    if (!row)
      throw new ServiceError(
        'not-found',
        'image.not-found',
        `There is no image ${name}${version === 'latest' ? '' : `:${version}`} in the workspace ${workspace}.`,
      );
    return row;
  }

  async #shown(row: ImageRow): Promise<Image> {
    const { registry } = this.#needs.stores;
    const location = row.digest === null ? undefined : registry.locationOf(row.workspace, row.name, row.version);
    return {
      name: row.name,
      version: row.version,
      id: `${row.name}:${row.version}`,
      kind: row.kind,
      state: row.state,
      ...(row.description !== null && { description: row.description }),
      tags: JSON.parse(row.tags),
      properties: JSON.parse(row.properties),
      models: await this.modelsOf(row.workspace, row.name, row.version),
      scoringScript: row.scoring_script,
      ...(row.environment !== null && { environment: JSON.parse(row.environment) }),
      ...(row.base !== null && { base: row.base }),
      ...(row.digest !== null && { digest: row.digest }),
      ...(row.size_bytes !== null && { sizeBytes: row.size_bytes }),
      ...(location !== undefined && { location }),
      activity: row.activity,
      createdAt: row.created_at,
      createdBy: row.created_by,
    };
  }
}

function idOf({ workspace, name, version }: ImageId): ImageId {
  return { workspace, name, version };
}
