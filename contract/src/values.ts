// The plain values that records are made of: names, times, digests, paths, tags, and their limits.
import * as z from 'zod';

export const limits = {
  nameLength: 256,
  runIdLength: 256,
  descriptionLength: 5_000,
  tags: 50,
  tagKeyLength: 100,
  tagValueLength: 1_000,
  metricNameLength: 255,
  metricTextLength: 255,
  rowColumns: 15,
  listValues: 10_000,
  pathLength: 5_000,
  pathPartBytes: 255,
  pageSize: 1_000,
  /** Of one user or run at the same time: downloads, followed logs, streams of events. */
  openStreams: 200,
  snapshotListingBytes: 64 * 1024 * 1024,
  jsonBodyBytes: 16 * 1024 * 1024,
  jsonDepth: 100,
  jsonKeys: 10_000,
  journalBytes: 4 * 1024 * 1024,
  journalLineBytes: 1024 * 1024,
  logPartBytes: 4 * 1024 * 1024,
  runLogBytes: 1024 * 1024 * 1024,
  snapshotBytes: 300 * 1024 * 1024,
  snapshotFiles: 100_000,
  errorMessageLength: 3_000,
  replicas: 64,
  secrets: 1_000,
  secretVersions: 10,
  secretLength: 64 * 1024,
} as const;

export const time = z.iso
  .datetime()
  .describe('A time, ISO 8601 in UTC.')
  .meta({ examples: ['2026-11-23T16:00:00.000Z'] });
export const digest = z
  .string()
  .regex(/^sha256:[0-9a-f]{64}$/)
  .describe('`sha256:` and 64 lower-case hexadecimal digits.');
/** Names of workspaces, users, compute targets, datastores, services: they stand in addresses. */
/** An address by HTTP, as text that a pattern describes: what else it may be is seen where it is used. */
export const httpAddress = z
  .string()
  .max(2_000)
  .regex(
    /^https?:\/\/[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]))?(\/[A-Za-z0-9._~:/?#@!$&'()*+;=%-]*)?$/,
    'must be an address such as `https://host.example:8080/path`',
  );

/** JSON Schema's words for fields that are given together or not at all. */
export const together = (...fields: string[]) => ({
  anyOf: [{ required: fields }, { not: { anyOf: fields.map((field) => ({ required: [field] })) } }],
});

export const resourceName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,30}[A-Za-z0-9]$/)
  .describe('2 to 32 letters, digits and hyphens, beginning and ending with a letter or digit.');
/** Names of secrets: they stand in addresses and in names of files. */
export const secretName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,126}$/)
  .describe('1 to 127 letters, digits, hyphens and underscores, beginning with a letter or digit.');
/** Names that users choose freely: experiments, models, images. */
export const freeName = z
  .string()
  .min(1)
  .max(limits.nameLength)
  .regex(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be in it; other languages have no \p{Cc}
    /^(?!\.\.?$)(?!\s)[^\u0000-\u001f\u007f-\u009f\ufeff/\\]+(?<!\s)$/,
    'must have no slash or control character, not be `.` or `..`, nor begin or end with a space',
  )
  .describe('Up to 256 characters, without slashes and control characters.');
export const runId = z
  .string()
  .min(1)
  .max(limits.runIdLength)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: as above
  .regex(/^(?!\.\.?$)[^\u0000-\u001f\u007f-\u009f/\\]+$/, 'must have no slash or control character, nor be `.` or `..`')
  .describe(
    'Free text up to 256 characters, without slashes and control characters; chosen by the client or made by the server.',
  );
export const description = z.string().max(limits.descriptionLength);
export const tags = z
  .record(z.string().min(1).max(limits.tagKeyLength), z.string().max(limits.tagValueLength))
  .refine((all) => Object.keys(all).length <= limits.tags, `at most ${limits.tags} entries`)
  .describe('Up to 50 entries of text; keys up to 100, values up to 1,000 characters.');
/** A path below some folder: relative, forward slashes. `paths.ts` has the rule, which no pattern can say. */
export const relativePath = z
  .string()
  .min(1)
  .max(limits.pathLength)
  .describe('A relative path with forward slashes; line breaks and other control characters are allowed, NUL is not.')
  .meta({ format: 'relative-path' });
export const version = z.int().min(1).describe('Counts from 1 under each name.');
export const page = z
  .string()
  .max(10_000)
  .meta({ format: 'page-token' })
  .optional()
  .describe('The `nextPage` of the answer before; the first page if empty or absent.');
export const pageSize = z
  .int()
  .min(1)
  .max(limits.pageSize)
  .optional()
  .describe('How many items at most; 100 unless given.');
/** What is archived is left out of lists, and otherwise as it was. */
export const archived = z
  .enum(['without', 'with', 'only'])
  .optional()
  .describe('Archived ones: left out, unless `with` or `only`.');
export type Archived = z.infer<typeof archived>;
export type Tags = z.infer<typeof tags>;
