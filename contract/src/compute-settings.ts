// The settings of each kind of compute target, one record a kind: validation, flags of the command line, forms and docs come from here.
// What is secret is not in them: they name secrets of the workspace's vault.
import * as z from 'zod';
import { gpu } from './resources.ts';

const gpus = z
  .array(gpu)
  .max(64)
  .optional()
  .describe('The GPUs that runs may be given; those that its driver tells of unless given.');
const concurrency = z
  .int()
  .min(1)
  .max(10_000)
  .optional()
  .describe('Runs at the same time; the number of CPUs unless given.');

export const computeSettings = z
  .discriminatedUnion('kind', [
    z
      .strictObject({ kind: z.literal('local') })
      .describe('The machine of whoever submits.')
      .meta({ id: 'LocalSettings' }),
    z
      .strictObject({
        kind: z.literal('host'),
        user: z
          .string()
          .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
          .optional()
          .describe(
            'The Unix user that runs are executed as; needed when the server can be reached from other machines.',
          ),
        maxConcurrentRuns: concurrency,
        gpus,
      })
      .describe('The machine that the server runs on.')
      .meta({ id: 'HostSettings' }),
  ])
  .meta({ id: 'ComputeSettings' });
export type ComputeSettings = z.infer<typeof computeSettings>;
export type ComputeKind = ComputeSettings['kind'];
export type SettingsOf<K extends ComputeKind> = Extract<ComputeSettings, { kind: K }>;
export const computeKind = z.enum(
  computeSettings.options.map(({ shape }) => shape.kind.value) as [ComputeKind, ...ComputeKind[]],
);
