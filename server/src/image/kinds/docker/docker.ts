// The kind `docker`: an OCI image of layers — base, environment, scorer, models, code — that any container engine can run,
// and whose unpacked root a host runs without one.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuiltPlan } from '@stellwerk/contract/environment.ts';
import type { Bytes } from '../../../blob/bytes.ts';
import { type Environments, thisPlatform } from '../../../environment/environments.ts';
import type { OciImages } from '../../../oci/oci-images.ts';
import type { ImageBase, ImageDriver, ImageRecipe, Watch } from '../../driver.ts';
import { type BaseImage, type BaseSource, findBase } from './base-images.ts';
import { buildDockerImage } from './docker-images.ts';
import { folderLayer } from './folder-layer.ts';
import { keyOf, type LayerCache, type LayerPlan } from './image-layers.ts';

export interface DockerNeeds {
  oci: OciImages;
  bytes: Bytes;
  environments: Environments;
  layerCache: LayerCache;
  /** Base images and other things that can be made again. */
  cacheDir: string;
  /** The folder of the scorer: its lock and its code. */
  scorerDir: string;
}

const environmentPrefix = '/opt/stellwerk/env';
/** In an image that has an environment. */
export const environmentPython = `${environmentPrefix}/bin/python`;
const scorerPrefix = '/opt/stellwerk/scorer';
const scorerCode = `${scorerPrefix.slice(1)}/serve`;

export function dockerDriver(needs: DockerNeeds): ImageDriver<'docker'> {
  return {
    kind: 'docker',
    build: (recipe, watch) => build(recipe, watch, needs),
    export: (digest, options) => needs.oci.export(digest, { ...options, gzip: true }),
    unpack: async (digest, signal) => {
      const { path, config } = await needs.oci.rootFor(digest, signal);
      return {
        rootPath: path,
        command: [...config.entrypoint, ...config.command],
        env: config.env,
        workdir: config.workingDir,
      };
    },
  };
}

async function build(recipe: ImageRecipe, watch: Watch, needs: DockerNeeds) {
  const wished = recipe.environment && needs.environments.read(recipe.environment).python;
  const base = await findBase(
    { source: sourceOf(recipe.base), python: wished, pythonFallback: recipe.environment?.pythonFallback },
    { oci: needs.oci, cacheDir: needs.cacheDir, network: await needs.environments.network(), ...watch },
  );
  watch.log(`Base image: ${base.description}, Python ${base.python.minor}.`);
  const plan = recipe.environment && (await lock(recipe.environment, base, watch, needs));
  const environment = plan && (await environmentLayer(plan, base, watch, needs));
  const scorer = await scorerLayer(base, watch, needs);
  const python = plan ? environmentPython : base.python.path;
  const built = await buildDockerImage(
    {
      base: base.image,
      layers: [...(environment ? [environment] : []), scorer],
      models: recipe.models,
      code: recipe.files,
      config: {
        entrypoint: [python, `/${scorerCode}/serve.py`],
        env: { PYTHONDONTWRITEBYTECODE: '1', ...recipe.environmentVariables, STELLWERK_ENTRY: recipe.scoringScript },
        exposedPorts: ['8080/tcp'],
      },
    },
    { oci: needs.oci, bytes: needs.bytes, layerCache: needs.layerCache, ...watch },
  );
  const { manifest, config, layers } = await needs.oci.partsOf(built.digest);
  return {
    digest: built.digest,
    parts: [manifest, config, ...layers],
    sizeBytes: built.sizeBytes,
    base: `${base.description}@${base.digest}`,
    environment: { python: base.python.minor, notices: plan?.notices ?? [], ...(plan && { lockHash: plan.lockHash }) },
  };
}

function sourceOf(base: ImageBase): BaseSource {
  if (base.from !== 'file') return base;
  return { from: 'archive', path: base.path };
}

async function lock(
  specification: NonNullable<ImageRecipe['environment']>,
  base: BaseImage,
  watch: Watch,
  { environments }: DockerNeeds,
): Promise<BuiltPlan> {
  const target = { platform: thisPlatform(), pythons: [base.python.minor], conda: false };
  const plan = await environments.lock(specification, { target, ...watch });
  if (plan.kind !== 'built') throw new Error('The specification of an image is always built.');
  return plan;
}

export async function environmentLayer(
  plan: BuiltPlan,
  base: BaseImage,
  watch: Watch,
  { environments }: Pick<DockerNeeds, 'environments'>,
): Promise<LayerPlan> {
  const place = { prefix: environmentPrefix, imagePython: base.python.path };
  return {
    note: `environment ${plan.lockHash.slice(0, 12)}`,
    key: keyOf('environment', await environments.layerKey(plan, place)),
    entries: async () => (await environments.layer(plan, place, watch)).entries,
  };
}

/** Our own server around the user's script: its packages, locked, and its code. */
async function scorerLayer(base: BaseImage, watch: Watch, needs: DockerNeeds): Promise<LayerPlan> {
  const place = { prefix: scorerPrefix, imagePython: base.python.path };
  const quiet = { ...watch, log: () => {} };
  const plan = await lock(
    { lock: await readFile(join(needs.scorerDir, 'requirements.lock'), 'utf8') },
    base,
    quiet,
    needs,
  );
  const code = await folderLayer('scorer', needs.scorerDir, scorerCode);
  return {
    note: 'scorer',
    key: keyOf('scorer', [await needs.environments.layerKey(plan, place), code.key]),
    entries: async () => [...(await needs.environments.layer(plan, place, watch)).entries, ...(await code.entries())],
  };
}
