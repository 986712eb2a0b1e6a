// The top-level resource: everything made with the service belongs to one workspace.
import * as z from 'zod';
import { description, page, pageSize, resourceName, tags, time } from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

export const workspace = z
  .object({
    name: resourceName,
    id: z.string(),
    displayName: z.string().max(256).optional(),
    description: description.optional(),
    tags,
    labels: z
      .record(z.string(), z.string())
      .describe('What code written for Azure ML v1 gave: subscription_id, resource_group, location.'),
    createdAt: time,
    createdBy: z.string(),
    resources: z
      .object({
        containerRegistry: z.string(),
        storageAccount: z.string(),
        applicationInsights: z.string(),
        keyVault: z.string(),
      })
      .describe('The associated resources; `embedded` means that the server brings it.'),
    defaultDatastore: z.string(),
  })
  .meta({ id: 'Workspace' });
export type Workspace = z.infer<typeof workspace>;

const changeable = {
  displayName: z.string().max(256).optional(),
  description: description.optional(),
  tags: tags.optional(),
  labels: tags.optional(),
};

export const workspaceVerbs = {
  workspaces: {
    create: verb({
      summary: 'Creates a workspace with its associated resources; whoever creates it is its Owner.',
      method: 'POST',
      path: '/workspaces',
      permission: 'administrator',
      input: z.object({
        name: resourceName,
        ...changeable,
        existOk: z.boolean().optional().describe('Return the workspace if it exists already.'),
      }),
      output: workspace,
    }),
    get: verb({
      summary: 'Shows a workspace.',
      method: 'GET',
      path: '/workspaces/{workspace}',
      permission: 'read',
      input: z.object({ workspace: resourceName }),
      output: workspace,
    }),
    list: verb({
      summary: 'Lists the workspaces in which the caller has a role.',
      method: 'GET',
      path: '/workspaces',
      permission: 'signed-in',
      input: z.object({ page, pageSize }),
      output: pageOf(workspace, 'Workspaces'),
    }),
    update: verb({
      summary: 'Changes description, tags and labels.',
      method: 'PATCH',
      path: '/workspaces/{workspace}',
      permission: 'contribute',
      input: z.object({ workspace: resourceName, ...changeable }),
      output: workspace,
    }),
    delete: verb({
      summary: 'Deletes a workspace with everything in it. Refused while something in it is running.',
      method: 'DELETE',
      path: '/workspaces/{workspace}',
      permission: 'own',
      input: z.object({ workspace: resourceName }),
      output: nothing,
    }),
  },
};
