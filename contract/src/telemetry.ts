// What runs report: the journal they ship, the metrics and logs it becomes, and how those are read.
import * as z from 'zod';
import { limits, relativePath, runId, time, resourceName as workspaceName } from './values.ts';
import { verb } from './verb.ts';

const metricName = z.string().min(1).max(limits.metricNameLength);
/** No name of a metric begins with the letter by which series of resources are kept apart. */
const loggedName = metricName.refine(
  (name) => !name.startsWith('\u001f'),
  'may not begin with the control character U+001F',
);
/** Such as `memoryBytes`, `gpu0.powerWatts`. */
const resourceName = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z0-9]+){0,3}$/)
  .max(100);
/** Non-finite numbers travel as text, since JSON has none. */
export const metricNumber = z.union([z.number(), z.enum(['NaN', 'Infinity', '-Infinity'])]);
export const metricValue = z.union([metricNumber, z.string().max(limits.metricTextLength), z.boolean(), z.null()]);
const step = z.int().nullable();
/** Seconds since 1970, with fraction, by the clock of the machine that logged. */
const seconds = z.number().min(-8.64e12).max(8.64e12);

/**
 * One line of a journal is one JSON array; its first element says what it is. Compact, because a training loop writes millions.
 *
 * - `["m", name, value, step, time]` one number of the series `name`
 * - `["l", name, values, step, time]` a list: each value is a point of the series
 * - `["r", name, {column: value}, step, time]` a row of a table
 * - `["t", name, {column: [values]}, step, time]` a whole table
 * - `["o", name, kind, object, step, time]` a structured metric: `image` {path}, `confusion_matrix`, `predictions`, `residuals`, `accuracy_table`
 * - `["tag", key, value]`, `["prop", key, value]`, `["param", name, value]` (a value of JSON type), `["name", text]`
 * - `["state", "completed" | "failed" | "canceled", reason?, time?]` an interactive run ends itself; the reason may be null
 * - `["file", path, digest, sizeBytes]` bytes brought before by `blobs.append` are now this file of the run
 * - `["u", name, value, time]` what the run takes of a resource of its machine
 */
export const journalEntry = z.union([
  z.tuple([z.literal('m'), loggedName, metricNumber, step, seconds]),
  z.tuple([z.literal('l'), loggedName, z.array(metricValue).max(limits.listValues), step, seconds]),
  z.tuple([z.literal('r'), loggedName, z.record(z.string().max(limits.metricTextLength), metricValue), step, seconds]),
  z.tuple([
    z.literal('t'),
    loggedName,
    z.record(
      z.string().max(limits.metricTextLength),
      z.union([metricValue, z.array(metricValue).max(limits.listValues)]),
    ),
    step,
    seconds,
  ]),
  z.tuple([
    z.literal('o'),
    loggedName,
    z.enum(['image', 'confusion_matrix', 'predictions', 'residuals', 'accuracy_table']),
    z.record(z.string(), z.unknown()),
    step,
    seconds,
  ]),
  z.tuple([
    z.literal('tag'),
    z.string().min(1).max(limits.tagKeyLength),
    z.string().max(limits.tagValueLength).nullable(),
  ]),
  z.tuple([z.literal('prop'), z.string().min(1).max(limits.tagKeyLength), z.string().max(limits.tagValueLength)]),
  z.tuple([
    z.literal('param'),
    z.string().min(1).max(limits.metricNameLength),
    z.union([z.number(), z.string().max(limits.tagValueLength), z.boolean(), z.null()]),
  ]),
  z.tuple([z.literal('name'), z.string().max(limits.nameLength)]),
  z.tuple([
    z.literal('state'),
    z.enum(['completed', 'failed', 'canceled']),
    z.string().max(limits.errorMessageLength).nullable().optional(),
    seconds.optional(),
  ]),
  z.tuple([z.literal('file'), z.string(), z.string(), z.int()]),
  z.tuple([z.literal('u'), resourceName, z.number(), seconds]),
]);
export type JournalEntry = z.infer<typeof journalEntry>;

export const metricKind = z.enum([
  'number',
  'list',
  'row',
  'table',
  'image',
  'confusion_matrix',
  'predictions',
  'residuals',
  'accuracy_table',
]);
export type MetricKind = z.infer<typeof metricKind>;

/** What is known of a series without reading its points. Numbers: first, last, min, max. */
export const metricSummary = z
  .object({
    name: z.string(),
    kind: metricKind,
    count: z.int(),
    first: metricValue.optional(),
    last: metricValue.optional(),
    min: metricNumber.optional(),
    max: metricNumber.optional(),
    lastStep: z.int().nullable().optional(),
    lastAt: time.optional(),
  })
  .meta({ id: 'MetricSummary' });
export type MetricSummary = z.infer<typeof metricSummary>;

export const point = z.object({ step: z.int().nullable(), at: time, value: metricValue }).meta({ id: 'Point' });
export const bucket = z
  .object({
    firstStep: z.int().nullable(),
    lastStep: z.int().nullable(),
    min: metricNumber,
    max: metricNumber,
    last: metricNumber,
    count: z.int(),
  })
  .meta({ id: 'Bucket' });

export const series = z
  .object({
    summary: metricSummary,
    points: z.array(point).optional().describe('Numbers and list values, in the order they were logged.'),
    buckets: z
      .array(bucket)
      .optional()
      .describe('With `buckets`: the series in so many parts, each with its minimum and maximum.'),
    rows: z
      .array(z.object({ step: z.int().nullable(), at: time, row: z.record(z.string(), z.unknown()) }))
      .optional()
      .describe('Rows, tables and structured metrics.'),
    nextOffset: z.int().optional().describe('Where to go on; absent at the end.'),
  })
  .meta({ id: 'Series' });
export type Series = z.infer<typeof series>;

export const logFile = z
  .object({
    name: relativePath,
    sizeBytes: z.int(),
    complete: z.boolean(),
    cut: z
      .boolean()
      .optional()
      .describe('Whether the logs of the run reached 1 GiB here: what came after is taken, but not kept.'),
  })
  .meta({ id: 'LogFile' });

const ofRun = { workspace: workspaceName, run: runId };
const kindOfSeries = z
  .enum(['script', 'resources'])
  .optional()
  .describe(
    'What the script logged (unless given), or what its processes took of their machine (`cpus`, `memoryBytes`, …).',
  );
const base = '/workspaces/{workspace}/runs/{run}';

export const telemetryVerbs = {
  journals: {
    append: verb({
      summary:
        'Appends whole lines to a journal of the run, at an offset. Sending the same again is harmless; the answer says what is durable.',
      method: 'POST',
      path: `${base}/journals/{journal}`,
      permission: 'contribute',
      runToken: 'run',
      transport: 'upload',
      input: z.object({
        ...ofRun,
        journal: z.string().regex(/^[\w.-]{1,64}$/),
        offset: z.int().min(0),
        attempt: z.int().min(1).optional(),
      }),
      output: z
        .object({ offset: z.int().describe('Bytes of this journal that are durable.') })
        .meta({ id: 'JournalState' }),
    }),
    get: verb({
      summary: 'How much of a journal is durable.',
      method: 'GET',
      path: `${base}/journals/{journal}`,
      permission: 'read',
      runToken: 'run',
      input: z.object({ ...ofRun, journal: z.string().regex(/^[\w.-]{1,64}$/) }),
      output: z.object({ offset: z.int() }).meta({ id: 'JournalState' }),
    }),
  },
  metrics: {
    list: verb({
      summary: 'The summaries of all metrics of a run; `recursive` adds those of its descendants, by run.',
      method: 'GET',
      path: `${base}/metrics`,
      permission: 'read',
      runToken: 'run',
      input: z.object({
        ...ofRun,
        name: z.string().max(limits.metricNameLength).optional(),
        recursive: z.boolean().optional(),
        of: kindOfSeries,
      }),
      output: z
        .object({ items: z.array(metricSummary), byRun: z.record(z.string(), z.array(metricSummary)).optional() })
        .meta({ id: 'MetricSummaries' }),
    }),
    getSeries: verb({
      summary: 'The values of one metric of a run, in the order they were logged, or in buckets for a chart.',
      method: 'GET',
      path: `${base}/series`,
      permission: 'read',
      runToken: 'run',
      input: z.object({
        ...ofRun,
        name: metricName,
        of: kindOfSeries,
        offset: z.int().min(0).optional(),
        limit: z.int().min(1).max(100_000).optional(),
        buckets: z.int().min(1).max(10_000).optional(),
      }),
      output: series,
    }),
  },
  logs: {
    append: verb({
      summary:
        'Appends bytes to a log of the run, at an offset. Sending the same again is harmless. Of a run, 1 GiB of logs is kept.',
      method: 'POST',
      path: `${base}/log`,
      permission: 'contribute',
      runToken: 'run',
      transport: 'upload',
      input: z.object({
        ...ofRun,
        name: relativePath,
        offset: z.int().min(0),
        complete: z.boolean().optional(),
        attempt: z.int().min(1).optional(),
      }),
      output: logFile,
    }),
    list: verb({
      summary: 'Lists the logs of a run.',
      method: 'GET',
      path: `${base}/logs`,
      permission: 'read',
      runToken: 'run',
      input: z.object(ofRun),
      output: z.object({ items: z.array(logFile) }).meta({ id: 'LogFiles' }),
    }),
    get: verb({
      summary: 'A log of the run from an offset; with `follow` it goes on until the run has ended.',
      method: 'GET',
      path: `${base}/log`,
      permission: 'read',
      runToken: 'run',
      transport: 'download',
      input: z.object({
        ...ofRun,
        name: relativePath.optional().describe('`output.txt`, what the script printed, unless given.'),
        offset: z.int().min(0).optional(),
        follow: z.boolean().optional(),
      }),
      output: z.string(),
    }),
  },
};
