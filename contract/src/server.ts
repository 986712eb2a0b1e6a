// The server itself: what it is, and the settings that hold for all workspaces.
import * as z from 'zod';
import { indexSettings } from './environment.ts';
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

/** Where Python packages come from, as it is shown: who signs in, but no password. */
export const packageIndexes = indexSettings
  .omit({ credentials: true })
  .extend({ signIns: z.array(z.object({ url: z.string(), username: z.string() })).optional() })
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
    backup: verb({
      summary:
        'Everything that the server keeps, as it is at one moment, as a tar archive. It holds every secret and the key to them: keep it as you would keep the server.',
      method: 'POST',
      path: '/server/backup',
      permission: 'administrator',
      transport: 'download',
      input: z.object({
        withoutKey: z
          .boolean()
          .optional()
          .describe('Leaves the master key out: without it no secret of the archive can be read, nor restored.'),
      }),
      output: z.string(),
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
      input: indexSettings,
      output: packageIndexes,
    }),
  },
};
