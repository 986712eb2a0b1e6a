// What is to be made, by kind: targets that are created from an attached one of the same workspace.
import * as z from 'zod';
import { resources } from '../resources.ts';
import { resourceName } from '../values.ts';

const { cpus, memory, gpus } = resources.shape;

const partition = z
  .strictObject({
    kind: z.literal('slurm'),
    on: resourceName.describe('The attached cluster that gets a partition for it.'),
    minNodes: z.int().min(0).max(10_000).default(0).describe('So many nodes are on at any time.'),
    maxNodes: z.int().min(1).max(10_000).describe('So many nodes at most.'),
    vmSize: z
      .string()
      .max(200)
      .regex(/^[A-Za-z0-9_.,&|-]+$/)
      .optional()
      .describe('Features that its nodes must have, as the cluster calls them; any node unless given.'),
    idleSecondsBeforeScaleDown: z
      .int()
      .min(1)
      .max(86_400)
      .default(120)
      .describe('After so long without work a node above `minNodes` is switched off.'),
  })
  .describe('A partition of an attached Slurm cluster, whose nodes are switched on and off as they are needed.')
  .meta({ id: 'SlurmProvisioning' });

const machine = z
  .strictObject({
    kind: z.literal('ssh'),
    on: resourceName.describe('The attached Docker Engine that it is a container on.'),
    image: z
      .string()
      .max(500)
      .optional()
      .describe('With sshd and Python 3.8 or newer; that of the engine unless given.'),
    cpus,
    memory,
  })
  .describe('A Linux machine of its own: a container with sshd on an attached Docker Engine.')
  .meta({ id: 'SshProvisioning' });

const namespace = z
  .strictObject({
    kind: z.literal('kubernetes'),
    on: resourceName.describe('The attached cluster that gets a namespace for it.'),
    namespace: z
      .string()
      .max(63)
      .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/)
      .optional()
      .describe('Its name; made from those of the workspace and the target unless given.'),
    cpus: cpus.describe('CPUs that all its runs may have together.'),
    memory: memory.describe('Memory that all its runs may have together.'),
    gpus: gpus.describe('GPUs that all its runs may have together.'),
    maxPods: z.int().min(1).max(100_000).optional().describe('So many pods at most.'),
  })
  .describe('A namespace of its own, with a quota, on an attached Kubernetes cluster.')
  .meta({ id: 'KubernetesProvisioning' });

export const computeProvisioning = z
  .discriminatedUnion('kind', [partition, machine, namespace])
  .meta({ id: 'ComputeProvisioning' });
export type ComputeProvisioning = z.infer<typeof computeProvisioning>;
export type ProvisioningOf<K> = Extract<ComputeProvisioning, { kind: K }>;
