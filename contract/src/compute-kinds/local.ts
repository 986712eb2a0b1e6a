// The machine of whoever submits.
import * as z from 'zod';

export const localSettings = z
  .strictObject({ kind: z.literal('local') })
  .describe('The machine of whoever submits.')
  .meta({ id: 'LocalSettings' });
