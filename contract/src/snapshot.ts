// The project folder as it was submitted, once per content.
import * as z from 'zod';
import { digest, limits, relativePath, resourceName, time } from './values.ts';
import { verb } from './verb.ts';

export const snapshotFile = z
  .object({ path: relativePath, digest, sizeBytes: z.int().min(0), executable: z.boolean().optional() })
  .meta({ id: 'SnapshotFile' });
export type SnapshotFile = z.infer<typeof snapshotFile>;

/**
 * A snapshot's digest is the SHA-256 of its canonical listing: for each file in the byte order of its UTF-8 path the line
 * `<digest> <sizeBytes> <x or -> <path>\n`. A line feed in a path is written as a backslash and an `n`: no path has a backslash of its own.
 */
export const snapshot = z
  .object({
    digest,
    fileCount: z.int(),
    sizeBytes: z.int(),
    createdAt: time,
    complete: z.boolean().describe('Whether all content has arrived.'),
    missing: z.array(digest).optional().describe('Contents still to be uploaded.'),
  })
  .meta({ id: 'Snapshot' });
export type Snapshot = z.infer<typeof snapshot>;

export function lineOfListing({ digest, sizeBytes, executable, path }: SnapshotFile): string {
  return `${digest} ${sizeBytes} ${executable ? 'x' : '-'} ${path.replaceAll('\n', '\\n')}\n`;
}

const one = { workspace: resourceName, snapshot: digest };

export const snapshotVerbs = {
  snapshots: {
    create: verb({
      summary: 'Announces a snapshot by its listing; the answer names the contents that are missing.',
      method: 'POST',
      path: '/workspaces/{workspace}/snapshots',
      permission: 'contribute',
      bodyBytes: limits.snapshotListingBytes,
      input: z.object({ workspace: resourceName, files: z.array(snapshotFile).max(limits.snapshotFiles) }),
      output: snapshot,
    }),
    addFiles: verb({
      summary: 'Brings missing contents in a ZIP archive; names are paths of the listing.',
      method: 'PUT',
      path: '/workspaces/{workspace}/snapshots/{snapshot}/files',
      permission: 'contribute',
      transport: 'upload',
      input: z.object(one),
      output: snapshot,
    }),
    get: verb({
      summary: 'Shows a snapshot.',
      method: 'GET',
      path: '/workspaces/{workspace}/snapshots/{snapshot}',
      permission: 'read',
      runToken: 'snapshot',
      input: z.object(one),
      output: snapshot,
    }),
    listFiles: verb({
      summary: 'Lists the files of a snapshot.',
      method: 'GET',
      path: '/workspaces/{workspace}/snapshots/{snapshot}/listing',
      permission: 'read',
      runToken: 'snapshot',
      input: z.object(one),
      output: z.object({ items: z.array(snapshotFile) }).meta({ id: 'SnapshotFiles' }),
    }),
    getFile: verb({
      summary: 'Downloads one file of a snapshot.',
      method: 'GET',
      path: '/workspaces/{workspace}/snapshots/{snapshot}/file',
      permission: 'read',
      runToken: 'snapshot',
      transport: 'download',
      input: z.object({ ...one, path: relativePath }),
      output: z.string(),
    }),
    download: verb({
      summary: 'Downloads the snapshot as a ZIP archive.',
      method: 'GET',
      path: '/workspaces/{workspace}/snapshots/{snapshot}/archive',
      permission: 'read',
      runToken: 'snapshot',
      transport: 'download',
      input: z.object(one),
      output: z.string(),
    }),
  },
};
