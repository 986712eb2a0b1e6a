// Compute targets: where scripts run and web services are hosted. One word names a kind everywhere.
import * as z from 'zod';
import { activity } from './activity.ts';
import { computeProvisioning } from './compute-kinds/provisioning.ts';
import { computeKind, computeSettings } from './compute-settings.ts';
import { readResources } from './resources.ts';
import { runState } from './run-state.ts';
import { description, page, pageSize, resourceName, runId, tags, time } from './values.ts';
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

/** Of the runs that are on a target or wait for it, from all workspaces that use it: those of others are only counted. */
export const queued = z
  .object({
    position: z.int().optional().describe('1 is the next to start; those that are there have none.'),
    run: runId.optional().describe('Absent for a run of another workspace.'),
    state: runState,
    user: z.string().optional(),
    priority: z.enum(['low', 'normal', 'high']),
    reason: z.string().optional().describe('What it waits for.'),
    resources: readResources.optional(),
    createdAt: time,
  })
  .meta({ id: 'QueuedRun' });
export type QueuedRun = z.infer<typeof queued>;

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
    listQueue: verb({
      summary:
        'Lists the runs that are on the machine of a compute target, and those that wait for it in their order; a thousand of each at most.',
      method: 'GET',
      path: `${base}/{target}/queue`,
      permission: 'read',
      input: z.object(one),
      output: z.object({ items: z.array(queued) }).meta({ id: 'ComputeQueue' }),
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
