// The server itself: what it is, and the settings that hold for all workspaces.
import { z } from 'zod';
import { time } from './values.ts';
import { verb } from './verb.ts';

export const serverInfo = z
  .object({
    product: z.literal('stellwerk'),
    version: z.string(),
    api: z.literal('v1'),
    publicUrl: z.string(),
    servicesUrl: z.string().optional().describe('Where the gateway serves web services.'),
    startedAt: time,
    wheel: z
      .string()
      .optional()
      .describe('The address of the Python package that matches this server; pip installs it.'),
  })
  .meta({ id: 'ServerInfo' });
export type ServerInfo = z.infer<typeof serverInfo>;

const indexUrl = z.url({ protocol: /^https?$/ }).describe('Without credentials; those are given beside it.');
const credentials = z.object({ user: z.string().max(256), password: z.string().max(4_000) });

/** Where Python packages come from: for resolving, installing and images alike. */
export const packageIndexes = z
  .object({
    index: indexUrl.optional().describe("The index; pip's own configuration, else PyPI, unless given."),
    extraIndexes: z.array(indexUrl).max(20).optional(),
    findLinks: z.array(z.string().max(2_000)).max(20).optional(),
    proxy: z.url({ protocol: /^https?$/ }).optional(),
    caBundle: z.string().max(1_000_000).optional().describe('PEM certificates.'),
    credentials: z
      .record(z.string(), z.object({ user: z.string().max(256) }))
      .optional()
      .describe('By host: who signs in; passwords are never shown.'),
  })
  .meta({ id: 'PackageIndexes' });
export type PackageIndexes = z.infer<typeof packageIndexes>;

export const serverVerbs = {
  server: {
    get: verb({
      summary: 'What this server is.',
      method: 'GET',
      path: '/server',
      permission: 'public',
      input: z.object({}),
      output: serverInfo,
    }),
  },
  packageIndexes: {
    get: verb({
      summary: 'Shows where Python packages come from.',
      method: 'GET',
      path: '/package-indexes',
      permission: 'administrator',
      input: z.object({}),
      output: packageIndexes,
    }),
    set: verb({
      summary:
        'Sets where Python packages come from, credentials by host included. No credential enters a lock, an image or a record.',
      method: 'PUT',
      path: '/package-indexes',
      permission: 'administrator',
      input: packageIndexes
        .omit({ credentials: true })
        .extend({ credentials: z.record(z.string().max(256), credentials).optional() }),
      output: packageIndexes,
    }),
  },
};
