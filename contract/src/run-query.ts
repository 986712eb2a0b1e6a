// What a search for runs is asked with. The language of its filter is in docs/concepts/query.md.
import { z } from 'zod';
import { freeName, limits, page, pageSize, resourceName, runId } from './values.ts';

/** What a query may order by: `createdAt`, `metrics.mse`, `metrics.mse.min`, `parameters.alpha`, `tags.kind` …, `asc` or `desc`. */
export const runQuery = z.object({
  workspace: resourceName,
  experiment: freeName.optional(),
  parent: runId.optional().describe('Only children of this run.'),
  ancestor: runId.optional().describe('Only descendants of this run.'),
  filter: z
    .string()
    .max(10_000)
    .optional()
    .describe(
      "Such as `state = 'completed' and metrics.mse < 3000 and tags.kind = 'ridge' and parameters.alpha >= 0.1 and createdAt > 'now-7d'`; metrics also by `.min`, `.max`, `.first`, `.count`, `.at(100)`; `matches` takes a regular expression.",
    ),
  orderBy: z
    .array(z.string().max(600))
    .max(5)
    .optional()
    .describe('Such as `metrics.mse asc`, `createdAt desc` (the default).'),
  columns: z
    .array(z.string().max(600))
    .max(1_000)
    .optional()
    .describe(
      'What is wanted of each run: fields, `tags.kind`, all `tags`, `parameters.alpha`, `metrics.mse`. Id, experiment, number, state, user and time come always. Unless given: all but metrics and what is wide (`configuration`, `environment`, `git`, `lastLines`, `differences`).',
    ),
  metrics: z
    .array(z.string().max(limits.metricNameLength))
    .max(1_000)
    .optional()
    .describe('Metrics whose summaries are wanted with each run, by their exact names.'),
  page,
  pageSize,
});
