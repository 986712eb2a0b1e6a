// An image bundles models, a scoring script and what it needs. Made by the server itself, without Docker.
import * as z from 'zod';
import { environmentSource } from './run-configuration.ts';
import {
  description,
  digest,
  freeName,
  limits,
  page,
  pageSize,
  relativePath,
  resourceName,
  tags,
  time,
  version,
} from './values.ts';
import { nothing, pageOf, verb } from './verb.ts';

export const image = z
  .object({
    name: freeName,
    version,
    id: z.string().describe('`name:version`.'),
    kind: z.enum(['docker']),
    state: z.enum(['building', 'succeeded', 'failed', 'canceled']),
    description: description.optional(),
    tags,
    properties: tags,
    models: z.array(z.string()).describe('`name:version` each.'),
    scoringScript: relativePath,
    environment: z
      .object({
        lockHash: z.string().optional(),
        python: z.string().optional(),
        notices: z.array(z.string()).optional(),
      })
      .optional(),
    base: z.string().optional().describe('The base image it was built on, with its digest.'),
    digest: digest.optional().describe("Of the image's manifest; the same for the same content."),
    sizeBytes: z.int().optional(),
    location: z.string().optional().describe('What a container engine is told to pull, once it has been built.'),
    activity: z.string(),
    createdAt: time,
    createdBy: z.string(),
  })
  .meta({ id: 'Image' });
export type Image = z.infer<typeof image>;

const reference = {
  workspace: resourceName,
  name: freeName,
  version: z.string().max(64).describe('A version, or `latest`.'),
};
const base = '/workspaces/{workspace}/images';

export const imageVerbs = {
  images: {
    create: verb({
      summary: 'Builds an image from models, a scoring script and dependencies, and registers it.',
      method: 'POST',
      path: base,
      permission: 'contribute',
      input: z.object({
        workspace: resourceName,
        name: freeName,
        models: z
          .array(z.string().max(limits.nameLength + 65))
          .max(100)
          .default([])
          .describe('`name:version`, `name:alias` or `name` (its latest version).'),
        scoringScript: relativePath.describe('The path of the script among the files; has `init()` and `run(data)`.'),
        files: z
          .array(z.object({ path: relativePath, digest, executable: z.boolean().optional() }))
          .min(1)
          .max(10_000)
          .describe('Uploaded contents: the scoring script and extra files.'),
        environment: environmentSource.default({}).describe('Its files are among `files`.'),
        baseImage: z
          .string()
          .max(2_000)
          .optional()
          .describe(
            'A registry reference, or `datastore:<name>/<path>` of an OCI layout, docker-save archive or root filesystem tar; `python:<minor>-slim` unless given.',
          ),
        environmentVariables: z
          .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string().max(32_000))
          .default({}),
        description: description.optional(),
        tags: tags.optional(),
        properties: tags.optional(),
      }),
      output: image,
    }),
    list: verb({
      summary: 'Finds images by name, tag and model; newest first.',
      method: 'GET',
      path: base,
      permission: 'read',
      input: z.object({
        workspace: resourceName,
        name: freeName.optional(),
        tag: z
          .array(z.string().max(limits.tagKeyLength + limits.tagValueLength + 1))
          .max(limits.tags)
          .optional(),
        model: z
          .string()
          .max(limits.nameLength + 65)
          .optional()
          .describe('`name` or `name:version`.'),
        page,
        pageSize,
      }),
      output: pageOf(image, 'Images'),
    }),
    get: verb({
      summary: 'Shows an image.',
      method: 'GET',
      path: `${base}/{name}/{version}`,
      permission: 'read',
      input: z.object(reference),
      output: image,
    }),
    update: verb({
      summary: 'Changes description and tags (null removes one).',
      method: 'PATCH',
      path: `${base}/{name}/{version}`,
      permission: 'contribute',
      input: z.object({
        ...reference,
        description: description.optional(),
        tags: z
          .record(z.string().min(1).max(limits.tagKeyLength), z.string().max(limits.tagValueLength).nullable())
          .optional(),
      }),
      output: image,
    }),
    delete: verb({
      summary: 'Deletes an image. Refused while a web service uses it.',
      method: 'DELETE',
      path: `${base}/{name}/{version}`,
      permission: 'contribute',
      input: z.object(reference),
      output: nothing,
    }),
    export: verb({
      summary: 'Downloads the image as an archive, compressed: an OCI layout, or what `docker load` takes.',
      method: 'GET',
      path: `${base}/{name}/{version}/archive`,
      permission: 'read',
      transport: 'download',
      input: z.object({ ...reference, format: z.enum(['oci', 'docker']).default('docker') }),
      output: z.string(),
    }),
  },
};
