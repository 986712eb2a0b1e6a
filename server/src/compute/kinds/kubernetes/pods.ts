// What a cluster tells of a job and its pod, in the words of whoever waits for it.
import type { JobState } from '../../driver.ts';
import type { Api } from './api.ts';
import { canceledMark, containers } from './places.ts';
import { notUnpacked } from './unpacking.ts';
import { type Asked, whyNoNode } from './words.ts';

export interface JobThere {
  metadata: { name: string; uid: string; annotations?: Record<string, string>; deletionTimestamp?: string };
  spec: { suspend?: boolean; completions?: number };
  status?: { conditions?: Condition[] };
}

interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
}

interface Terminated {
  exitCode: number;
  reason?: string;
  message?: string;
}

interface ContainerStatus {
  name: string;
  imageID?: string;
  state?: { waiting?: { reason?: string; message?: string }; running?: object; terminated?: Terminated };
}

export interface Pod {
  metadata: {
    name: string;
    uid: string;
    creationTimestamp: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
  };
  spec: { nodeName?: string; containers: { name: string; resources?: { requests?: Asked } }[] };
  status: {
    phase: string;
    reason?: string;
    message?: string;
    podIP?: string;
    conditions?: Condition[];
    containerStatuses?: ContainerStatus[];
  };
}

interface Event {
  reason: string;
  message: string;
  count?: number;
}

/** Reasons of those that begin in a moment, if nothing else turns up. */
const begins = {
  pod: 'Waits for the cluster to make its pod.',
  containers: 'Its node makes its containers ready.',
};

export const isBeginning = (seen: JobState): boolean =>
  seen.state === 'waiting' && Object.values(begins).includes(seen.reason);

export const statusOf = (pod: Pod, container: string) =>
  pod.status.containerStatuses?.find(({ name }) => name === container);

export const isRunning = (pod: Pod | undefined, container: string): boolean =>
  pod !== undefined && statusOf(pod, container)?.state?.running !== undefined;

/** That of the runner: the newest, and the first where a job has several. */
export async function podOf(api: Api, namespace: string, job: string): Promise<Pod | undefined> {
  return newest((await podsOf(api, namespace, job)).filter((pod) => indexOf(pod) === 0));
}

/** By their places among all. */
export async function othersOf(api: Api, namespace: string, job: string): Promise<Pod[]> {
  const others = (await podsOf(api, namespace, job)).filter((pod) => indexOf(pod) > 0);
  return others.sort((a, b) => indexOf(a) - indexOf(b));
}

const indexOf = ({ metadata }: Pod) => Number(metadata.labels?.['batch.kubernetes.io/job-completion-index'] ?? 0);
const newest = (pods: Pod[]): Pod | undefined =>
  pods.sort((a, b) => b.metadata.creationTimestamp.localeCompare(a.metadata.creationTimestamp))[0];

export async function podsOf(api: Api, namespace: string, job: string): Promise<Pod[]> {
  const query = { labelSelector: `batch.kubernetes.io/job-name=${job}` };
  return (await api.ask<{ items: Pod[] }>({ path: `/api/v1/namespaces/${namespace}/pods`, query })).items;
}

async function eventsOf(api: Api, namespace: string, uid: string): Promise<Event[]> {
  const query = { fieldSelector: `involvedObject.uid=${uid}`, limit: 200 };
  return (await api.ask<{ items: Event[] }>({ path: `/api/v1/namespaces/${namespace}/events`, query })).items;
}

/** Of a job whose runner has not begun, or has ended; undefined while it runs. */
export async function stateOf(
  api: Api,
  namespace: string,
  job: JobThere,
  pod: Pod | undefined,
): Promise<Exclude<JobState, { state: 'running' }> | undefined> {
  if (job.metadata.annotations?.[canceledMark] !== undefined)
    return { state: 'ended', cause: 'canceled', reason: 'It was canceled before it began.' };
  if (!pod) return withoutPod(api, namespace, job);
  const ended = endOf(pod);
  if (ended) return ended;
  if (isRunning(pod, containers.runner)) return undefined;
  return beforeStart(api, namespace, pod);
}

async function withoutPod(
  api: Api,
  namespace: string,
  job: JobThere,
): Promise<Exclude<JobState, { state: 'running' }>> {
  const failed = job.status?.conditions?.find(({ type, status }) => /^Failed$/.test(type) && status === 'True');
  if (failed?.reason === 'PodFailurePolicy')
    return { state: 'ended', cause: 'preempted', reason: 'Its pod was evicted from its node, and is gone.' };
  if (failed) return { state: 'ended', cause: 'node-lost', reason: deleted };
  const refused = (await eventsOf(api, namespace, job.metadata.uid)).filter(({ reason }) => reason === 'FailedCreate');
  const message = refused.at(-1)?.message;
  if (message === undefined) return { state: 'waiting', reason: begins.pod };
  if (/exceeded quota/.test(message))
    return { state: 'waiting', reason: `Waits until the quota of the namespace has room: ${tail(message)}` };
  return { state: 'ended', cause: 'refused', reason: `The cluster makes no pod for it: ${tail(message)}` };
}

function endOf(pod: Pod): Extract<JobState, { state: 'ended' }> | undefined {
  const disrupted = pod.status.conditions?.find(isDisruption);
  const runner = statusOf(pod, containers.runner)?.state?.terminated;
  if (disrupted && (runner || pod.status.phase === 'Failed' || isOfNode(disrupted))) return disruption(pod, disrupted);
  if (pod.status.reason === 'Evicted')
    return { state: 'ended', cause: 'preempted', reason: `Its node evicted it: ${pod.status.message ?? ''}`.trim() };
  if (pod.status.reason === 'NodeLost')
    return { state: 'ended', cause: 'node-lost', reason: `Its node ${pod.spec.nodeName} does not answer any more.` };
  for (const container of [containers.keeper, containers.runner]) {
    const terminated = statusOf(pod, container)?.state?.terminated;
    if (terminated && neverBegan(terminated)) return isDiskFull(terminated) ? noRoom : noPython(terminated);
  }
  if (runner) return endOfRunner(runner);
  return pod.status.phase === 'Failed' ? { state: 'ended', ...said(pod.status.message) } : undefined;
}

/** Of a pod that is taken away, and whose runner has ended. */
export function lostPlace(pod: Pod): Extract<JobState, { state: 'ended' }> {
  const disrupted = pod.status.conditions?.find(isDisruption);
  if (disrupted) return disruption(pod, disrupted);
  return { state: 'ended', cause: 'node-lost', reason: deleted };
}

const deleted = 'Its pod was deleted from the cluster.';
const isDisruption = ({ type, status }: Condition) => type === 'DisruptionTarget' && status === 'True';
const isOfNode = ({ reason }: Condition) => reason === 'DeletionByTaintManager' || reason === 'DeletionByPodGC';

function disruption({ spec }: Pod, condition: Condition): Extract<JobState, { state: 'ended' }> {
  if (isOfNode(condition))
    return { state: 'ended', cause: 'node-lost', reason: `Its node ${spec.nodeName} does not answer any more.` };
  const taken = condition.reason === 'PreemptionByScheduler';
  const why = taken ? 'A pod of a higher priority took its place' : 'It was evicted from its node';
  const more = condition.message ? `: ${condition.message}` : '';
  return { state: 'ended', cause: 'preempted', reason: `${why}${more}` };
}

/** Its Python could not be started, or could not unpack the rest. */
const neverBegan = ({ exitCode, message = '' }: Terminated) =>
  exitCode === notUnpacked || ([126, 127, 128].includes(exitCode) && message.includes('python3'));
const isDiskFull = ({ message }: Terminated) => /No space left on device|Disk quota exceeded/.test(message ?? '');
const noRoom: Extract<JobState, { state: 'ended' }> = {
  state: 'ended',
  cause: 'refused',
  reason: 'There is no room for its files: the disk of its node, or its volume (volumeClaimSize), is full.',
};

function noPython({ reason, message, exitCode }: Terminated): Extract<JobState, { state: 'ended' }> {
  const why = message?.trim() || `${reason ?? 'it ended'} with exit code ${exitCode}`;
  return {
    state: 'ended',
    cause: 'refused',
    reason: `Its image has no python3 that can be started (${tail(why)}): name an image with Python 3.8 or newer.`,
  };
}

function endOfRunner({ exitCode, reason, message }: Terminated): Extract<JobState, { state: 'ended' }> {
  const usage = { exitCode };
  if (reason === 'OOMKilled')
    return {
      state: 'ended',
      cause: 'out-of-memory',
      reason: 'Its container took more memory than it was given, and was killed. Ask for more with resources.memory.',
      usage,
    };
  if (reason === 'ContainerStatusUnknown' || reason === 'Unknown')
    return { state: 'ended', cause: 'node-lost', reason: 'Its node was restarted while the run was on it.', usage };
  return { state: 'ended', usage, ...said(exitCode === 128 ? message : undefined) };
}

/** It may still come to begin; the reason is that of the scheduler or of its node. */
async function beforeStart(api: Api, namespace: string, pod: Pod): Promise<Exclude<JobState, { state: 'running' }>> {
  const unscheduled = pod.status.conditions?.find(({ type, status }) => type === 'PodScheduled' && status === 'False');
  if (unscheduled) return { state: 'waiting', reason: whyNoNode(unscheduled.message ?? '', askedBy(pod)) };
  const all = pod.status.containerStatuses ?? [];
  const held = all
    .map(({ state }) => state?.waiting)
    .find((waiting) => /^(Err)?Image|InvalidImage/.test(waiting?.reason ?? ''));
  if (!held) {
    const broken = all.map(({ state }) => state?.waiting).find((waiting) => waiting?.reason?.endsWith('Error'));
    if (!broken) return { state: 'waiting', reason: begins.containers };
    return {
      state: 'waiting',
      reason: `Its node cannot begin it yet: ${broken.reason} ${broken.message ?? ''}`.trimEnd(),
    };
  }
  return withoutImage(api, namespace, pod, held);
}

/** What no other try can mend, and after three of them. */
async function withoutImage(
  api: Api,
  namespace: string,
  pod: Pod,
  held: { reason?: string; message?: string },
): Promise<Exclude<JobState, { state: 'running' }>> {
  const failures = (await eventsOf(api, namespace, pod.metadata.uid)).filter(
    ({ reason, message }) => reason === 'Failed' && /image/i.test(message),
  );
  const tries = Math.max(0, ...failures.map(({ count }) => count ?? 1));
  const words = failures.find(({ message }) => /pull/.test(message))?.message ?? held.message ?? '';
  const isForGood =
    held.reason === 'InvalidImageName' || /not found|denied|unauthorized|forbidden|authoriz/i.test(words);
  const reason = `Its image cannot be pulled: ${tail(words)}${/x509|HTTP response to HTTPS/.test(words) ? trust : ''}`;
  if (isForGood || tries >= 3) return { state: 'ended', cause: 'refused', reason };
  return { state: 'waiting', reason };
}

const trust =
  ' Let its nodes trust that registry; for that of this server, `stellwerk registry trust --engine kubernetes` prints how.';

const askedBy = ({ spec }: Pod): Asked =>
  spec.containers.find(({ name }) => name === containers.runner)?.resources?.requests ?? {};

const said = (message: string | undefined) => (message === undefined ? {} : { reason: message.trim() });

/** A sentence that others can go on after. */
function plain(message: string): string {
  const short = message.replace(/ preemption: .*$/s, '').trim();
  return short.endsWith('.') ? short : `${short}.`;
}

/** The end of what was passed on from one part to the next tells the reason. */
function tail(message: string): string {
  return plain(message.length > 400 ? `…${message.slice(-400)}` : message);
}
