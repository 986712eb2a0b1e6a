// Every kind of image, complete by the compiler.
import type { Registry } from '../registry/registry.ts';
import type { ImageDriver, ImageKind, Watch } from './driver.ts';
import { type DockerNeeds, dockerDriver } from './kinds/docker/docker.ts';
import { type TrainingBase, trainingBase } from './kinds/docker/training-image.ts';

export type ImageKinds = { readonly [K in ImageKind]: ImageDriver<K> };

/** What all kinds together are made with. */
export type ImageKindNeeds = DockerNeeds;

export function imageKinds(needs: ImageKindNeeds): ImageKinds {
  return { docker: dockerDriver(needs) };
}

interface WantedImage {
  name?: string;
  signIn?: { user: string; password: string };
  python?: string | undefined;
  pythonFallback?: boolean | undefined;
}

/** For those who train in containers. */
export function trainingImages(needs: ImageKindNeeds, registry: Pick<Registry, 'pullOf'>) {
  return {
    base({ name, signIn, python, pythonFallback }: WantedImage, watch: Watch): Promise<TrainingBase> {
      const wanted = {
        ...(name !== undefined && { reference: name }),
        ...(signIn && { credentials: signIn }),
        python,
        pythonFallback,
      };
      return trainingBase(wanted, watch, needs);
    },
    pullOf: (run: Parameters<Registry['pullOf']>[0]) => registry.pullOf(run),
  };
}
