// A Spark cluster, reached by SSH on its head node.
import * as z from 'zod';
import { sparkMaster, sparkProperties } from '../spark.ts';
import { httpAddress, secretName } from '../values.ts';
import { maxConcurrentRuns } from './places.ts';
import { hasSignIn, lacksSignIn, signInNeeded, sshAddress, sshPlace, sshSignIn } from './sign-in.ts';

export const sparkSettings = z
  .strictObject({
    kind: z.literal('spark'),
    ...sshAddress,
    ...sshSignIn,
    ...sshPlace,
    sparkHome: z
      .string()
      .max(500)
      .regex(/^\/[A-Za-z0-9._/-]+$/)
      .optional()
      .describe('Where Spark is there; the SPARK_HOME of the user, or of the spark-submit on the PATH, unless given.'),
    master: sparkMaster
      .optional()
      .describe("The cluster manager of runs that name none; as Spark's own configuration there has it unless given."),
    relayAddress: z
      .string()
      .max(253)
      .regex(/^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$/)
      .optional()
      .describe(
        'How nodes of the cluster reach the head node, for runs in cluster mode; by its host name unless given.',
      ),
    livy: httpAddress
      .optional()
      .describe('Where Livy is; runs are started by it then, as the same Unix user. By spark-submit unless given.'),
    livyUser: z.string().min(1).max(256).optional().describe('Who signs in to Livy.'),
    livyPassword: secretName.optional().describe('The secret that holds the password to sign in to Livy.'),
    sparkSettings: sparkProperties.optional().describe('Properties of Spark for all runs, by name.'),
    maxConcurrentRuns: maxConcurrentRuns.describe('Scripts on the head node at the same time; no limit unless given.'),
  })
  .refine(hasSignIn, lacksSignIn)
  .describe('A Spark cluster, reached by SSH on its head node.')
  .meta({ id: 'SparkSettings', ...signInNeeded });
