// The server itself: what it is, and the settings that hold for all workspaces.
import * as z from 'zod';
import { activity } from './activity.ts';
import { indexSettings } from './environment.ts';
import { time } from './values.ts';
import { verb } from './verb.ts';

const freed = z.object({ count: z.int(), sizeBytes: z.int() });

/** What a collection removed, by kind; in a dry run, what it would remove. */
export const collectionReport = z
  .object({
    contents: freed.describe('Uploaded contents that nothing refers to.'),
    snapshots: freed.describe('Snapshots that no run has; their contents are counted among `contents`.'),
    layers: freed.describe('Layers and base images that no image has, unused for long.'),
    orphans: freed.describe('Files of the store that belong to nobody, as of a deleted workspace or after a crash.'),
    uploads: freed.describe('Uploads that were begun and never finished.'),
    logs: freed.describe('Logs of runs and activities that are gone.'),
    cache: freed.describe('Environments and unpacked images in the cache folder, unused for long.'),
    database: freed.describe('Pages of the database that were given back.'),
    trash: z.object({ count: z.int() }).describe('Entries of the trash whose time was over.'),
    freedBytes: z.int().describe('All of it.'),
  })
  .meta({ id: 'CollectionReport' });
export type CollectionReport = z.infer<typeof collectionReport>;

export const collection = activity
  .pick({
    id: true,
    state: true,
    progress: true,
    error: true,
    createdAt: true,
    createdBy: true,
    startedAt: true,
    endedAt: true,
  })
  .extend({ dryRun: z.boolean(), report: collectionReport.optional() })
  .meta({ id: 'Collection' });
export type Collection = z.infer<typeof collection>;

export const serverInfo = z
  .object({
    product: z.literal('stellwerk'),
    version: z.string(),
    api: z.literal('v1'),
    publicUrl: z.string(),
    servicesUrl: z.string().optional().describe('Where the gateway serves web services.'),
    startedAt: time,
    authority: z
      .string()
      .optional()
      .describe('Of its own, where it has one: the certificate (PEM) that others trust to reach it by TLS.'),
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
    collectGarbage: verb({
      summary:
        'Frees the disk of what nothing refers to any more, while the server goes on. It does so by itself every few hours; one that goes on is answered instead of another. With `dryRun` it removes nothing and reports what it would.',
      method: 'POST',
      path: '/server/collections',
      permission: 'administrator',
      input: z.object({
        dryRun: z.boolean().default(false),
        graceHours: z
          .number()
          .min(0)
          .max(8_760)
          .default(24)
          .describe('What came in more recently stays: it may be about to be referred to.'),
        unusedDays: z
          .number()
          .min(0)
          .max(3_650)
          .default(30)
          .describe('What can be made again (layers, base images, environments) stays for so long after its last use.'),
      }),
      output: collection,
    }),
    rotateMasterKey: verb({
      summary:
        'Changes the master key, while the server goes on: every data key is sealed anew. A key file is replaced; a key command is asked again.',
      method: 'POST',
      path: '/server/master-key',
      permission: 'administrator',
      input: z.object({}),
      output: z
        .object({ keys: z.int().describe('Data keys that were sealed anew.') })
        .meta({ id: 'MasterKeyRotation' }),
    }),
    getCollection: verb({
      summary: 'Shows a garbage collection and what it has freed so far.',
      method: 'GET',
      path: '/server/collections/{collection}',
      permission: 'administrator',
      input: z.object({ collection: z.string().max(64) }),
      output: collection,
    }),
    listCollections: verb({
      summary: 'Lists the last garbage collections, the newest first.',
      method: 'GET',
      path: '/server/collections',
      permission: 'administrator',
      input: z.object({}),
      output: z.object({ items: z.array(collection) }).meta({ id: 'Collections' }),
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
