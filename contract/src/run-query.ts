// What a search for runs is asked with. The language of its filter is in docs/concepts/query.md.
import { z } from 'zod';
import { selection } from './run-selection.ts';
import { limits, page, pageSize } from './values.ts';

/** What a query may order by: `createdAt`, `metrics.mse`, `metrics.mse.min`, `parameters.alpha`, `tags.kind` …, `asc` or `desc`. */
export const runQuery = z.object({
  ...selection,
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
