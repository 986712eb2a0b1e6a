// A Job on a cluster from when it lets its pod be made until nothing of it is left.
import { setTimeout as pause } from 'node:timers/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { type Api, Refusal } from './api.ts';
import type { Container } from './exec.ts';
import { canceledMark, containers } from './places.ts';
import { type JobThere, type Pod, podsOf } from './pods.ts';
import { pullSecretName } from './pull-secrets.ts';

export interface At {
  api: Api;
  namespace: string;
  job: string;
}

/** The cluster is asked so often, and so many times, whether what was to end has ended. */
const askEveryMs = 200;
const mostAsked = 450;

const pathOf = ({ namespace, job }: At) => `/apis/batch/v1/namespaces/${namespace}/jobs/${job}`;
const podPath = ({ namespace }: At, pod: Pod) => `/api/v1/namespaces/${namespace}/pods/${pod.metadata.name}`;
export const keeperOf = ({ namespace }: At, pod: Pod): Container => ({
  namespace,
  pod: pod.metadata.name,
  container: containers.keeper,
});

export async function found(at: At): Promise<JobThere | undefined> {
  return at.api.find<JobThere>({ path: pathOf(at) });
}

async function patchJob(at: At, body: object): Promise<void> {
  await at.api.find({ method: 'PATCH', path: pathOf(at), body });
}

/** Makes what belongs to it, and lets it make its pod. */
export async function release(at: At, all: readonly (object | undefined)[]): Promise<void> {
  for (const part of all)
    if (part) {
      const kind = (part as { kind: string }).kind === 'Secret' ? 'secrets' : 'persistentvolumeclaims';
      await at.api.make(`/api/v1/namespaces/${at.namespace}/${kind}`, part);
    }
  await patchJob(at, { spec: { suspend: false } });
}

/** What has not begun never will: no pod of it is made any more, and one that waits is taken away. */
export async function withdraw(at: At): Promise<void> {
  await patchJob(at, { metadata: { annotations: { [canceledMark]: 'true' } }, spec: { suspend: true } });
}

/** With all that belongs to it; returns when nothing is left. Safe twice. */
export async function removeJob(at: At): Promise<void> {
  const { api, namespace, job } = at;
  // Before the Job, whose end would give them all the time that pods may have.
  await endPods(at);
  await api.find({ method: 'DELETE', path: pathOf(at), query: { propagationPolicy: 'Foreground' } });
  for (const secret of [job, pullSecretName(job)])
    await api.find({ method: 'DELETE', path: `/api/v1/namespaces/${namespace}/secrets/${secret}` });
  await removePods(at);
  await until(async () => (await found(at)) === undefined, 'Its Job was not taken away in time.');
}

/** Those that there are; returns when they are gone. */
export async function removePods(at: At): Promise<void> {
  await endPods(at);
  await until(
    async () => (await podsOf(at.api, at.namespace, at.job)).length === 0,
    'Its pod was not taken away in time.',
  );
}

async function endPods(at: At): Promise<void> {
  const { api, namespace, job } = at;
  for (const pod of await podsOf(api, namespace, job)) {
    // It has had the time that it needs; where nobody is left to end it, it is struck off.
    const gracePeriodSeconds = (await isNodeReady(api, pod)) ? 1 : 0;
    await api.find({ method: 'DELETE', path: podPath(at, pod), query: { gracePeriodSeconds } });
  }
}

/** The volume that its files lie on, where it has one that does not go with its pod. */
export async function volumeOf({ api, namespace, job }: At): Promise<string | undefined> {
  const there = await api.find<object>({ path: `/api/v1/namespaces/${namespace}/persistentvolumeclaims/${job}` });
  return there && job;
}

export async function removeVolume(at: At): Promise<void> {
  const path = `/api/v1/namespaces/${at.namespace}/persistentvolumeclaims/${at.job}`;
  await at.api.find({ method: 'DELETE', path });
  await until(async () => (await volumeOf(at)) === undefined, 'Its volume was not taken away in time.');
}

export async function isNodeReady(api: Api, { spec }: Pod): Promise<boolean> {
  if (spec.nodeName === undefined) return true;
  type Node = { status?: { conditions?: { type: string; status: string }[] } };
  const node = await api.find<Node>({ path: `/api/v1/nodes/${spec.nodeName}` }).catch((error) => {
    // Whoever may use a namespace only does not learn of nodes.
    if (error instanceof Refusal && error.status === 403) return { status: {} } as Node;
    throw error;
  });
  if (!node) return false;
  return node.status?.conditions?.find(({ type }) => type === 'Ready')?.status !== 'Unknown';
}

export async function until(isSo: () => Promise<boolean>, otherwise: string): Promise<void> {
  for (let asked = 0; asked < mostAsked; asked++) {
    if (await isSo()) return;
    await pause(askEveryMs);
  }
  throw new TargetError('later', otherwise);
}
