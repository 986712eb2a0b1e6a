// How a run of the framework PySpark asks Spark for what it needs. What is left out here is as the target's settings have it, and else as Spark's own.
import * as z from 'zod';
import { httpAddress, relativePath } from './values.ts';

export const sparkMaster = z
  .string()
  .max(500)
  .regex(
    /^(local(\[[\w*]+(, ?\d+)?\])?|yarn|(spark|k8s):\/\/[\w.:/,-]+)$/,
    'must be `yarn`, `local[*]`, `spark://host:7077` or `k8s://…`',
  );
const memory = z.string().regex(/^[1-9]\d{0,6}[kmgt]$/, 'must be a size such as `512m` or `4g`');

export const sparkProperties = z.record(
  z
    .string()
    .max(256)
    .regex(/^spark\.[\w.-]+$/, 'must be the name of a property of Spark, such as `spark.sql.shuffle.partitions`'),
  z.string().max(8_000),
);

export const spark = z
  .strictObject({
    master: sparkMaster.optional().describe('The cluster manager; that of the target unless given.'),
    deployMode: z
      .enum(['client', 'cluster'])
      .optional()
      .describe('Where the script runs: `client`, on the head node, or `cluster`, on a node that YARN chooses.'),
    executors: z
      .strictObject({
        count: z.int().min(1).max(10_000).optional(),
        cores: z.int().min(1).max(1_000).optional().describe('Of each.'),
        memory: memory.optional().describe('Of each, such as `4g`.'),
      })
      .optional()
      .describe('What computes; as Spark has it unless given.'),
    driverMemory: memory.optional().describe('Of the Java process beside the script, such as `2g`.'),
    packages: z
      .array(
        z
          .string()
          .max(300)
          .regex(/^[\w.-]+:[\w.-]+:[\w.-]+$/, 'must be Maven coordinates, `group:artifact:version`'),
      )
      .max(100)
      .optional()
      .describe('Maven coordinates of libraries for the executors and the driver.'),
    repositories: z
      .array(httpAddress.regex(/^[^,]*$/))
      .max(20)
      .optional()
      .describe('Where packages are looked for, too.'),
    settings: sparkProperties
      .optional()
      .describe(
        'Properties of Spark, by name. They are seen in the process list there; nothing secret belongs in them.',
      ),
    pyFiles: z
      .array(relativePath)
      .max(100)
      .optional()
      .describe('Modules (.py, .zip) in the directory that the executors need, too.'),
  })
  .meta({ id: 'Spark' });
export type Spark = z.infer<typeof spark>;
