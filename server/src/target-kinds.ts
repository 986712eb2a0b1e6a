// The kinds of compute target, each with what it needs of this installation.
import { join } from 'node:path';
import {
  type ComputeKinds,
  computeKinds,
  type HostNeeds,
  type MachineNeeds,
  type PublicAddress,
  type Target,
} from './compute/computes.ts';
import type { Config } from './config.ts';
import { ownPlace } from './installation.ts';

export interface TargetKindNeeds extends PublicAddress {
  config: Config;
  /** Our Python package. */
  wheel: string;
  urlHere(): string;
  uv: HostNeeds['uv'];
  /** Opens a secret of a workspace; it is written down what for. */
  openSecret(workspace: string, name: string, use: string): Promise<string>;
  /** For what is made by this server itself. */
  secrets: MachineNeeds['secrets'];
}

export function targetKinds(needs: TargetKindNeeds): ComputeKinds {
  const { config, wheel, urlHere, publicUrl, caBundle, uv, openSecret, secrets } = needs;
  const remote = {
    ...ownPlace(config, urlHere),
    pythonPackage: wheel,
    publicUrl,
    ...(caBundle !== undefined && { caBundle }),
    secrets,
    secret: ({ workspace, name }: Pick<Target, 'workspace' | 'name'>, secret: string) =>
      openSecret(workspace, secret, `the compute target ${name}`),
  };
  return computeKinds({
    host: {
      folder: join(config.data, 'runs'),
      isolatedFolder: config.isolatedRuns,
      dataFolder: config.data,
      pythonPackage: wheel,
      cacheFolder: config.cache,
      inherited: config.packageEnvironment,
      uv,
    },
    remote,
  });
}
