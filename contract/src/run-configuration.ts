// How a script runs on a given target. Saved beside the script as `*.runconfig` (YAML), or just an object.
import * as z from 'zod';
import { resources } from './resources.ts';
import { spark } from './spark.ts';
import { relativePath, resourceName, secretName } from './values.ts';

const specifications = ['condaFile', 'conda', 'requirementsFile', 'requirements', 'lockFile'] as const;
/** As JSON Schema says it: no two of them, and none with a user-managed Python. */
const notTogether = [
  ...specifications.flatMap((one, at) => specifications.slice(at + 1).map((other) => ({ required: [one, other] }))),
  ...specifications.map((one) => ({
    required: ['userManaged', one],
    properties: { userManaged: { const: true } },
  })),
];

/** Where the environment comes from: a Python that is there, or one built from a specification. */
export const environmentSource = z
  .strictObject({
    name: z.string().max(256).optional(),
    userManaged: z
      .boolean()
      .optional()
      .describe('Use a Python that is there on the target as it is; nothing is installed.'),
    interpreterPath: z
      .string()
      .max(1_000)
      .optional()
      .describe('Which Python, with `userManaged`; `python3` unless given.'),
    python: z
      .string()
      .regex(/^3\.\d{1,2}$/)
      .optional()
      .describe('The Python minor, such as "3.11".'),
    pythonFallback: z
      .boolean()
      .optional()
      .describe('Take the nearest newer Python if that minor is not there, with a notice.'),
    condaFile: relativePath.optional().describe('A conda environment file in the directory.'),
    conda: z.record(z.string(), z.unknown()).optional().describe('The content of a conda environment file.'),
    requirementsFile: relativePath.optional().describe('A pip requirements file in the directory.'),
    requirements: z
      .array(z.string().max(2_000))
      .max(10_000)
      .optional()
      .describe('The lines of a pip requirements file.'),
    lockFile: relativePath.optional().describe('A requirements file with hashes of everything, in the directory.'),
  })
  .refine(
    (source) => specifications.filter((one) => source[one] !== undefined).length <= 1,
    `give at most one of ${specifications.join(', ')}`,
  )
  .refine(
    (source) => !source.userManaged || specifications.every((one) => source[one] === undefined),
    'a user-managed Python takes no specification',
  )
  .meta({ id: 'EnvironmentSource', not: { anyOf: notTogether } });
export type EnvironmentSource = z.infer<typeof environmentSource>;

export const dataReference = z
  .strictObject({
    datastore: resourceName.optional().describe("The workspace's default datastore unless given."),
    path: relativePath.optional().describe('A file or folder on the datastore; all of it unless given.'),
    mode: z
      .enum(['download', 'upload'])
      .default('download')
      .describe('download: before the script starts. upload: after it ends.'),
    pathOnCompute: relativePath
      .optional()
      .describe('Where it lies in the working directory; `data/<name>` unless given.'),
    overwrite: z.boolean().default(false).describe('Whether an upload may replace files.'),
  })
  .meta({ id: 'DataReference' });
export type DataReference = z.infer<typeof dataReference>;

const variableName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/)
  .max(256);

/** By which image a script runs in a container, and how its environment gets there. */
export const container = z
  .strictObject({
    image: z
      .string()
      .max(500)
      .regex(
        /^[a-z0-9][A-Za-z0-9._:/@-]*$/,
        'must be the name of an image, such as `python:3.11` or `registry.example/team/base@sha256:…`',
      )
      .optional()
      .describe(
        'The image to run in, with Python 3.8 or newer; that of the target unless given. With `environment: in-image` it is a registry that has it, and the usual base unless given.',
      ),
    environment: z
      .enum(['at-start', 'in-image'])
      .default('at-start')
      .describe(
        'at-start: made in the container when the run starts, kept for the next. in-image: the server makes an image of the base and the environment, once for each pair.',
      ),
    user: secretName.optional().describe('The secret that holds the user name for its registry.'),
    password: secretName.optional().describe('The secret that holds the password for its registry.'),
  })
  .meta({ id: 'Container' });

const mpi = z
  .strictObject({
    processesPerNode: z
      .int()
      .min(1)
      .max(1_024)
      .default(1)
      .describe('Ranks on each node, among which its CPUs are divided.'),
  })
  .meta({ id: 'Mpi' });

export const runConfiguration = z
  .strictObject({
    script: relativePath.describe('The script to start, in the directory.'),
    arguments: z
      .array(z.union([z.string().max(32_000), z.number(), z.boolean()]))
      .max(1_000)
      .default([]),
    target: resourceName.default('local').describe('The compute target that the script runs on.'),
    framework: z.enum(['Python', 'PySpark', 'MPI']).default('Python'),
    resources: resources.default({ nodes: 1 }).describe('What the run asks of its target.'),
    priority: z
      .enum(['low', 'normal', 'high'])
      .default('normal')
      .describe('Of the runs that wait for a target, those of a higher priority come first.'),
    environmentVariables: z.record(variableName, z.string().max(32_000)).default({}),
    environment: environmentSource.default({}),
    container: container.optional().describe('The script runs in a container.'),
    mpi: mpi.optional().describe('How its ranks are laid out, where its framework is MPI.'),
    spark: spark.optional().describe('What the run asks of Spark, where its framework is PySpark.'),
    dataReferences: z.record(variableName, dataReference).default({}),
    retries: z
      .strictObject({
        count: z.int().min(0).max(20).default(0).describe('Further attempts, at most.'),
        on: z
          .array(z.enum(['preempted', 'node-lost', 'time-limit', 'out-of-memory']))
          .max(4)
          .default(['preempted', 'node-lost'])
          .describe(
            'What an attempt may end for to be followed by another: its place was taken from it, its machine or runner was lost, its time limit or that of the cluster, its memory.',
          ),
      })
      .default({ count: 0, on: ['preempted', 'node-lost'] })
      .describe('Whether the run is begun again when it was not its script that ended it.'),
    warning: z
      .strictObject({
        signal: z.enum(['USR1', 'USR2', 'INT', 'TERM']).default('USR1'),
        seconds: z.number().min(1).max(86_400).default(60).describe('How long ahead.'),
      })
      .optional()
      .describe(
        'The script gets this signal ahead of its time limit, and when its target tells that its place will be taken, to write a checkpoint. None unless given: a script that does not expect it would end.',
      ),
    graceSeconds: z
      .number()
      .min(0)
      .max(3_600)
      .default(10)
      .describe('Between asking the script to stop and killing it.'),
    secrets: z
      .array(variableName)
      .max(100)
      .default([])
      .describe(
        "Environment variables whose values are given at submission (from the submitter's own environment), are masked in logs and enter no record.",
      ),
    vaultSecrets: z
      .array(secretName)
      .max(100)
      .default([])
      .describe(
        'Secrets of the workspace that the run gets, each as a file of its name in the folder that STELLWERK_SECRETS names; masked in logs.',
      ),
  })
  .meta({ id: 'RunConfiguration' });
/** As given, defaults left out. */
export type RunConfigurationInput = z.input<typeof runConfiguration>;
export type RunConfiguration = z.output<typeof runConfiguration>;
