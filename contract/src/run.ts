// A run is the record of one execution, filed under an experiment; it may have children, to any depth.
import * as z from 'zod';
import { activity } from './activity.ts';
import { condaAddress } from './conda-lock.ts';
import { environmentTarget } from './environment.ts';
import { job, jobFacts, secretValues, usage } from './job.ts';
import { runConfiguration } from './run-configuration.ts';
import { runQuery } from './run-query.ts';
import { selection } from './run-selection.ts';
import { runState } from './run-state.ts';
import { metricSummary } from './telemetry.ts';
import { trashEntry } from './trash.ts';
import {
  description,
  digest,
  freeName,
  limits,
  page,
  pageSize,
  relativePath,
  resourceName,
  runId,
  tags,
  time,
} from './values.ts';
import { pageOf, verb } from './verb.ts';

export const parameterValue = z.union([z.number(), z.string().max(limits.tagValueLength), z.boolean(), z.null()]);

export const gitState = z
  .object({
    remote: z.string().max(2_000).optional().describe('Without credentials.'),
    commit: z.string().max(64),
    branch: z.string().max(256).optional(),
    dirty: z.boolean(),
  })
  .meta({ id: 'GitState' });

export const run = z
  .object({
    id: runId,
    workspace: resourceName,
    experiment: freeName,
    number: z.int().describe('Counts the runs of the experiment.'),
    displayName: z.string().max(limits.nameLength).optional(),
    description: description.optional(),
    parent: runId.optional(),
    root: runId,
    childCount: z.int(),
    state: runState,
    reason: z
      .string()
      .optional()
      .describe('Why it is in this state, where that is not plain: what failed, why it is lost or waits.'),
    attempt: z.int().describe('Counts the executions of this run; 0 before the first.'),
    interactive: z.boolean().describe('Started by `start_logging`, not submitted.'),
    target: resourceName.optional(),
    queuePosition: z.int().optional().describe('1 is the next to start; only while queued.'),
    configuration: runConfiguration.optional(),
    snapshot: digest.optional(),
    parameters: z.record(z.string(), parameterValue),
    tags,
    properties: tags,
    environment: z
      .object({
        lockHash: z.string().optional(),
        lock: z.string().optional(),
        python: z.string().optional(),
        notices: z.array(z.string()).optional(),
      })
      .optional(),
    git: gitState.optional(),
    user: z.string().describe('Who submitted or started it.'),
    host: z.string().optional().describe('Where it runs.'),
    job: jobFacts.optional().describe('What its target tells of it.'),
    usage: usage.optional().describe('What it took, as far as it is known.'),
    createdAt: time,
    startedAt: time.optional(),
    endedAt: time.optional(),
    durationMs: z.number().optional(),
    exitCode: z.int().optional(),
    lastLines: z.array(z.string()).optional().describe('The end of the output of a failed run.'),
    activity: z.string().optional(),
    resubmittedFrom: runId.optional().describe('The run that this one does again.'),
    differences: z
      .array(z.string())
      .optional()
      .describe('What could not be held equal to the run that this one does again, or was changed on purpose.'),
    archivedAt: time.optional(),
    metrics: z.array(metricSummary).optional().describe('Where a query asked for them.'),
  })
  .meta({ id: 'Run' });
export type Run = z.infer<typeof run>;

const inWorkspace = { workspace: resourceName };
const ofRun = { workspace: resourceName, run: runId };
const base = '/workspaces/{workspace}/runs';

const describing = {
  id: runId.optional().describe('Made by the server unless given. Giving it makes the call safe to repeat.'),
  experiment: freeName.describe('Created if it does not exist.'),
  displayName: z.string().max(limits.nameLength).optional(),
  description: description.optional(),
  parent: runId.optional(),
  tags: tags.optional(),
  properties: tags.optional(),
  parameters: z.record(z.string().min(1).max(limits.metricNameLength), parameterValue).optional(),
  git: gitState.optional(),
};

export const runFile = z.object({ path: relativePath, sizeBytes: z.int(), digest, at: time }).meta({ id: 'RunFile' });
export type RunFile = z.infer<typeof runFile>;

export const runVerbs = {
  runs: {
    submit: verb({
      summary:
        'Submits a script: records the run, which then starts on its target by itself (`local`: by the one who submits).',
      method: 'POST',
      path: `${base}`,
      permission: 'contribute',
      input: z.object({
        ...inWorkspace,
        ...describing,
        configuration: runConfiguration,
        snapshot: digest,
        secrets: secretValues.optional(),
      }),
      output: run,
    }),
    resubmit: verb({
      summary:
        'Does a submitted run again: its snapshot, the lock of its environment and its inputs, as a new run that says what it is made from and what may differ.',
      method: 'POST',
      path: `${base}/{run}/resubmit`,
      permission: 'contribute',
      input: z.object({
        ...ofRun,
        id: describing.id,
        target: resourceName.optional().describe('Another compute target; that of the run unless given.'),
        experiment: freeName.optional().describe('Another experiment; that of the run unless given.'),
        set: z
          .record(
            z.string().min(1).max(limits.metricNameLength),
            z.union([z.number(), z.string().max(limits.tagValueLength), z.boolean()]),
          )
          .optional()
          .describe('Other values for arguments of the script, by the name of the parameter: `alpha` for `--alpha`.'),
        displayName: describing.displayName,
        tags: tags.optional().describe('On top of those of the run.'),
        secrets: secretValues.optional(),
      }),
      output: run,
    }),
    start: verb({
      summary: 'Starts an interactive run, whose process reports to it directly.',
      method: 'POST',
      path: `${base}/start`,
      permission: 'contribute',
      runToken: 'child',
      input: z.object({
        ...inWorkspace,
        ...describing,
        host: z.string().max(256).optional(),
        startedAt: time.optional(),
      }),
      output: run,
    }),
    getJob: verb({
      summary:
        'Takes up a run whose target is `local`: gives its submitter what the runner on this machine needs, and begins an attempt.',
      method: 'POST',
      path: `${base}/{run}/job`,
      permission: 'contribute',
      input: z.object({
        ...ofRun,
        machine: environmentTarget
          .optional()
          .describe("What that machine has; the environment is resolved for it. The server's own unless given."),
      }),
      output: job,
    }),
    report: verb({
      summary:
        'A runner renews its lease, moves the run on, and hears whether to stop. An older attempt than the newest is refused.',
      method: 'POST',
      path: `${base}/{run}/report`,
      permission: 'contribute',
      runToken: 'run',
      input: z.object({
        ...ofRun,
        attempt: z.int().min(1),
        state: z.enum(['preparing', 'running', 'finalizing', 'completed', 'failed', 'canceled']).optional(),
        reason: z.string().max(limits.errorMessageLength).optional(),
        progress: z.string().max(1_000).optional().describe('What is being done, for the activity.'),
        exitCode: z.int().optional(),
        cause: z
          .enum(['time-limit', 'out-of-memory'])
          .optional()
          .describe('With `failed`: what the script was ended for, where `retries` may have it begun again for that.'),
        usage: usage.optional(),
        lastLines: z.array(z.string().max(2_000)).max(100).optional(),
        host: z.string().max(256).optional(),
        job: jobFacts.optional(),
        python: z.string().max(100).optional(),
        notices: z.array(z.string().max(2_000)).max(100).optional(),
        condaPackages: z
          .array(z.string().max(2_000).regex(condaAddress))
          .max(5_000)
          .optional()
          .describe('What conda installed, each with its address and checksum; becomes part of the lock.'),
        startedAt: time.optional(),
        endedAt: time.optional(),
      }),
      output: z
        .object({
          state: runState,
          cancelRequested: z.boolean(),
          leaseSeconds: z.number(),
          token: z.string().optional().describe('A renewed token, when the old one nears its end.'),
        })
        .meta({ id: 'RunLease' }),
    }),
    get: verb({
      summary: 'Shows a run.',
      method: 'GET',
      path: `${base}/{run}`,
      permission: 'read',
      runToken: 'run',
      input: z.object(ofRun),
      output: run,
    }),
    query: verb({
      summary: 'Finds runs by state, tags, parameters, metrics and time; sorted, paged.',
      method: 'POST',
      path: `${base}/query`,
      permission: 'read',
      input: runQuery,
      output: pageOf(run, 'Runs'),
    }),
    list: verb({
      summary: 'Lists runs, newest first: a query in an address.',
      method: 'GET',
      path: `${base}`,
      permission: 'read',
      input: runQuery,
      output: pageOf(run, 'Runs'),
    }),
    update: verb({
      summary: 'Changes name, description and tags (null removes one); adds properties.',
      method: 'PATCH',
      path: `${base}/{run}`,
      permission: 'contribute',
      runToken: 'run',
      input: z.object({
        ...ofRun,
        displayName: z.string().max(limits.nameLength).optional(),
        description: description.optional(),
        tags: z
          .record(z.string().min(1).max(limits.tagKeyLength), z.string().max(limits.tagValueLength).nullable())
          .optional(),
        properties: tags.optional(),
      }),
      output: run,
    }),
    cancel: verb({
      summary: 'Cancels a run and its descendants; outputs written in the grace period still arrive.',
      method: 'POST',
      path: `${base}/{run}/cancel`,
      permission: 'contribute',
      runToken: 'run',
      input: z.object(ofRun),
      output: run,
    }),
    archive: verb({
      summary: 'Leaves a run and its descendants out of lists and queries from now on. Nothing else changes.',
      method: 'POST',
      path: `${base}/{run}/archive`,
      permission: 'contribute',
      input: z.object(ofRun),
      output: run,
    }),
    reactivate: verb({
      summary: 'Brings an archived run and its descendants back.',
      method: 'POST',
      path: `${base}/{run}/reactivate`,
      permission: 'contribute',
      input: z.object(ofRun),
      output: run,
    }),
    archiveMany: verb({
      summary:
        'Archives the runs that a query selects, with their descendants. With `dryRun` it only reports what that comes to.',
      method: 'POST',
      path: `${base}/archive-many`,
      permission: 'contribute',
      input: z.object({ ...selection, dryRun: z.boolean().default(false) }),
      output: activity,
    }),
    delete: verb({
      summary: 'Puts a run and its descendants into the trash. Refused while one of them has not ended.',
      method: 'DELETE',
      path: `${base}/{run}`,
      permission: 'contribute',
      input: z.object(ofRun),
      output: trashEntry,
    }),
    deleteMany: verb({
      summary:
        'Puts the runs that a query selects into the trash, with their descendants; those that have not ended stay. With `dryRun` it only reports what that comes to, in bytes too.',
      method: 'POST',
      path: `${base}/delete-many`,
      permission: 'contribute',
      input: z.object({ ...selection, dryRun: z.boolean().default(false) }),
      output: activity,
    }),
    listFiles: verb({
      summary: 'Lists the files of a run: outputs, logs and what was uploaded.',
      method: 'GET',
      path: `${base}/{run}/files`,
      permission: 'read',
      runToken: 'run',
      input: z.object({
        ...ofRun,
        prefix: z.string().max(limits.pathLength).meta({ format: 'relative-path' }).optional(),
        page,
        pageSize,
      }),
      output: pageOf(runFile, 'RunFiles'),
    }),
    putFile: verb({
      summary: 'Makes uploaded bytes a file of the run; the same path again replaces it.',
      method: 'PUT',
      path: `${base}/{run}/file`,
      permission: 'contribute',
      runToken: 'run',
      input: z.object({ ...ofRun, path: relativePath, digest, attempt: z.int().min(1).optional() }),
      output: runFile,
    }),
    getFile: verb({
      summary: 'Downloads a file of the run. Understands Range.',
      method: 'GET',
      path: `${base}/{run}/file`,
      permission: 'read',
      runToken: 'run',
      transport: 'download',
      input: z.object({ ...ofRun, path: relativePath }),
      output: z.string(),
    }),
  },
};
