// What the nodes of a cluster have, and what none of them could ever give to a run.

import { readOf } from '@stellwerk/contract/resources.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { Flaw } from '../../driver.ts';
import { type Api, Refusal } from './api.ts';
import { keeperRequests, nodeSelectorOf, type Settings } from './manifest.ts';

export interface Node {
  metadata: { name: string; labels?: Record<string, string> };
  status: { allocatable?: Record<string, string> };
}

const units: Record<string, number> = {
  '': 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** A quantity as clusters write it, such as `1900m` or `16Gi`. */
export function quantity(text: string | undefined): number {
  const [, count, unit] = /^([\d.]+(?:e\d+)?)(m|k|[KMGTPE]i?|)$/.exec(text ?? '0') ?? [];
  return count === undefined ? 0 : Number(count) * (units[unit!] ?? 1);
}

/** Those that runs may come to; undefined where the sign-in may not see nodes. */
export async function nodesFor(api: Api, settings: Settings): Promise<Node[] | undefined> {
  try {
    const { items } = await api.ask<{ items: Node[] }>({ path: '/api/v1/nodes' });
    return items.filter(({ metadata }) => hasAll(metadata.labels ?? {}, settings.nodeSelector));
  } catch (error) {
    if (error instanceof Refusal && error.status === 403) return undefined;
    throw error;
  }
}

export function flawsOf(nodes: readonly Node[], settings: Settings, configuration: RunConfiguration): Flaw[] {
  const { cpus = 0, memoryBytes = 0, gpus, gpuType } = readOf(configuration.resources);
  const { gpuResource, gpuTypeLabel } = settings;
  if (gpuType !== undefined && gpuTypeLabel === undefined)
    return [
      flaw('gpuType', 'does not tell the types of its GPUs: name the label that does with the setting gpuTypeLabel'),
    ];
  const types = [...new Set(nodes.flatMap(({ metadata }) => metadata.labels?.[gpuTypeLabel ?? ''] ?? []))].sort();
  if (gpuType !== undefined && !types.includes(gpuType))
    return [flaw('gpuType', types.length > 0 ? `has GPUs of the types ${types.join(', ')}` : 'has no GPUs')];
  const fitting = nodes.filter(({ metadata }) => hasAll(metadata.labels ?? {}, nodeSelectorOf(settings, gpuType)));
  const most = (resource: string) =>
    Math.max(0, ...fitting.map(({ status }) => quantity(status.allocatable?.[resource])));
  const mostCpus = most('cpu') - quantity(keeperRequests.cpu);
  const mostMemory = most('memory') - quantity(keeperRequests.memory);
  const found: Flaw[] = [];
  if (cpus > mostCpus) found.push(flaw('cpus', `has ${Number(mostCpus.toFixed(3))} CPUs at most on a node`));
  if (memoryBytes > mostMemory)
    found.push(flaw('memory', `has ${mostMemory.toLocaleString('en')} bytes of memory at most on a node`));
  if (gpus > most(gpuResource)) found.push(flaw('gpus', `has ${most(gpuResource)} GPUs at most on a node`));
  return found;
}

/** What the quotas of the namespace would never let in. */
export async function quotaFlaws(api: Api, settings: Settings, configuration: RunConfiguration): Promise<Flaw[]> {
  const path = `/api/v1/namespaces/${settings.namespace}/resourcequotas`;
  type Quota = { spec: { hard?: Record<string, string> } };
  const { items } = await api.ask<{ items: Quota[] }>({ path });
  const { cpus = 0, memoryBytes = 0, gpus } = readOf(configuration.resources);
  const found: Flaw[] = [];
  for (const [field, wanted, resource, unit] of [
    ['cpus', cpus, 'requests.cpu', 'CPUs'],
    ['memory', memoryBytes, 'requests.memory', 'bytes of memory'],
    ['gpus', gpus, `requests.${settings.gpuResource}`, 'GPUs'],
  ] as const) {
    const limits = items.flatMap(({ spec }) => spec.hard?.[resource] ?? []).map(quantity);
    const most = Math.min(...limits);
    if (wanted > most) found.push(flaw(field, `has a quota of ${most.toLocaleString('en')} ${unit}`));
  }
  return found;
}

const flaw = (field: string, why: string): Flaw => ({ field: `resources.${field}`, why });

function hasAll(labels: Record<string, string>, wanted: Record<string, string>): boolean {
  return Object.entries(wanted).every(([name, value]) => labels[name] === value);
}
