// A namespace of a Kubernetes cluster: each run is a Job in it.
import * as z from 'zod';
import { secretName, together } from '../values.ts';
import { maxConcurrentRuns } from './places.ts';

const name = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/);
const labelKey = z
  .string()
  .max(317)
  .regex(/^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/);
const labelValue = z
  .string()
  .max(63)
  .regex(/^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/);

const toleration = z
  .strictObject({
    key: labelKey.optional(),
    operator: z.enum(['Equal', 'Exists']).optional(),
    value: labelValue.optional(),
    effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
    tolerationSeconds: z.int().min(0).optional(),
  })
  .describe('A taint of nodes that runs are let onto all the same, as the cluster writes it.')
  .meta({ id: 'Toleration' });

export const kubernetesSettings = z
  .strictObject({
    kind: z.literal('kubernetes'),
    kubeconfig: secretName.describe(
      'The secret that holds the kubeconfig to sign in with; it must name no files and no programs.',
    ),
    context: z.string().max(253).optional().describe('The context of the kubeconfig; its current one unless given.'),
    namespace: name.max(63).default('default').describe('The namespace that runs are made in.'),
    image: z
      .string()
      .max(500)
      .regex(/^[a-z0-9][A-Za-z0-9._:/@-]*$/, 'must be the name of an image, such as `python:3.13-slim`')
      .default('python:3.13-slim')
      .describe('The image of runs whose configuration names none; Python 3.8 or newer must be in it.'),
    pullSecret: name.optional().describe('A Secret of the namespace that images are pulled with.'),
    registryUser: secretName.optional().describe('The secret that holds the user name to pull `image` with.'),
    registryPassword: secretName.optional().describe('The secret that holds the password to pull `image` with.'),
    nodeSelector: z.record(labelKey, labelValue).default({}).describe('Labels that a node must have to get runs.'),
    tolerations: z
      .array(toleration)
      .max(64)
      .default([])
      .describe('Taints of nodes that runs are let onto all the same.'),
    serviceAccount: name.optional().describe('The service account that runs have; without it they are given no token.'),
    gpuResource: labelKey.default('nvidia.com/gpu').describe('The resource by which nodes have GPUs.'),
    gpuTypeLabel: labelKey
      .optional()
      .describe('The label by which nodes tell the type of their GPUs, such as `nvidia.com/gpu.product`.'),
    volumeClaimSize: z
      .string()
      .regex(/^[1-9]\d{0,8}(\.\d{1,3})?[KMGTP]i?$/, 'must be a size, such as `10Gi`')
      .optional()
      .describe(
        'Each run gets a volume of this size for its files, from which they are delivered if its node is lost; without it they lie on the node.',
      ),
    storageClass: name.optional().describe("That of these volumes; the cluster's own choice unless given."),
    reach: z
      .enum(['carried', 'direct'])
      .default('carried')
      .describe(
        "How runs reach this server: `carried` through the connection to the cluster, or `direct` to the server's public address.",
      ),
    maxConcurrentRuns,
  })
  .refine(({ registryUser, registryPassword }) => (registryUser === undefined) === (registryPassword === undefined), {
    error: 'A user name and a password belong together.',
    path: ['registryPassword'],
  })
  .describe('A namespace of a Kubernetes cluster: each run is a Job in it.')
  .meta({
    id: 'KubernetesSettings',
    // The same, as JSON Schema says it.
    ...together('registryUser', 'registryPassword'),
  });
