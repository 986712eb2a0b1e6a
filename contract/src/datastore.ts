// Named storage. Each workspace has a default datastore.
import * as z from 'zod';
import { digest, limits, page, pageSize, relativePath, resourceName, time } from './values.ts';
import { pageOf, verb } from './verb.ts';

export const datastore = z
  .object({ name: resourceName, kind: z.enum(['local']), isDefault: z.boolean(), createdAt: time })
  .meta({ id: 'Datastore' });
export type Datastore = z.infer<typeof datastore>;

export const datastoreFile = z
  .object({ path: relativePath, sizeBytes: z.int(), modifiedAt: time })
  .meta({ id: 'DatastoreFile' });
export type DatastoreFile = z.infer<typeof datastoreFile>;

const one = { workspace: resourceName, datastore: resourceName };
const base = '/workspaces/{workspace}/datastores';

export const datastoreVerbs = {
  datastores: {
    list: verb({
      summary: 'Lists datastores.',
      method: 'GET',
      path: base,
      permission: 'read',
      input: z.object({ workspace: resourceName, page, pageSize }),
      output: pageOf(datastore, 'Datastores'),
    }),
    get: verb({
      summary: 'Shows a datastore.',
      method: 'GET',
      path: `${base}/{datastore}`,
      permission: 'read',
      input: z.object(one),
      output: datastore,
    }),
    listFiles: verb({
      summary: 'Lists files below a path, in the order of their names.',
      method: 'GET',
      path: `${base}/{datastore}/files`,
      permission: 'read',
      runToken: 'datastore',
      input: z.object({
        ...one,
        prefix: z
          .string()
          .max(limits.pathLength)
          .meta({ format: 'relative-path' })
          .optional()
          .describe('A file or folder.'),
        page,
        pageSize,
      }),
      output: pageOf(datastoreFile, 'DatastoreFiles'),
    }),
    putFile: verb({
      summary: 'Makes uploaded bytes a file of the datastore.',
      method: 'PUT',
      path: `${base}/{datastore}/file`,
      permission: 'contribute',
      runToken: 'datastore',
      input: z.object({ ...one, path: relativePath, digest, overwrite: z.boolean().default(false) }),
      output: datastoreFile,
    }),
    getFile: verb({
      summary: 'Downloads a file. Understands Range.',
      method: 'GET',
      path: `${base}/{datastore}/file`,
      permission: 'read',
      runToken: 'datastore',
      transport: 'download',
      input: z.object({ ...one, path: relativePath }),
      output: z.string(),
    }),
    deleteFiles: verb({
      summary: 'Deletes a file, or a folder with everything below it.',
      method: 'DELETE',
      path: `${base}/{datastore}/files`,
      permission: 'contribute',
      input: z.object({ ...one, path: relativePath }),
      output: z.object({ deleted: z.int() }).meta({ id: 'DeletedFiles' }),
    }),
  },
};
