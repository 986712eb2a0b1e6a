// The secrets of a workspace: kept sealed, given out by name only, every use of one in the audit log.
import * as z from 'zod';
import { limits, page, pageSize, resourceName, secretName, time, version } from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

export const secret = z
  .object({ name: secretName, version, createdAt: time, createdBy: z.string() })
  .meta({ id: 'Secret' });
export type Secret = z.infer<typeof secret>;

const one = { workspace: resourceName, name: secretName };
const base = '/workspaces/{workspace}/secrets';

export const secretVerbs = {
  secrets: {
    set: verb({
      summary: 'Keeps a secret; a name that is there gets its next version.',
      method: 'PUT',
      path: `${base}/{name}`,
      permission: 'contribute',
      input: z.object({ ...one, value: z.string().min(1).max(limits.secretLength).describe('Kept as it is.') }),
      output: secret,
    }),
    // Not by GET: a use is recorded, and what is read by GET is kept by what lies between.
    get: verb({
      summary: 'Gives the value of a secret. It is written down who asked.',
      method: 'POST',
      path: `${base}/{name}/value`,
      permission: 'contribute',
      input: z.object({ ...one, version: version.optional().describe('The newest unless given.') }),
      output: secret.extend({ value: z.string() }).meta({ id: 'SecretValue' }),
    }),
    list: verb({
      summary: 'Lists the secrets by name, with their newest versions and without their values.',
      method: 'GET',
      path: base,
      permission: 'read',
      input: z.object({ workspace: resourceName, page, pageSize }),
      output: pageOf(secret, 'Secrets'),
    }),
    delete: verb({
      summary: 'Deletes a secret, all its versions. What names it can no longer use it.',
      method: 'DELETE',
      path: `${base}/{name}`,
      permission: 'contribute',
      input: z.object(one),
      output: nothing,
    }),
  },
};
