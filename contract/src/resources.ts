// What a run asks of its target, in the same words for every kind; and what a target has to give.
import * as z from 'zod';

const sizes: Record<string, number> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};
const size = /^(\d{1,15}(?:\.\d{1,3})?) ?([kmgt]?i?)b$/i;
const units: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400 };
const longestSeconds = 365 * 86_400;

export const resources = z
  .strictObject({
    nodes: z.int().min(1).max(10_000).default(1).describe('Machines; all else is for each of them.'),
    cpus: z.int().min(1).max(4_096).optional().describe('CPUs; whatever the target gives unless given.'),
    memory: z
      .union([z.int().min(1), z.string().regex(size, 'must be a size, such as `16GB` or `512MiB`')])
      .optional()
      .describe('Memory: bytes, or such as `16GB`, `512MiB`.'),
    gpus: z.int().min(0).max(64).optional().describe('GPUs; none unless given.'),
    gpuType: z.string().min(1).max(100).optional().describe('The type of GPU, as the target calls it.'),
    timeLimit: z
      .union([
        z.number().positive().max(longestSeconds),
        z.string().regex(/^(\d{1,6}(\.\d{1,3})?[smhd]){1,4}$/, 'must be a time, such as `90m` or `2h30m`'),
      ])
      .optional()
      .describe('The script is ended after this time: seconds, or such as `90m`, `2h30m`.'),
  })
  .meta({ id: 'Resources' });
export type Resources = z.output<typeof resources>;

/** The same, read: bytes and seconds. */
export const readResources = z
  .object({
    nodes: z.int(),
    cpus: z.int().optional(),
    memoryBytes: z.int().optional(),
    gpus: z.int(),
    gpuType: z.string().optional(),
    timeLimitSeconds: z.number().optional(),
  })
  .meta({ id: 'ReadResources' });
export type ReadResources = z.output<typeof readResources>;

export const gpu = z
  .strictObject({
    uuid: z.string().min(1).max(100).describe('As its driver names it; runs see those they were given by it.'),
    type: z.string().min(1).max(100).describe('Such as `A100`.'),
  })
  .meta({ id: 'Gpu' });
export type Gpu = z.infer<typeof gpu>;

export function gpusOf(gpus: readonly Gpu[], wanted: string | undefined): Gpu[] {
  return gpus.filter(({ type }) => wanted === undefined || type === wanted);
}

/** `2 GPUs of the type A100`, `3 free GPUs`. */
export function wordsOfGpus(count: number, type: string | undefined, which = ''): string {
  return `${count} ${which}GPUs${type === undefined ? '' : ` of the type ${type}`}`;
}

export function readOf({ memory, timeLimit, gpus, ...same }: Resources): ReadResources {
  return {
    ...same,
    gpus: gpus ?? 0,
    ...(memory !== undefined && { memoryBytes: bytesOf(memory) }),
    ...(timeLimit !== undefined && { timeLimitSeconds: secondsOf(timeLimit) }),
  };
}

function bytesOf(memory: number | string): number {
  if (typeof memory === 'number') return memory;
  const [, count, unit] = size.exec(memory)!;
  return Math.round(Number(count) * sizes[unit!.toLowerCase()]!);
}

function secondsOf(time: number | string): number {
  if (typeof time === 'number') return time;
  const parts = [...time.matchAll(/([\d.]+)([smhd])/g)];
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * units[unit!]!, 0);
}
