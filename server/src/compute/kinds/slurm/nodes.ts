// What a cluster has, as sinfo tells it: kinds of nodes by partition, whether they are on or not. What a run can never get there is told by it.
import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { readOf } from '@stellwerk/contract/resources.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { SshConnection } from '../../../exec/ssh/connection.ts';
import type { Flaw } from '../../driver.ts';

/** Nodes of a partition that are alike. */
export interface NodeGroup {
  partition: string;
  isDefault: boolean;
  count: number;
  cpus: number;
  memoryMegabytes: number;
  /** GPUs by type; those without one are under ''. */
  gpus: Record<string, number>;
  /** Absent: there is none. */
  limitSeconds?: number;
  features: string[];
  /** Such as `idle`, `idle~` (switched off), `alloc#` (being started). */
  state: string;
}

export async function nodeGroups(connection: SshConnection): Promise<NodeGroup[]> {
  const words = ['sinfo', '-a', '-h', '-e', '-o', '%P|%D|%c|%m|%G|%l|%f|%T'];
  const { code, stdout, stderr } = await connection.run({ words, timeoutMs: 30_000 });
  if (code !== 0) throw new TargetError('later', `Slurm does not tell what the cluster has: ${stderr.trim()}`);
  return readGroups(stdout);
}

export function readGroups(text: string): NodeGroup[] {
  return text
    .split('\n')
    .filter((line) => line.includes('|'))
    .map((line) => {
      const [partition, count, cpus, memory, gres, limit, features, state] = line.split('|') as string[];
      const limitSeconds = limitOf(limit!);
      return {
        partition: partition!.replace(/\*$/, ''),
        isDefault: partition!.endsWith('*'),
        count: Number(count),
        cpus: Number.parseInt(cpus!, 10),
        memoryMegabytes: Number.parseInt(memory!, 10),
        gpus: gpusOf(gres!),
        ...(limitSeconds !== undefined && { limitSeconds }),
        features: features === '(null)' ? [] : features!.split(','),
        state: state!,
      };
    });
}

/** Of the partition that the target's jobs go to; of all if Slurm has no default. */
export function groupsFor(groups: readonly NodeGroup[], partition: string | undefined): NodeGroup[] {
  if (partition === undefined) {
    const byDefault = groups.filter(({ isDefault }) => isDefault);
    return byDefault.length > 0 ? byDefault : [...groups];
  }
  const names = partition.split(',');
  return groups.filter(({ partition: name }) => names.includes(name));
}

export function flawsOf(
  all: readonly NodeGroup[],
  settings: SettingsOf<'slurm'>,
  configuration: RunConfiguration,
): Flaw[] {
  const { nodes, cpus = 0, memoryBytes = 0, gpus, gpuType, timeLimitSeconds } = readOf(configuration.resources);
  const where = settings.partition === undefined ? '' : ` in the partition ${settings.partition}`;
  let groups = groupsFor(all, settings.partition);
  const flaws: Flaw[] = [];
  const feature = /^[\w.-]+$/.test(settings.constraint ?? '') ? settings.constraint : undefined;
  if (feature !== undefined) groups = groups.filter(({ features }) => features.includes(feature));
  const having = feature === undefined ? where : `${where} with the feature ${feature}`;
  /** Narrows to the nodes that have it, or tells that none has. */
  const need = (field: string, has: (group: NodeGroup) => boolean, most: (groups: NodeGroup[]) => string) => {
    const fitting = groups.filter(has);
    if (fitting.length > 0) groups = fitting;
    else flaws.push({ field: `resources.${field}`, why: `has ${most(groups)}${having}` });
  };
  if (groups.length === 0) return [{ field: 'target', why: `has no nodes${having}` }];
  const greatest = (of: (group: NodeGroup) => number) => (some: NodeGroup[]) => Math.max(...some.map(of));
  need(
    'cpus',
    (group) => group.cpus >= cpus,
    (some) => `nodes of at most ${greatest((group) => group.cpus)(some)} CPUs`,
  );
  need(
    'memory',
    (group) => group.memoryMegabytes * 2 ** 20 >= memoryBytes,
    (some) => `nodes of at most ${greatest((group) => group.memoryMegabytes)(some)} MB of memory`,
  );
  if (gpus > 0) {
    if (gpuType !== undefined) need('gpuType', (group) => gpuType in group.gpus, typesOf);
    const count = (group: NodeGroup) =>
      gpuType === undefined ? sum(Object.values(group.gpus)) : (group.gpus[gpuType] ?? 0);
    need(
      'gpus',
      (group) => count(group) >= gpus,
      (some) =>
        `nodes of at most ${greatest(count)(some)} GPUs${gpuType === undefined ? '' : ` of the type ${gpuType}`}`,
    );
  }
  const there = sum(groups.map(({ count }) => count));
  if (nodes > there && flaws.length === 0)
    flaws.push({ field: 'resources.nodes', why: `has ${there} such nodes${having}` });
  const limits = groups.map(({ limitSeconds }) => limitSeconds ?? Number.POSITIVE_INFINITY);
  if (timeLimitSeconds !== undefined && timeLimitSeconds > Math.max(...limits))
    flaws.push({ field: 'resources.timeLimit', why: `has a time limit of ${Math.max(...limits)} s${where}` });
  return flaws;
}

/** How many nodes are at rest, at work, being started, switched off or out of order. */
export function countsOf(
  groups: readonly NodeGroup[],
): Record<'idle' | 'running' | 'starting' | 'off' | 'down', number> {
  const counts = { idle: 0, running: 0, starting: 0, off: 0, down: 0 };
  for (const { state, count } of groups) counts[standingOf(state)] += count;
  return counts;
}

/** Of a state as sinfo writes it. */
export function standingOf(state: string): 'idle' | 'running' | 'starting' | 'off' | 'down' {
  if (/#$|powering_up|configuring/i.test(state)) return 'starting';
  if (/[~%!]$|power(ed|ing)_down/i.test(state)) return 'off';
  if (/^(down|drain|fail|inval|unk|maint|future|reboot)/i.test(state) || /\*$/.test(state)) return 'down';
  return /^idle/i.test(state) ? 'idle' : 'running';
}

export function gpusOf(gres: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [, type = '', count] of gres.matchAll(/\bgpu:(?:([A-Za-z][\w.-]*):)?(\d+)/g))
    found[type] = (found[type] ?? 0) + Number(count);
  return found;
}

function typesOf(groups: NodeGroup[]): string {
  const types = [...new Set(groups.flatMap(({ gpus }) => Object.keys(gpus)))].filter((type) => type !== '');
  return types.length > 0 ? `GPUs of the types ${types.join(', ')}` : 'no GPUs with a type';
}

/** `infinite`, `30:00`, `2:00:00`, `7-00:00:00` */
function limitOf(text: string): number | undefined {
  const [, days = '0', rest] = /^(?:(\d+)-)?([\d:]+)$/.exec(text) ?? [];
  if (rest === undefined) return undefined;
  return Number(days) * 86_400 + rest.split(':').reduce((all, part) => all * 60 + Number(part), 0);
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, number) => all + number, 0);
