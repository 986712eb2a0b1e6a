// Which runs a query, an archiving or a deletion is about, and what they come to.
import * as z from 'zod';
import { archived, freeName, resourceName, runId } from './values.ts';

/** Which runs: what a query selects by. */
export const selection = {
  workspace: resourceName,
  experiment: freeName.optional(),
  parent: runId.optional().describe('Only children of this run.'),
  ancestor: runId.optional().describe('Only descendants of this run.'),
  filter: z
    .string()
    .max(10_000)
    .optional()
    .describe(
      "Such as `state = 'completed' and metrics.mse < 3000 and tags.kind = 'ridge' and parameters.alpha >= 0.1 and createdAt > now-7d`; metrics also by `.min`, `.max`, `.first`, `.count`, `.at(100)`; `matches` takes a regular expression.",
    ),
  archived: archived.describe('Archived ones: left out, unless `with` or `only`, or the filter asks for `archivedAt`.'),
};

/** What many runs come to, as the activities `runs.archive`, `runs.delete` and `trash.empty` report it; the sizes where it is a dry run. */
export const selectionReport = z
  .object({
    runs: z.int().describe('With their descendants.'),
    skipped: z.int().optional().describe('Not ended, or with descendants that have not: they stay.'),
    models: z.int().optional(),
    files: z.int().optional(),
    sizeBytes: z.int().optional().describe('Of all these files and logs.'),
    freedBytes: z
      .int()
      .optional()
      .describe('Of what nothing else refers to: so much a collection frees once they are gone for good.'),
    points: z.int().optional().describe('Of their metrics.'),
  })
  .meta({ id: 'SelectionReport' });
export type SelectionReport = z.infer<typeof selectionReport>;
