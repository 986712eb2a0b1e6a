// A Slurm cluster whose login node is reached by SSH.
import * as z from 'zod';
import { httpAddress, secretName, together } from '../values.ts';
import { hasSignIn, lacksSignIn, signInNeeded, sshAddress, sshPlace, sshSignIn } from './sign-in.ts';

const word = z
  .string()
  .max(500)
  .regex(/^[\w.,:&|*!()[\]@=+-]+$/);

const ofUser = z
  .strictObject({
    user: sshAddress.user,
    ...sshSignIn,
    token: secretName.optional().describe("The secret that holds this user's token for the REST interface."),
  })
  .refine(({ token, ...signIn }) => token !== undefined || hasSignIn(signIn), {
    ...lacksSignIn,
    error: 'A key or a password is needed to sign in, or a token where there is no login node.',
  })
  .meta({ id: 'SlurmUser', anyOf: [...signInNeeded.anyOf, { required: ['token'] }] });

/** An option of sbatch, but none of those that are set by what a run asks for. */
const freeOption =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: an argument cannot have it
  /^--(?!(job-name|output|error|nodes|ntasks|ntasks-per-node|cpus-per-task|mem|gres|gpus|time|chdir|requeue|signal|array|wrap|parsable|export|test-only|wait|het-group)(=|$))[a-z][a-z0-9-]*(=[^\u0000\n]*)?$/;

export const slurmSettings = z
  .strictObject({
    kind: z.literal('slurm'),
    ...sshAddress,
    address: sshAddress.address
      .optional()
      .describe(
        'The name of its login node in the network, or its IP address. Without it all goes by the REST interface, and nodes reach this server by themselves.',
      ),
    ...sshSignIn,
    ...sshPlace,
    users: z
      .record(z.string().max(64), ofUser)
      .optional()
      .describe('Who signs in as whom: by the name of the user here, the user there and how he signs in.'),
    othersMay: z
      .boolean()
      .default(true)
      .describe('Whether those who are not among `users` may submit, as the user of the target.'),
    partition: word.optional().describe("The partition of its jobs; the cluster's default unless given."),
    account: word.optional().describe('The account that its jobs are charged to.'),
    qos: word.optional().describe('The quality of service of its jobs.'),
    constraint: word.optional().describe('The features that its nodes must have, as `sbatch --constraint` takes them.'),
    reservation: word.optional().describe('The reservation that its jobs run in.'),
    sbatch: z
      .array(
        z
          .string()
          .max(500)
          .regex(freeOption, 'must be an option, such as `--comment=training`, and none that what a run asks for sets'),
      )
      .max(50)
      .default([])
      .describe('Further options of sbatch.'),
    setUp: z
      .array(
        z
          .string()
          .max(2_000)
          // biome-ignore lint/suspicious/noControlCharactersInRegex: a script cannot have it
          .regex(/^[^\u0000\n]*$/),
      )
      .max(50)
      .default([])
      .describe('Lines of shell that are run on the node before all else, such as `module load python`.'),
    mpi: z
      .string()
      .max(500)
      .regex(/^(srun|mpirun|mpiexec)( [\w.,:=/-]+)*$/)
      .optional()
      .describe(
        'What starts the ranks of MPI; `srun --mpi=pmix` unless given, or `mpirun` where Slurm has no plugin for it.',
      ),
    relayAddress: z
      .string()
      .max(253)
      .regex(/^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$/)
      .optional()
      .describe('How compute nodes reach the login node; by its host name unless given.'),
    wayBack: z
      .enum(['relay', 'folder'])
      .default('relay')
      .describe(
        'How what runs on compute nodes reaches this server: by a relay on the login node, or, where they cannot connect to that, by files in a folder on the disk that they share.',
      ),
    restUrl: httpAddress
      .optional()
      .describe(
        'Where slurmrestd answers. Jobs are then submitted, looked at and canceled by it, instead of by the commands on the login node.',
      ),
    token: secretName.optional().describe('The secret that holds the token (JWT) for the REST interface.'),
    restVersion: z
      .string()
      .regex(/^v\d+\.\d+\.\d+$/)
      .optional()
      .describe('The version of the REST interface; the newest of v0.0.38 to v0.0.43 that it has unless given.'),
  })
  .refine((settings) => settings.address === undefined || hasSignIn(settings), lacksSignIn)
  .refine(({ address, restUrl }) => address !== undefined || restUrl !== undefined, {
    error: 'A login node (address) or a REST interface (restUrl) is needed.',
    path: ['address'],
  })
  .refine(({ restUrl, token }) => (restUrl === undefined) === (token === undefined), {
    error: 'The REST interface needs both its address and a token.',
    path: ['token'],
  })
  .refine(({ restUrl, sbatch }) => restUrl === undefined || sbatch.length === 0, {
    error: 'The REST interface takes no options of sbatch.',
    path: ['sbatch'],
  })
  .describe('A Slurm cluster, by SSH on its login node or by its REST interface.')
  .meta({
    id: 'SlurmSettings',
    // The same, as JSON Schema says it.
    allOf: [
      { anyOf: [{ not: { required: ['address'] } }, ...signInNeeded.anyOf] },
      { anyOf: [{ required: ['address'] }, { required: ['restUrl'] }] },
      together('restUrl', 'token'),
      { anyOf: [{ not: { required: ['restUrl'] } }, { properties: { sbatch: { maxItems: 0 } } }] },
    ],
  });
