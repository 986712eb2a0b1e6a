// What the versions of Slurm's REST interface say in different ways. v0.0.38 has bare numbers and words; later ones have numbers that may be unset, lists
// of words, and other names for some of what a job asks for.
import type { Wanted } from './batch.ts';

/** Those that are understood, the newest first: of these, that which a cluster has is spoken, unless the target names one. */
export const versions = ['v0.0.43', 'v0.0.42', 'v0.0.41', 'v0.0.40', 'v0.0.39', 'v0.0.38'] as const;
const oldest = 'v0.0.38';

export type Count = number | { set?: boolean; infinite?: boolean; number?: number };
export type Words = string | string[];
export type Status = number | { return_code?: Count; signal?: { id?: Count } };

const path = '/usr/local/bin:/usr/bin:/bin';

/** What is submitted, but the script. */
export function askedIn(version: string, wanted: Wanted): object {
  const { name, output, nodes, tasksPerNode, cpusPerTask, minutes, settings } = wanted;
  const same = {
    name,
    tasks: nodes * tasksPerNode,
    tasks_per_node: tasksPerNode,
    cpus_per_task: cpusPerTask,
    partition: settings.partition,
    account: settings.account,
    qos: settings.qos,
    constraints: settings.constraint,
    reservation: settings.reservation,
    requeue: false,
    current_working_directory: '/',
    standard_output: output,
    time_limit: minutes,
  };
  const more = version === oldest ? inOldest(wanted) : inLater(wanted);
  return Object.fromEntries(Object.entries({ ...same, ...more }).filter(([, value]) => value !== undefined));
}

function inOldest({ nodes, memoryMegabytes, gres, warnSeconds }: Wanted): object {
  return {
    nodes: [nodes, nodes],
    memory_per_node: memoryMegabytes,
    gres,
    signal: warnSeconds === undefined ? undefined : `B:USR1@${warnSeconds}`,
    environment: { PATH: path },
  };
}

function inLater({ nodes, memoryMegabytes, gres, minutes, warnSeconds }: Wanted): object {
  const number = (given: number | undefined) => (given === undefined ? undefined : { set: true, number: given });
  return {
    nodes: String(nodes),
    memory_per_node: number(memoryMegabytes),
    time_limit: number(minutes),
    tres_per_node: gres === undefined ? undefined : `gres/${gres}`,
    ...(warnSeconds !== undefined && {
      kill_warning_signal: 'USR1',
      kill_warning_delay: number(warnSeconds),
      kill_warning_flags: ['BATCH_JOB'],
    }),
    environment: [`PATH=${path}`],
  };
}

/** Undefined where none is set, or there is no limit. */
export function countIn(given: Count | null | undefined): number | undefined {
  if (given === null || given === undefined || typeof given === 'number') return given ?? undefined;
  return given.set === false || given.infinite ? undefined : given.number;
}

export function wordsIn(given: Words | null | undefined): string[] {
  const words = Array.isArray(given) ? given : (given ?? '').split(',');
  return words.map((word) => word.trim()).filter((word) => word !== '');
}

/** In a list of states the first is how a job stands, the others what is being done with it; while that is so, it says more. */
export function stateIn(given: Words): string {
  const [first = '', ...beside] = wordsIn(given);
  return beside.find((word) => passing.has(word)) ?? first;
}

const passing = new Set(['CONFIGURING', 'COMPLETING', 'REQUEUED', 'RESIZING', 'SIGNALING', 'STAGE_OUT', 'STOPPED']);

/** The exit code, as a shell tells it. */
export function exitIn(given: Status | undefined): number | undefined {
  if (given === undefined) return undefined;
  if (typeof given === 'number') return (given & 127) !== 0 ? 128 + (given & 127) : given >> 8;
  const signal = countIn(given.signal?.id);
  return signal ? 128 + signal : countIn(given.return_code);
}
