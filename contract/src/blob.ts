// Bytes on their way to the server: named by their digest, so that sending them again is harmless and a cut upload goes on.
import * as z from 'zod';
import { digest, resourceName } from './values.ts';
import { verb } from './verb.ts';

export const blobState = z
  .object({
    digest,
    complete: z.boolean(),
    receivedBytes: z.int().describe('Durable so far; the offset to go on from.'),
  })
  .meta({ id: 'BlobState' });
export type BlobState = z.infer<typeof blobState>;

const one = { workspace: resourceName, digest };

export const blobVerbs = {
  blobs: {
    get: verb({
      summary: 'How much of a content has arrived in this workspace.',
      method: 'GET',
      path: '/workspaces/{workspace}/blobs/{digest}',
      permission: 'contribute',
      runToken: 'upload',
      input: z.object(one),
      output: blobState,
    }),
    append: verb({
      summary:
        'Sends a part of a content, or all of it. Complete when `sizeBytes` have arrived and the digest is right.',
      method: 'PUT',
      path: '/workspaces/{workspace}/blobs/{digest}',
      permission: 'contribute',
      runToken: 'upload',
      transport: 'upload',
      input: z.object({
        ...one,
        offset: z.int().min(0).default(0),
        sizeBytes: z.int().min(0).describe('Of the whole content.'),
      }),
      output: blobState,
    }),
  },
};
