// A Linux machine that is reached by SSH.
import * as z from 'zod';
import { dockerSocket, gpus, maxConcurrentRuns } from './places.ts';
import { hasSignIn, lacksSignIn, signInNeeded, sshAddress, sshPlace, sshSignIn } from './sign-in.ts';

export const sshSettings = z
  .strictObject({
    kind: z.literal('ssh'),
    ...sshAddress,
    ...sshSignIn,
    ...sshPlace,
    maxConcurrentRuns,
    gpus,
    dockerSocket,
  })
  .refine(hasSignIn, lacksSignIn)
  .describe('A Linux machine that is reached by SSH.')
  .meta({ id: 'SshSettings', ...signInNeeded });
