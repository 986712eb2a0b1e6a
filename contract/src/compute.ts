// Compute targets: where scripts run and web services are hosted. One word names a kind everywhere.
import * as z from 'zod';
import { description, page, pageSize, resourceName, tags, time } from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

const concurrency = z
  .int()
  .min(1)
  .max(10_000)
  .optional()
  .describe('Runs at the same time; the number of CPUs unless given.');

/** The settings of each kind. Validation, CLI flags, forms and docs come from here. */
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
      })
      .describe('The machine that the server runs on.')
      .meta({ id: 'HostSettings' }),
  ])
  .meta({ id: 'ComputeSettings' });
export type ComputeSettings = z.infer<typeof computeSettings>;
export type ComputeKind = ComputeSettings['kind'];
export type SettingsOf<K extends ComputeKind> = Extract<ComputeSettings, { kind: K }>;

export const computeTarget = z
  .object({
    name: resourceName,
    kind: z.enum(['local', 'host']),
    settings: computeSettings,
    state: z.enum(['usable', 'attaching', 'failed']),
    reason: z.string().optional(),
    trains: z.boolean(),
    hostsServices: z.boolean(),
    description: description.optional(),
    tags,
    queued: z.int().describe('Runs that wait.'),
    running: z.int(),
    createdAt: time,
    createdBy: z.string(),
  })
  .meta({ id: 'ComputeTarget' });
export type ComputeTarget = z.infer<typeof computeTarget>;

export const probe = z
  .object({
    usable: z.boolean(),
    findings: z.array(z.object({ what: z.string(), ok: z.boolean(), detail: z.string(), hint: z.string().optional() })),
  })
  .meta({ id: 'Probe' });
export type Probe = z.infer<typeof probe>;

const one = { workspace: resourceName, target: resourceName };
const base = '/workspaces/{workspace}/compute';

export const computeVerbs = {
  compute: {
    attach: verb({
      summary: 'Attaches a compute target that exists. The host is attached by an administrator.',
      method: 'POST',
      path: base,
      permission: 'contribute',
      input: z.object({
        workspace: resourceName,
        name: resourceName,
        settings: computeSettings,
        description: description.optional(),
        tags: tags.optional(),
      }),
      output: computeTarget,
    }),
    list: verb({
      summary: 'Lists the compute targets that the caller can use.',
      method: 'GET',
      path: base,
      permission: 'read',
      input: z.object({ workspace: resourceName, page, pageSize }),
      output: pageOf(computeTarget, 'ComputeTargets'),
    }),
    get: verb({
      summary: 'Shows a compute target.',
      method: 'GET',
      path: `${base}/{target}`,
      permission: 'read',
      input: z.object(one),
      output: computeTarget,
    }),
    update: verb({
      summary: 'Changes settings, description or tags.',
      method: 'PATCH',
      path: `${base}/{target}`,
      permission: 'contribute',
      input: z.object({
        ...one,
        settings: computeSettings.optional(),
        description: description.optional(),
        tags: tags.optional(),
      }),
      output: computeTarget,
    }),
    probe: verb({
      summary: 'Tells whether the compute target can be used, and what to do if not. Changes nothing.',
      method: 'POST',
      path: `${base}/{target}/probe`,
      permission: 'contribute',
      input: z.object(one),
      output: probe,
    }),
    detach: verb({
      summary: 'Detaches a compute target; the machine itself stays as it is.',
      method: 'DELETE',
      path: `${base}/{target}`,
      permission: 'contribute',
      input: z.object(one),
      output: nothing,
    }),
  },
};
