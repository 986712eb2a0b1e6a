// What settings of several kinds have in common: how many runs at a time, which GPUs they may be given, and the engine for runs in containers.
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

export const dockerSocket = z
  .string()
  .max(100)
  .regex(/^\/[A-Za-z0-9._/-]+$/)
  .optional()
  .describe('The socket of the Docker Engine there, for runs in containers; `/var/run/docker.sock` unless given.');
