// Every kind of image, complete by the compiler.
import type { ImageDriver, ImageKind } from './driver.ts';
import { type DockerNeeds, dockerDriver } from './kinds/docker/docker.ts';

export type ImageKinds = { readonly [K in ImageKind]: ImageDriver<K> };

/** What all kinds together are made with. */
export type ImageKindNeeds = DockerNeeds;

export function imageKinds(needs: ImageKindNeeds): ImageKinds {
  return { docker: dockerDriver(needs) };
}
