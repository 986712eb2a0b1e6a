// Compute targets: where scripts run and web services are hosted. One word names a kind everywhere.
import * as z from 'zod';
import { activity } from './activity.ts';
import { computeProvisioning } from './compute-kinds/provisioning.ts';
import { computeKind, computeSettings } from './compute-settings.ts';
import { description, page, pageSize, resourceName, tags, time } from './values.ts';
import { pageOf, verb } from './verb.ts';

export const nodeCounts = z
  .object({
    idle: z.int(),
    running: z.int(),
    starting: z.int(),
    off: z.int().optional().describe('Those that are switched on when they are needed.'),
  })
  .meta({ id: 'NodeCounts' });
export type NodeCounts = z.infer<typeof nodeCounts>;

export const computeTarget = z
  .object({
    name: resourceName,
    kind: computeKind,
    settings: computeSettings.optional().describe('How it is used; absent until it has been made.'),
    state: z.enum(['usable', 'attaching', 'creating', 'detaching', 'deleting', 'failed']),
    reason: z.string().optional(),
    created: z.boolean().describe('Made from here, so that it can be deleted; others were attached, and are detached.'),
    provisioning: computeProvisioning.optional().describe('What it was made by.'),
    activity: z.string().optional().describe('What last changed it, or is changing it.'),
    nodes: nodeCounts.optional().describe('Of a cluster, how its nodes are just now; only where one target is shown.'),
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
const force = z
  .boolean()
  .optional()
  .describe('Cancels the runs that are open on it first; without, it is refused while there are any.');

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
    create: verb({
      summary: 'Makes a compute target on an attached one. Answers at once; its activity tells how far it is.',
      method: 'POST',
      path: `${base}/create`,
      permission: 'contribute',
      input: z.object({
        workspace: resourceName,
        name: resourceName,
        settings: computeProvisioning,
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
    scale: verb({
      summary: 'Changes what a compute target that was created here is made of: its nodes, its quota.',
      method: 'POST',
      path: `${base}/{target}/scale`,
      permission: 'contribute',
      input: z.object({ ...one, settings: computeProvisioning }),
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
      input: z.object({ ...one, force }),
      output: activity,
    }),
    delete: verb({
      summary: 'Deletes a compute target that was created here, with all that was made for it.',
      method: 'POST',
      path: `${base}/{target}/delete`,
      permission: 'contribute',
      input: z.object({ ...one, force }),
      output: activity,
    }),
  },
};
