// The settings of each kind of compute target, one record a kind: validation, flags of the command line, forms and docs come from here.
// What is secret is not in them: they name secrets of the workspace's vault.
import * as z from 'zod';
import { dockerSettings } from './compute-kinds/docker.ts';
import { hostSettings } from './compute-kinds/host.ts';
import { kubernetesSettings } from './compute-kinds/kubernetes.ts';
import { localSettings } from './compute-kinds/local.ts';
import { slurmSettings } from './compute-kinds/slurm.ts';
import { sparkSettings } from './compute-kinds/spark.ts';
import { sshSettings } from './compute-kinds/ssh.ts';

export const computeSettings = z
  .discriminatedUnion('kind', [
    // A word for each kind.
    localSettings,
    hostSettings,
    sshSettings,
    slurmSettings,
    sparkSettings,
    dockerSettings,
    kubernetesSettings,
  ])
  .meta({ id: 'ComputeSettings' });
export type ComputeSettings = z.infer<typeof computeSettings>;
export type ComputeKind = ComputeSettings['kind'];
export type SettingsOf<K extends ComputeKind> = Extract<ComputeSettings, { kind: K }>;
export const computeKind = z.enum(
  computeSettings.options.map(({ shape }) => shape.kind.value) as [ComputeKind, ...ComputeKind[]],
);
