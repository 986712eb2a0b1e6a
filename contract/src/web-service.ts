// A web service: an image as a load-balanced HTTP endpoint.
import * as z from 'zod';
import { description, freeName, limits, page, pageSize, resourceName, tags, time } from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

export const replica = z
  .object({
    id: z.string(),
    image: z.string(),
    state: z.enum(['starting', 'ready', 'unhealthy', 'draining', 'stopped']),
    startedAt: time,
    reason: z.string().optional(),
  })
  .meta({ id: 'Replica' });

export const webService = z
  .object({
    name: resourceName,
    target: resourceName,
    state: z.enum(['deploying', 'healthy', 'updating', 'unhealthy', 'failed', 'deleting']),
    reason: z.string().optional(),
    image: z.string().describe('`name:version` that is wanted.'),
    models: z.array(z.string()),
    replicas: z.int().describe('How many are wanted.'),
    replicaStates: z.array(replica),
    authentication: z.enum(['key', 'none']),
    isolation: z
      .enum(['namespace', 'none'])
      .optional()
      .describe('Whether replicas see only their image; `none` where the machine refuses namespaces.'),
    scoringUri: z.string(),
    description: description.optional(),
    tags,
    requests: z
      .object({ total: z.int(), failed: z.int(), p50Ms: z.number().optional(), p95Ms: z.number().optional() })
      .optional(),
    activity: z.string().optional().describe('The last activity that changed it.'),
    createdAt: time,
    createdBy: z.string(),
    updatedAt: time,
  })
  .meta({ id: 'WebService' });
export type WebService = z.infer<typeof webService>;

export const serviceKeys = z.object({ primary: z.string(), secondary: z.string() }).meta({ id: 'ServiceKeys' });

const one = { workspace: resourceName, service: resourceName };
const base = '/workspaces/{workspace}/services';
const imageReference = z
  .string()
  .max(limits.nameLength + 65)
  .describe('`name:version`, or `name` (its latest version).');
const replicas = z.int().min(1).max(limits.replicas);

export const webServiceVerbs = {
  services: {
    deploy: verb({
      summary: 'Deploys an image as a web service.',
      method: 'POST',
      path: base,
      permission: 'contribute',
      input: z.object({
        workspace: resourceName,
        name: resourceName,
        image: imageReference,
        target: resourceName.default('host'),
        replicas: replicas.default(1),
        authentication: z.enum(['key', 'none']).default('key'),
        timeoutSeconds: z.number().min(1).max(3_600).default(60).describe('For one request.'),
        description: description.optional(),
        tags: tags.optional(),
      }),
      output: webService,
    }),
    list: verb({
      summary: 'Lists web services.',
      method: 'GET',
      path: base,
      permission: 'read',
      input: z.object({ workspace: resourceName, image: freeName.optional(), page, pageSize }),
      output: pageOf(webService, 'WebServices'),
    }),
    get: verb({
      summary: 'Shows a web service.',
      method: 'GET',
      path: `${base}/{service}`,
      permission: 'read',
      input: z.object(one),
      output: webService,
    }),
    update: verb({
      summary: 'Rolls another image out with no request lost, or changes description, tags, authentication.',
      method: 'PATCH',
      path: `${base}/{service}`,
      permission: 'contribute',
      input: z.object({
        ...one,
        image: imageReference.optional(),
        replicas: replicas.optional(),
        authentication: z.enum(['key', 'none']).optional(),
        timeoutSeconds: z.number().min(1).max(3_600).optional(),
        description: description.optional(),
        tags: tags.optional(),
      }),
      output: webService,
    }),
    scale: verb({
      summary: 'Sets the number of replicas.',
      method: 'POST',
      path: `${base}/{service}/scale`,
      permission: 'contribute',
      input: z.object({ ...one, replicas }),
      output: webService,
    }),
    delete: verb({
      summary: 'Ends and deletes a web service.',
      method: 'DELETE',
      path: `${base}/{service}`,
      permission: 'contribute',
      input: z.object(one),
      output: nothing,
    }),
    getKeys: verb({
      summary: 'The keys that callers send as `Authorization: Bearer <key>`.',
      method: 'GET',
      path: `${base}/{service}/keys`,
      permission: 'contribute',
      input: z.object(one),
      output: serviceKeys,
    }),
    regenerateKey: verb({
      summary: 'Replaces one key; the other goes on working.',
      method: 'POST',
      path: `${base}/{service}/keys/{key}`,
      permission: 'contribute',
      input: z.object({ ...one, key: z.enum(['primary', 'secondary']) }),
      output: serviceKeys,
    }),
    getLog: verb({
      summary: 'What the replicas printed: the scoring script, exceptions, start and end.',
      method: 'GET',
      path: `${base}/{service}/log`,
      permission: 'read',
      transport: 'download',
      input: z.object({
        ...one,
        replica: z.string().max(100).optional(),
        lines: z.int().min(1).max(100_000).optional(),
      }),
      output: z.string(),
    }),
  },
};
