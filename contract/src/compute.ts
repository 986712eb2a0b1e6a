// Compute targets: where scripts run and web services are hosted. One word names a kind everywhere.
import * as z from 'zod';
import { computeKind, computeSettings } from './compute-settings.ts';
import { description, page, pageSize, resourceName, tags, time } from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

export const computeTarget = z
  .object({
    name: resourceName,
    kind: computeKind,
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
