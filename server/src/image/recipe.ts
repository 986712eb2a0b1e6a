// What an image is built from, checked when it is asked for: every file is there, the script is among them, and the
// environment's files are read now, so that the recipe is complete in itself.
import type { BuiltSpecification } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath, legible } from '@stellwerk/contract/paths.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import type { Blobs } from '../blob/blobs.ts';
import type { Digest } from '../blob/bytes.ts';

import { type Environments, specificationOf } from '../environment/environments.ts';
import type { ImageBase, RecipeFile } from './driver.ts';

/** Kept with the image: plain JSON. Models are in rows of their own. */
export interface StoredRecipe {
  files: RecipeFile[];
  scoringScript: string;
  environment?: BuiltSpecification;
  base: ImageBase | { from: 'datastore'; datastore: string; path: string };
  environmentVariables: Record<string, string>;
}

export interface RecipeNeeds {
  blobs: Blobs;
  environments: Environments;
  /** Reads a small stored content as text. */
  readText(digest: Digest): Promise<string>;
}

export class Recipes {
  readonly #needs: RecipeNeeds;

  constructor(needs: RecipeNeeds) {
    this.#needs = needs;
  }

  async check(input: CheckedOf<'images', 'create'>): Promise<StoredRecipe> {
    const files = new Map<string, RecipeFile>();
    for (const { path, digest, executable } of input.files) {
      if (files.has(checkPath(path)))
        throw new ServiceError(
          'invalid-argument',
          'path.invalid',
          `The path ${legible(path)} stands twice among the files.`,
        );
      files.set(path, { path, digest: digest as Digest, ...(executable && { executable }) });
    }
    await this.#allThere(input.workspace, [...files.values()]);
    if (!files.has(input.scoringScript)) {
      throw new ServiceError(
        'invalid-argument',
        'request.invalid',
        `The scoring script ${input.scoringScript} is not among the files: ${[...files.keys()].slice(0, 10).join(', ')}.`,
      );
    }
    if (input.environment.userManaged)
      throw new ServiceError(
        'invalid-argument',
        'environment.invalid',
        'An image has no user-managed Python: give a specification, or none to use what the base image has.',
      );
    const specification = await specificationOf(input.environment, async (path) => {
      const file = files.get(path);
      return file && this.#needs.readText(file.digest);
    });
    if (specification.userManaged) throw new Error('It was checked that it is not user-managed.');
    const environment = isEmpty(specification) ? undefined : specification;
    if (environment) this.#needs.environments.read(environment);
    return {
      files: [...files.values()],
      scoringScript: input.scoringScript,
      ...(environment && { environment }),
      base: baseOf(input.baseImage),
      environmentVariables: input.environmentVariables,
    };
  }

  async #allThere(workspace: string, files: RecipeFile[]): Promise<void> {
    const sizes = await this.#needs.blobs.sizesOf(
      workspace,
      files.map(({ digest }) => digest),
    );
    const missing = files.find((_, at) => sizes[at] === null);
    if (missing)
      throw new ServiceError(
        'failed-precondition',
        'blob.not-found',
        `The content of ${missing.path} has not been uploaded.`,
        { digest: missing.digest },
      );
  }
}

function isEmpty({ condaFile, requirements, lock }: BuiltSpecification): boolean {
  return (condaFile ?? requirements ?? lock) === undefined;
}

function baseOf(text: string | undefined): StoredRecipe['base'] {
  if (text === undefined) return { from: 'default' };
  const datastore = /^datastore:([^/]+)\/(.+)$/s.exec(text);
  if (!datastore) return { from: 'registry', reference: text };
  return { from: 'datastore', datastore: datastore[1]!, path: checkPath(datastore[2]!) };
}
