// The machine that the server runs on.
import * as z from 'zod';
import { gpus, maxConcurrentRuns } from './places.ts';

export const hostSettings = z
  .strictObject({
    kind: z.literal('host'),
    user: z
      .string()
      .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
      .optional()
      .describe('The Unix user that runs are executed as; needed when the server can be reached from other machines.'),
    maxConcurrentRuns,
    gpus,
  })
  .describe('The machine that the server runs on.')
  .meta({ id: 'HostSettings' });
