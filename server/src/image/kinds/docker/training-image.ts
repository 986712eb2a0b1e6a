// The image that runs train in: a base and an environment on it, each a layer that is made once. It starts nothing by itself: whoever places a job
// says what is to be started. The same base and lock make the same image, bit for bit.
import type { Readable } from 'node:stream';
import type { BuiltPlan, EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { Digest } from '../../../blob/bytes.ts';
import { thisPlatform } from '../../../environment/environments.ts';
import type { Credentials } from '../../../oci/oci-images.ts';
import type { Watch } from '../../driver.ts';
import { findBase } from './base-images.ts';
import { type DockerNeeds, environmentLayer, environmentPython } from './docker.ts';
import { layerFor } from './docker-images.ts';

export interface WantedBase {
  /** In a registry; `python:<minor>-slim`, or one made of Debian's packages, unless given. */
  reference?: string;
  credentials?: Credentials;
  /** The Python minor that it is to have. */
  python?: string | undefined;
  pythonFallback?: boolean | undefined;
}

export interface TrainingImage {
  digest: Digest;
  /** The Python of the environment, in the image. */
  python: string;
  /** As what an engine loads, under this name. */
  archive(name: string, signal?: AbortSignal): Promise<Readable>;
}

/** A base that environments can be put on. */
export interface TrainingBase {
  /** What environments on it are resolved for. */
  target: EnvironmentTarget;
  build(plan: BuiltPlan): Promise<TrainingImage>;
}

export async function trainingBase(wanted: WantedBase, watch: Watch, needs: DockerNeeds): Promise<TrainingBase> {
  const { oci } = needs;
  const { reference, credentials, python, pythonFallback } = wanted;
  const source =
    reference === undefined
      ? ({ from: 'default' } as const)
      : ({ from: 'registry', reference, ...(credentials && { credentials }) } as const);
  const reaching = { oci, cacheDir: needs.cacheDir, network: await needs.environments.network(), ...watch };
  const base = await findBase({ source, python, pythonFallback }, reaching);
  watch.log(`Base image: ${base.description}, Python ${base.python.minor}.`);
  return {
    target: { platform: thisPlatform(), pythons: [base.python.minor], conda: false },
    async build(plan) {
      const layer = await environmentLayer(plan, base, watch, needs);
      const layers = [...base.image.layers, await layerFor(layer, { ...needs, ...watch })];
      const config = { ...base.image.config, entrypoint: [], command: [] };
      const { digest } = await oci.writeImage({ platform: base.image.platform, layers, config });
      watch.log(`The image to train in is ${digest}.`);
      return {
        digest,
        python: environmentPython,
        archive: (name, signal) => oci.export(digest, { format: 'docker', name, signal }),
      };
    },
  };
}
