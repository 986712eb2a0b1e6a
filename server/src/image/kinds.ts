// Every kind of image, complete by the compiler.
import type { ImageDriver, ImageKind } from './driver.ts';
import { type DockerNeeds, dockerDriver } from './kinds/docker/docker.ts';

export type ImageKinds = { readonly [K in ImageKind]: ImageDriver<K> };

export function imageKinds(needs: { docker: DockerNeeds }): ImageKinds {
  return { docker: dockerDriver(needs.docker) };
}
