// The states of a run.
import * as z from 'zod';

export const runState = z.enum([
  'queued',
  'preparing',
  'running',
  'finalizing',
  'completed',
  'failed',
  'canceled',
  'lost',
]);
export type RunState = z.infer<typeof runState>;
export const endStates: readonly RunState[] = ['completed', 'failed', 'canceled'];
