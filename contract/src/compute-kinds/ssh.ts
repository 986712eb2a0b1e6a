// A Linux machine that is reached by SSH.
import * as z from 'zod';
import { gpus, maxConcurrentRuns } from './places.ts';
import { hasSignIn, lacksSignIn, signInNeeded, sshAddress, sshPlace, sshSignIn } from './sign-in.ts';

export const sshSettings = z
  .strictObject({ kind: z.literal('ssh'), ...sshAddress, ...sshSignIn, ...sshPlace, maxConcurrentRuns, gpus })
  .refine(hasSignIn, lacksSignIn)
  .describe('A Linux machine that is reached by SSH.')
  .meta({ id: 'SshSettings', ...signInNeeded });
