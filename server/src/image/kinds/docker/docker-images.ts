// Builds a Docker image (an OCI image) from a base, an environment, the scorer, models and a scoring script, without Docker
// and without root: base, environment, scorer, one layer for each model, code.
// Invariants: the same input makes the same digest, in any folder, on any day, with caches empty or full; only layers whose
// content changed are made again; nothing of the build (credentials, paths of this machine) gets into the image.
import type { Bytes, Digest } from '../../../blob/bytes.ts';
import type { ImageConfig, ImageLayer, OciImage, OciImages } from '../../../oci/oci-images.ts';
import {
  codeLayer,
  type ImageModel,
  imagePaths,
  type LayerCache,
  type LayerPlan,
  modelLayer,
  type PlacedFile,
} from './image-layers.ts';

export interface DockerImageInput {
  base: OciImage;
  /** In this order: the environment, the scorer. Those of an image without them are left out. */
  layers: readonly LayerPlan[];
  models: readonly ImageModel[];
  /** The scoring script and extra files. */
  code: readonly PlacedFile[];
  /** Laid over the base's. Environment variables and labels are added to the base's; the rest replaces it. */
  config: Partial<ImageConfig>;
}

export interface DockerImageNeeds {
  oci: OciImages;
  /** Holds the contents of models and code. */
  bytes: Bytes;
  layerCache: LayerCache;
  log: (line: string) => void;
  signal?: AbortSignal | undefined;
}

export interface BuiltDockerImage {
  digest: Digest;
  sizeBytes: number;
  layers: ImageLayer[];
}

export async function buildDockerImage(input: DockerImageInput, needs: DockerImageNeeds): Promise<BuiltDockerImage> {
  const plans = [
    ...input.layers,
    ...input.models.map((model) => modelLayer(needs.bytes, model)),
    codeLayer(needs.bytes, input.code),
  ];
  const layers = [...input.base.layers, ...(await Promise.all(plans.map((plan) => layerFor(plan, needs))))];
  const config = configFor(input);
  const image = await needs.oci.writeImage({ platform: input.base.platform, layers, config });
  needs.log(`The image is ${image.digest}, ${megabytes(image.sizeBytes)} in ${layers.length} layers.`);
  return { ...image, layers };
}

/** Made, unless it was made of the same before. */
export async function layerFor(
  plan: LayerPlan,
  needs: Pick<DockerImageNeeds, 'oci' | 'layerCache' | 'log' | 'signal'>,
): Promise<ImageLayer> {
  needs.signal?.throwIfAborted();
  const known = await needs.layerCache.get(plan.key);
  if (known && (await needs.oci.hasLayer(known))) {
    needs.log(`Layer ${plan.note}: taken from the cache.`);
    return { ...known, note: plan.note };
  }
  const made = await needs.oci.writeLayer(await plan.entries(), needs.signal);
  await needs.layerCache.put(plan.key, { digest: made.digest, sizeBytes: made.sizeBytes });
  needs.log(`Layer ${plan.note}: made, ${megabytes(made.sizeBytes)}.`);
  return { ...made, note: plan.note };
}

function configFor({ base, config }: DockerImageInput): ImageConfig {
  return {
    ...base.config,
    command: [], // the base's belongs to the base's entry point
    ...config,
    env: {
      ...base.config.env,
      AZUREML_MODEL_DIR: `/${imagePaths.models}`,
      STELLWERK_APP_DIR: `/${imagePaths.app}`,
      ...config.env,
    },
    labels: { ...base.config.labels, ...config.labels },
    workingDir: config.workingDir ?? `/${imagePaths.app}`,
  };
}

function megabytes(sizeBytes: number): string {
  return `${(sizeBytes / 1e6).toFixed(1)} MB`;
}
