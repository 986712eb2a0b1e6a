// What settings of several kinds have in common: how many runs at a time, and which GPUs they may be given.
import * as z from 'zod';
import { gpu } from '../resources.ts';

export const gpus = z
  .array(gpu)
  .max(64)
  .optional()
  .describe('The GPUs that runs may be given; those that its driver tells of unless given.');

export const maxConcurrentRuns = z
  .int()
  .min(1)
  .max(10_000)
  .optional()
  .describe('Runs at the same time; the number of CPUs unless given.');
