// An experiment groups runs by a name.
import * as z from 'zod';
import { trashEntry } from './trash.ts';
import { archived, description, freeName, page, pageSize, resourceName, tags, time } from './values.ts';
import { pageOf, verb } from './verb.ts';

export const experiment = z
  .object({
    name: freeName,
    description: description.optional(),
    tags,
    createdAt: time,
    createdBy: z.string(),
    runCount: z.int(),
    lastRunAt: time.optional(),
    archivedAt: time.optional(),
  })
  .meta({ id: 'Experiment' });
export type Experiment = z.infer<typeof experiment>;

export const experimentVerbs = {
  experiments: {
    create: verb({
      summary: 'Creates an experiment, or returns it if it exists.',
      method: 'POST',
      path: '/workspaces/{workspace}/experiments',
      permission: 'contribute',
      input: z.object({
        workspace: resourceName,
        name: freeName,
        description: description.optional(),
        tags: tags.optional(),
      }),
      output: experiment,
    }),
    get: verb({
      summary: 'Shows an experiment.',
      method: 'GET',
      path: '/workspaces/{workspace}/experiments/{experiment}',
      permission: 'read',
      input: z.object({ workspace: resourceName, experiment: freeName }),
      output: experiment,
    }),
    list: verb({
      summary: 'Lists experiments, the last used first.',
      method: 'GET',
      path: '/workspaces/{workspace}/experiments',
      permission: 'read',
      input: z.object({ workspace: resourceName, archived, page, pageSize }),
      output: pageOf(experiment, 'Experiments'),
    }),
    update: verb({
      summary: 'Changes description and tags.',
      method: 'PATCH',
      path: '/workspaces/{workspace}/experiments/{experiment}',
      permission: 'contribute',
      input: z.object({
        workspace: resourceName,
        experiment: freeName,
        description: description.optional(),
        tags: tags.optional(),
      }),
      output: experiment,
    }),
    archive: verb({
      summary:
        'Leaves an experiment out of lists, and its runs out of queries that do not name it. Nothing is submitted to it until it is reactivated.',
      method: 'POST',
      path: '/workspaces/{workspace}/experiments/{experiment}/archive',
      permission: 'contribute',
      input: z.object({ workspace: resourceName, experiment: freeName }),
      output: experiment,
    }),
    reactivate: verb({
      summary: 'Brings an archived experiment back.',
      method: 'POST',
      path: '/workspaces/{workspace}/experiments/{experiment}/reactivate',
      permission: 'contribute',
      input: z.object({ workspace: resourceName, experiment: freeName }),
      output: experiment,
    }),
    delete: verb({
      summary:
        'Puts an experiment into the trash, with its runs and what descends from them. Refused while one has not ended.',
      method: 'DELETE',
      path: '/workspaces/{workspace}/experiments/{experiment}',
      permission: 'contribute',
      input: z.object({ workspace: resourceName, experiment: freeName }),
      output: trashEntry,
    }),
  },
};
