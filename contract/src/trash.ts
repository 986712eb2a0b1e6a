// What was deleted lies in the trash for a set time: it can be restored until then, and only afterwards is it gone.
import * as z from 'zod';
import { activity } from './activity.ts';
import { page, pageSize, resourceName, time } from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

export const trashKind = z.enum(['run', 'experiment', 'model']);
export type TrashKind = z.infer<typeof trashKind>;

export const trashEntry = z
  .object({
    id: z.int(),
    kind: trashKind,
    name: z.string().describe('The id of the run, the name of the experiment, or `name:version` of the model.'),
    runs: z.int().optional().describe('How many runs it takes with it, itself included; for runs and experiments.'),
    deletedAt: time,
    deletedBy: z.string(),
    until: time.describe('When it is gone for good.'),
  })
  .meta({ id: 'TrashEntry' });
export type TrashEntry = z.infer<typeof trashEntry>;

const one = { workspace: resourceName, entry: z.int().min(1).describe('The `id` of the entry.') };
const base = '/workspaces/{workspace}/trash';

export const trashVerbs = {
  trash: {
    list: verb({
      summary: 'Lists what lies in the trash, the last deleted first.',
      method: 'GET',
      path: base,
      permission: 'read',
      input: z.object({ workspace: resourceName, kind: trashKind.optional(), page, pageSize }),
      output: pageOf(trashEntry, 'TrashEntries'),
    }),
    restore: verb({
      summary: 'Brings something back from the trash, with all that was deleted with it.',
      method: 'POST',
      path: `${base}/{entry}/restore`,
      permission: 'contribute',
      input: z.object(one),
      output: nothing,
    }),
    empty: verb({
      summary:
        'Deletes for good what lies in the trash, or one entry of it. The activity reports how much; with `dryRun` it deletes nothing and tells how much it would be.',
      method: 'POST',
      path: `${base}/empty`,
      permission: 'contribute',
      input: z.object({
        workspace: resourceName,
        entry: z.int().min(1).optional().describe('Only this entry.'),
        dryRun: z.boolean().default(false),
      }),
      output: activity,
    }),
  },
};
