// The model registry: models by name and version; registering a name again makes the next version.
import * as z from 'zod';
import { trashEntry } from './trash.ts';
import {
  archived,
  description,
  digest,
  freeName,
  limits,
  page,
  pageSize,
  relativePath,
  resourceName,
  runId,
  tags,
  time,
  version,
} from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

export const alias = z
  .string()
  .regex(/^(?!v?\d+$)[a-zA-Z][\w-]{0,63}$/)
  .describe('Such as `champion`; up to 64 letters, digits, `_` and `-`.');
export const modelFile = z.object({ path: relativePath, digest, sizeBytes: z.int() }).meta({ id: 'ModelFile' });

export const model = z
  .object({
    name: freeName,
    version,
    id: z.string().describe('`name:version`.'),
    description: description.optional(),
    framework: z.string().max(100).optional(),
    frameworkVersion: z.string().max(100).optional(),
    tags,
    properties: tags,
    aliases: z.array(alias),
    run: runId.optional().describe('The run that it came from.'),
    experiment: freeName.optional(),
    path: z.string().optional().describe('The path among the files of the run.'),
    isFolder: z.boolean(),
    files: z.array(modelFile).optional().describe('Where one model is shown.'),
    fileCount: z.int(),
    sizeBytes: z.int(),
    images: z.array(z.string()).optional().describe('The images that use it, where one model is shown.'),
    createdAt: time,
    createdBy: z.string(),
    archivedAt: time.optional(),
  })
  .meta({ id: 'Model' });
export type Model = z.infer<typeof model>;

/** `version` as a number, or an alias; the latest version if absent. */
const reference = {
  workspace: resourceName,
  name: freeName,
  version: z.string().max(64).describe('A version, an alias, or `latest`.'),
};
const base = '/workspaces/{workspace}/models';

export const modelVerbs = {
  models: {
    register: verb({
      summary: 'Registers a model, from a file or folder of a run, or from uploaded files.',
      method: 'POST',
      path: base,
      permission: 'contribute',
      runToken: 'model',
      input: z.object({
        workspace: resourceName,
        name: freeName,
        run: runId.optional(),
        path: relativePath.optional().describe('A file or folder among the files of the run.'),
        files: z
          .array(z.object({ path: relativePath, digest }))
          .min(1)
          .max(10_000)
          .optional()
          .describe('From outside: uploaded contents and their places in the model.'),
        description: description.optional(),
        framework: z.string().max(100).optional(),
        frameworkVersion: z.string().max(100).optional(),
        tags: tags.optional(),
        properties: tags.optional(),
      }),
      output: model,
    }),
    list: verb({
      summary: 'Finds models by name, tag, framework, run; newest first.',
      method: 'GET',
      path: base,
      permission: 'read',
      runToken: 'model',
      input: z.object({
        workspace: resourceName,
        name: freeName.optional(),
        tag: z
          .array(z.string().max(limits.tagKeyLength + limits.tagValueLength + 1))
          .max(limits.tags)
          .optional()
          .describe('`key` or `key=value`.'),
        framework: z.string().max(100).optional(),
        run: runId.optional(),
        latest: z.boolean().optional().describe('Only the latest version of each name.'),
        archived,
        page,
        pageSize,
      }),
      output: pageOf(model, 'Models'),
    }),
    get: verb({
      summary: 'Shows a model with its files, aliases and lineage.',
      method: 'GET',
      path: `${base}/{name}/{version}`,
      permission: 'read',
      input: z.object(reference),
      output: model,
    }),
    update: verb({
      summary: 'Changes description and tags (null removes one); adds properties. The bytes never change.',
      method: 'PATCH',
      path: `${base}/{name}/{version}`,
      permission: 'contribute',
      input: z.object({
        ...reference,
        description: description.optional(),
        tags: z
          .record(z.string().min(1).max(limits.tagKeyLength), z.string().max(limits.tagValueLength).nullable())
          .optional(),
        properties: tags.optional(),
      }),
      output: model,
    }),
    delete: verb({
      summary: 'Puts a version into the trash. Refused while an image uses it.',
      method: 'DELETE',
      path: `${base}/{name}/{version}`,
      permission: 'contribute',
      input: z.object(reference),
      output: trashEntry,
    }),
    archive: verb({
      summary: 'Leaves a version out of lists from now on. Nothing else changes.',
      method: 'POST',
      path: `${base}/{name}/{version}/archive`,
      permission: 'contribute',
      input: z.object(reference),
      output: model,
    }),
    reactivate: verb({
      summary: 'Brings an archived version back into lists.',
      method: 'POST',
      path: `${base}/{name}/{version}/reactivate`,
      permission: 'contribute',
      input: z.object(reference),
      output: model,
    }),
    getFile: verb({
      summary: 'Downloads a file of a model. Understands Range.',
      method: 'GET',
      path: `${base}/{name}/{version}/file`,
      permission: 'read',
      transport: 'download',
      input: z.object({ ...reference, path: relativePath }),
      output: z.string(),
    }),
    download: verb({
      summary: 'Downloads a model as a ZIP archive.',
      method: 'GET',
      path: `${base}/{name}/{version}/archive`,
      permission: 'read',
      transport: 'download',
      input: z.object(reference),
      output: z.string(),
    }),
    setAlias: verb({
      summary: 'Points an alias at a version, moving it if it exists.',
      method: 'PUT',
      path: `${base}/{name}/aliases/{alias}`,
      permission: 'contribute',
      input: z.object({ workspace: resourceName, name: freeName, alias, version }),
      output: model,
    }),
    deleteAlias: verb({
      summary: 'Takes an alias away.',
      method: 'DELETE',
      path: `${base}/{name}/aliases/{alias}`,
      permission: 'contribute',
      input: z.object({ workspace: resourceName, name: freeName, alias }),
      output: nothing,
    }),
  },
};
