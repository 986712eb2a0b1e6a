// Why a pod is not placed on any node, in the words of whoever asked for it: the scheduler counts nodes by reason.

import { quantity } from './nodes.ts';

/** As the container of the runner asks for it. */
export type Asked = Readonly<Record<string, string>>;

interface Reason {
  /** What follows "No node has", if that is all that is wrong with every node. */
  has?: string;
  /** What is wrong, before "on 2 of 3 nodes". */
  wrong: string;
}

const hundredths = 100;

export function whyNoNode(message: string, asked: Asked): string {
  const [, all, told] =
    /^0\/(\d+) nodes are available: (.*?)\.(?: (?:no new claims|preemption:).*)?$/s.exec(message) ?? [];
  if (told === undefined) return `No node takes it: ${message.trim().replace(/[.\s]*$/, '.')}`;
  const reasons = told
    .split(/, (?=\d+ )/)
    .map((part) => /^(\d+) (.*)$/s.exec(part))
    .filter((found) => found !== null)
    .map(([, count, reason]) => ({ count: count!, ...inWords(reason!, asked) }));
  if (reasons.length === 0) return all === '0' ? 'The cluster has no nodes just now.' : `No node takes it: ${told}.`;
  const [only] = reasons;
  if (reasons.length === 1 && only!.has !== undefined) return `No node has ${only!.has}.`;
  const each = reasons.map(({ wrong, count }) => `${wrong} on ${count} of ${all} ${all === '1' ? 'node' : 'nodes'}`);
  return `No node can take it: ${each.join(', ')}.`;
}

function inWords(reason: string, asked: Asked): Reason {
  const [, lacking] = /^Insufficient (\S+)$/.exec(reason) ?? [];
  if (lacking !== undefined) {
    const has = free(lacking, asked[lacking] ?? '');
    return { has, wrong: `there are not ${has}` };
  }
  if (/didn't match Pod's node affinity\/selector/.test(reason))
    return { has: 'the labels that are asked for', wrong: 'the labels that are asked for are not there' };
  const [, taint] = /untolerated taint(?:\(s\))? ?(\{.*\})?/.exec(reason) ?? [];
  if (/untolerated taint/.test(reason))
    return { wrong: `there is a taint that the target does not tolerate${taint ? ` (${taint})` : ''}` };
  if (/were unschedulable/.test(reason)) return { wrong: 'no new pods are let in' };
  if (/Too many pods/.test(reason)) return { has: 'room for another pod', wrong: 'there is no room for another pod' };
  return { wrong: reason };
}

function free(resource: string, asked: string): string {
  const count = quantity(asked);
  if (resource === 'cpu') return `${count} free CPUs`;
  if (resource === 'memory') return `${inGigabytes(count)} GB of free memory`;
  return `${count} free ${/gpu/i.test(resource) ? 'GPUs' : resource}`;
}

const inGigabytes = (bytes: number) => Math.max(1, Math.round((bytes / 1e9) * hundredths)) / hundredths;
