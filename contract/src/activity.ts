// Long operations: running a script, building an image, deploying a service.
import * as z from 'zod';
import { page, pageSize, resourceName, time } from './values.ts';
import { pageOf, verb } from './verb.ts';

export const activityKind = z.enum([
  'run',
  'compute.attach',
  'compute.create',
  'compute.update',
  'compute.detach',
  'compute.delete',
  'image.build',
  'web-service.deploy',
  'web-service.update',
  'web-service.scale',
  'web-service.delete',
  'runs.archive',
  'runs.delete',
  'trash.empty',
  'server.collect',
]);
export type ActivityKind = z.infer<typeof activityKind>;
export const activityState = z.enum(['queued', 'running', 'succeeded', 'failed', 'canceled']);
export type ActivityState = z.infer<typeof activityState>;

export const activity = z
  .object({
    id: z.string(),
    workspace: resourceName,
    kind: activityKind,
    subject: z.string().describe('What it is about: the run, compute target, image or web service.'),
    state: activityState,
    progress: z.object({ fraction: z.number().min(0).max(1).optional(), message: z.string() }),
    cancelRequested: z.boolean(),
    error: z.object({ reason: z.string(), message: z.string(), hint: z.string().optional() }).optional(),
    report: z
      .record(z.string(), z.unknown())
      .optional()
      .describe('What it has done so far, in numbers: `SelectionReport` of what deletes or archives many.'),
    createdAt: time,
    createdBy: z.string(),
    startedAt: time.optional(),
    endedAt: time.optional(),
  })
  .meta({ id: 'Activity' });
export type Activity = z.infer<typeof activity>;

/** Sent on event streams: the activity as it is after a change. `id` is what `Last-Event-ID` resumes from. */
export const activityEvent = z.object({ id: z.int(), activity }).meta({ id: 'ActivityEvent' });
export type ActivityEvent = z.infer<typeof activityEvent>;

const one = { workspace: resourceName, activity: z.string().max(64) };

export const activityVerbs = {
  activities: {
    list: verb({
      summary: 'Lists activities, newest first.',
      method: 'GET',
      path: '/workspaces/{workspace}/activities',
      permission: 'read',
      input: z.object({
        workspace: resourceName,
        state: activityState.optional(),
        kind: activityKind.optional(),
        subject: z.string().max(600).optional(),
        page,
        pageSize,
      }),
      output: pageOf(activity, 'Activities'),
    }),
    get: verb({
      summary: 'Shows an activity.',
      method: 'GET',
      path: '/workspaces/{workspace}/activities/{activity}',
      permission: 'read',
      input: z.object(one),
      output: activity,
    }),
    cancel: verb({
      summary: 'Asks an activity to stop. Cancelling the activity of a run cancels the run.',
      method: 'POST',
      path: '/workspaces/{workspace}/activities/{activity}/cancel',
      permission: 'contribute',
      input: z.object(one),
      output: activity,
    }),
    getLog: verb({
      summary: "The activity's log as text, from an offset; with `follow` until it ends.",
      method: 'GET',
      path: '/workspaces/{workspace}/activities/{activity}/log',
      permission: 'read',
      transport: 'download',
      input: z.object({ ...one, offset: z.int().min(0).optional(), follow: z.boolean().optional() }),
      output: z.string(),
    }),
    watch: verb({
      summary: 'A stream of every change of activities (of one, if named), resumable by Last-Event-ID.',
      method: 'GET',
      path: '/workspaces/{workspace}/activity-events',
      permission: 'read',
      transport: 'events',
      input: z.object({
        workspace: resourceName,
        activity: z.string().max(64).optional(),
        after: z.int().min(0).optional().describe('The last event seen; Last-Event-ID says the same.'),
      }),
      output: activityEvent,
    }),
  },
};
