// The activity that builds an image. A build that a restart interrupted begins again: layers that were made are found.
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import type { Outcome, Work } from '../activity/activities.ts';
import type { Digest } from '../blob/bytes.ts';
import type { Database } from '../db/database.ts';
import { isDiskFull } from '../db/disk-full.ts';
import { sql } from '../db/transactions.ts';
import type { Models } from '../model/models.ts';
import type { ImageBase, ImageRecipe } from './driver.ts';
import type { ImageKinds } from './kinds.ts';
import type { StoredRecipe } from './recipe.ts';
import { type ImageId, imageTransactions } from './store.ts';

export interface BuildNeeds {
  db: Database;
  kinds: ImageKinds;
  models: Models;
  now(): number;
  /** A file of a datastore as a file of this machine; removed when disposed of. */
  fetched(
    workspace: string,
    datastore: string,
    path: string,
    signal: AbortSignal,
  ): Promise<AsyncDisposable & { path: string }>;
}

const retryForMs = 5 * 60_000;
/** The server was killed after it had noted that the build failed, and before it could note why. */
const interrupted = { reason: 'server.internal', message: 'The build failed; its log says how far it came.' };

export class ImageBuilding {
  readonly #needs: BuildNeeds;

  constructor(needs: BuildNeeds) {
    this.#needs = needs;
  }

  async build(work: Work): Promise<Outcome> {
    const id = work.input as ImageId;
    try {
      if (work.cancelRequested()) throw new Error('Canceled.');
      return await this.#build(id, work);
    } catch (error) {
      const isStopped = work.signal.aborted && !work.cancelRequested(); // the server stops: the next one builds
      if (isStopped || this.#isPassing(error, work)) throw error;
      const state = work.cancelRequested() ? 'canceled' : 'failed';
      await this.#needs.db.transact(imageTransactions.fail, { id, state, fence: work.fence });
      throw error instanceof TargetError ? new TargetError('never', error.message) : error;
    }
  }

  /** A registry or an index that refuses for now is asked again, for a while. */
  #isPassing(error: unknown, work: Work): boolean {
    if (work.cancelRequested()) return false;
    if (isDiskFull(error)) return true;
    if (!(error instanceof TargetError) || error.retry === 'never') return false;
    const { startedAt, createdAt } = work.activity;
    return this.#needs.now() - Date.parse(startedAt ?? createdAt) < retryForMs;
  }

  async #build(id: ImageId, work: Work): Promise<Outcome> {
    const { workspace, name, version } = id;
    const found = this.#needs.db.first(
      sql
        .selectFrom('image')
        .selectAll()
        .where('workspace', '=', workspace)
        .where('name', '=', name)
        .where('version', '=', version),
    );
    const [row] = await Promise.all([found, work.progress('Building.', 0.1)]);
    if (row?.state === 'failed') return { state: 'failed', error: interrupted };
    if (row?.state !== 'building') return { state: 'canceled', message: 'The image is not to be built any more.' };
    work.log(`Building the image ${name}:${version}.`);
    const stored = JSON.parse(row.recipe) as StoredRecipe;
    await using base = await this.#base(workspace, stored.base, work.signal);
    const recipe: ImageRecipe = { ...stored, base: base.base, models: await this.#models(id) };
    const built = await this.#needs.kinds[row.kind].build(recipe, work);
    work.signal.throwIfAborted();
    work.log(`Built ${built.digest}.`);
    await work.logged(); // the activity ends with the next line
    const at = new Date(this.#needs.now()).toISOString();
    await this.#needs.db
      .transact(imageTransactions.succeed, { id, built, fence: work.fence, at })
      .catch((error: unknown) => {
        // A layer that was found, and had not been used for long, was collected meanwhile: it is made again.
        if (!(error instanceof ServiceError) || error.reason !== 'blob.not-found') throw error;
        throw new TargetError('now', error.message);
      });
    return { leave: true };
  }

  async #base(
    workspace: string,
    base: StoredRecipe['base'],
    signal: AbortSignal,
  ): Promise<AsyncDisposable & { base: ImageBase }> {
    if (base.from !== 'datastore') return { base, [Symbol.asyncDispose]: async () => {} };
    const fetched = await this.#needs.fetched(workspace, base.datastore, base.path, signal);
    return {
      base: { from: 'file', path: fetched.path },
      [Symbol.asyncDispose]: () => fetched[Symbol.asyncDispose]() as Promise<void>,
    };
  }

  async #models({ workspace, name, version }: ImageId): Promise<ImageRecipe['models']> {
    const rows = await this.#needs.db.all(
      sql
        .selectFrom('image_model')
        .selectAll()
        .where('workspace', '=', workspace)
        .where('image_name', '=', name)
        .where('image_version', '=', version)
        .orderBy('position'),
    );
    return Promise.all(
      rows.map(async (row) => {
        const model = await this.#needs.models.get({
          workspace,
          name: row.model_name,
          version: String(row.model_version),
        });
        if (!model.files) throw new ServiceError('not-found', 'model.not-found', `The model ${model.id} has no files.`);
        return {
          name: model.name,
          version: model.version,
          files: model.files.map(({ path, digest }) => ({ path, digest: digest as Digest })),
        };
      }),
    );
  }
}
