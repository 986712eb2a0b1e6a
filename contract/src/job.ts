// The job of a run on its target: what its runner is given, what the target tells of it, and what it took.
import * as z from 'zod';
import { environmentPlan, indexAccess } from './environment.ts';
import { readResources } from './resources.ts';
import { dataReference, runConfiguration } from './run-configuration.ts';
import { spark } from './spark.ts';
import { digest, freeName, httpAddress, resourceName, runId } from './values.ts';

/** By the names that the configuration lists under `secrets`; kept, outside every record, until the run has ended. */
export const secretValues = z.record(z.string().max(256), z.string().min(1).max(32_000));

/** Of the newest attempt. */
export const jobFacts = z
  .object({
    id: z
      .string()
      .max(256)
      .optional()
      .describe('What the target calls it: the number of a Slurm job, the name of a container.'),
    nodes: z.array(z.string().max(256)).max(10_000).optional().describe('The machines that it was given.'),
    image: z.string().max(1_000).optional().describe('The container image that it runs in, by its digest.'),
    application: z.string().max(256).optional().describe('The application, such as that of Spark.'),
    url: httpAddress.optional().describe('Where the target shows it.'),
  })
  .meta({ id: 'JobFacts' });
export type JobFacts = z.infer<typeof jobFacts>;

export const usage = z
  .object({
    cpuSeconds: z.number().min(0).optional(),
    peakMemoryBytes: z.number().min(0).optional().describe('Of all its processes on one node, at most.'),
    exitCode: z.int().optional().describe('That of its job, as the target accounts for it.'),
  })
  .meta({ id: 'Usage' });
export type Usage = z.infer<typeof usage>;

/** What a runner needs to execute one attempt of a run. It lies beside the runner in a 0600 file. */
export const job = z
  .object({
    server: z.string().describe('The address that the runner reports to.'),
    caBundle: z.string().optional().describe('PEM certificates to trust for it.'),
    token: z.string().describe("The run's token."),
    workspace: resourceName,
    experiment: freeName,
    run: runId,
    attempt: z.int(),
    snapshot: digest.optional(),
    configuration: runConfiguration,
    resources: readResources,
    gpus: z.array(z.string()).optional().describe('The GPUs that it may see, where its target gives them out.'),
    spark: z
      .object({
        ...spark.shape,
        home: z.string().optional().describe('Where Spark is, if it is not to be found.'),
        relayHost: z
          .string()
          .optional()
          .describe('How nodes of the cluster reach the head node, where the script runs on one of them.'),
      })
      .optional()
      .describe('What Spark is started with, where the script is started by it.'),
    environment: environmentPlan,
    dataReferences: z.record(z.string(), dataReference),
    secrets: secretValues.describe('Environment variables for the script, to be masked in its output.'),
    vaultSecrets: z.record(z.string(), z.string()).describe('Files for the script, to be masked in its output.'),
    indexes: indexAccess,
    leaseSeconds: z.number(),
    targetTellsEnd: z
      .literal(true)
      .optional()
      .describe('Why its runner is asked to stop is known by the target, and told by it.'),
    launcher: z
      .array(z.string())
      .optional()
      .describe('What starts the script on all nodes, each process with its place among them in its environment.'),
    cacheFolder: z
      .string()
      .optional()
      .describe('Where environments are shared between runs; the user cache folder unless given.'),
  })
  .meta({ id: 'Job' });
export type Job = z.infer<typeof job>;
