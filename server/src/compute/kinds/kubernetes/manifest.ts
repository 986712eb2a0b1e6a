// What is made on a cluster for one job: a Job with one pod, and a Secret that belongs to it. The pod: the runner works in one container; the other
// unpacks our Python package and the job from that Secret into the pod's own folder, keeps what the runner leaves, carries the way back to this
// server, and is there after the first was killed.
import type { Job as OurJob } from '@stellwerk/contract/job.ts';
import type { ReadResources } from '@stellwerk/contract/resources.ts';
import type { Target } from '../../driver.ts';
import { bundle, cachePlace, containers, givenPlace, jobFolder, labelsOf, place, python, relayLink } from './places.ts';
import { afterUnpacking, onceUnpacked } from './unpacking.ts';

export type Settings = Target<'kubernetes'>['settings'];

export interface Wanted {
  name: string;
  installation: string;
  settings: Settings;
  image: string;
  /** Of the runner; without it there is none, and the pod is there to be asked for a while. */
  resources?: ReadResources;
  /** What the script has to write a checkpoint when its place is taken from it. */
  warningSeconds?: number;
  pullSecrets: string[];
  /** The volume that its files lie on; one that goes with the pod unless given. */
  volume?: string | undefined;
}

/** Whose files are whose is no matter within its own root. */
const securityContext = {
  runAsUser: 0,
  allowPrivilegeEscalation: false,
  capabilities: { drop: ['ALL'], add: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'] },
  seccompProfile: { type: 'RuntimeDefault' },
};
const ours = { name: 'ours', mountPath: place };
const given = { name: 'given', mountPath: givenPlace, readOnly: true };
const sharedMemory = { name: 'memory', mountPath: '/dev/shm' };
const longestLookSeconds = 300;
/** For what a runner leaves whose place was taken from it. */
const deliverySeconds = 60;
/** What carries a way and delivers files; none of it is the script's. */
export const keeperRequests = { cpu: '20m', memory: '48Mi' };
const littleResources = {
  requests: keeperRequests,
  limits: { cpu: '1', memory: '256Mi' },
};

export function jobManifest(wanted: Wanted): object {
  const { name, installation, resources } = wanted;
  const labels = labelsOf(installation, resources ? 'run' : 'look');
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name, labels },
    spec: {
      // Until its Secret is there.
      suspend: true,
      backoffLimit: 0,
      ...(resources && resources.nodes > 1 && severalOf(resources.nodes)),
      ...(!resources && { activeDeadlineSeconds: longestLookSeconds, ttlSecondsAfterFinished: 0 }),
      podFailurePolicy: {
        rules: [{ action: 'FailJob', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] }],
      },
      template: { metadata: { labels }, spec: podOf(wanted) },
    },
  };
}

/** Pods that know their place among all. */
const severalOf = (nodes: number) => ({ completionMode: 'Indexed', completions: nodes, parallelism: nodes });

/** On machines of their own where there are so many. */
const spread = (name: string) => [
  {
    maxSkew: 1,
    topologyKey: 'kubernetes.io/hostname',
    whenUnsatisfiable: 'ScheduleAnyway',
    labelSelector: { matchLabels: { 'batch.kubernetes.io/job-name': name } },
  },
];

function podOf({ name, image, resources, warningSeconds = 0, pullSecrets, settings, volume }: Wanted): object {
  const container = (words: readonly string[], more: object) => ({
    image,
    imagePullPolicy: 'IfNotPresent',
    command: words,
    workingDir: '/',
    securityContext,
    ...more,
  });
  const env = [{ name: 'PYTHONPATH', value: bundle }];
  return {
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: Math.ceil(warningSeconds) + deliverySeconds,
    enableServiceLinks: false,
    automountServiceAccountToken: settings.serviceAccount !== undefined,
    ...(settings.serviceAccount !== undefined && { serviceAccountName: settings.serviceAccount }),
    imagePullSecrets: pullSecrets.map((secret) => ({ name: secret })),
    nodeSelector: nodeSelectorOf(settings, resources?.gpuType),
    tolerations: settings.tolerations,
    ...(resources && resources.nodes > 1 && { topologySpreadConstraints: spread(name) }),
    containers: [
      container(afterUnpacking('-m', 'stellwerk.runner.container', 'keep', place), {
        name: containers.keeper,
        env,
        terminationMessagePolicy: 'FallbackToLogsOnError',
        volumeMounts: [ours, given],
        resources: littleResources,
      }),
      ...(resources
        ? [
            container(onceUnpacked('-m', 'stellwerk.runner.container', 'run', place, String(warningSeconds)), {
              name: containers.runner,
              env,
              volumeMounts: [ours, sharedMemory],
              resources: taken(settings, resources),
            }),
          ]
        : []),
    ],
    volumes: [
      {
        name: ours.name,
        ...(volume === undefined ? { emptyDir: {} } : { persistentVolumeClaim: { claimName: volume } }),
      },
      { name: given.name, secret: { secretName: name, defaultMode: 0o400 } },
      { name: sharedMemory.name, emptyDir: { medium: 'Memory' } },
    ],
  };
}

export function nodeSelectorOf(settings: Settings, gpuType?: string): Record<string, string> {
  const ofType = gpuType !== undefined && settings.gpuTypeLabel !== undefined;
  return { ...settings.nodeSelector, ...(ofType && { [settings.gpuTypeLabel!]: gpuType }) };
}

function taken(settings: Settings, { cpus, memoryBytes, gpus }: ReadResources): object {
  const limits = {
    ...(cpus !== undefined && { cpu: String(cpus) }),
    ...(memoryBytes !== undefined && { memory: String(memoryBytes) }),
    ...(gpus > 0 && { [settings.gpuResource]: String(gpus) }),
  };
  return { requests: limits, limits };
}

/** Belongs to the Job and goes with it. */
export function secretManifest(
  { name, installation, settings }: Pick<Wanted, 'name' | 'installation' | 'settings'>,
  job: { uid: string },
  content: { job?: OurJob; package: Buffer },
): object {
  const given = content.job && JSON.stringify(jobThere(settings, content.job));
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, labels: labelsOf(installation, 'run'), ownerReferences: [owner(name, job.uid)] },
    immutable: true,
    data: {
      ...(given !== undefined && { 'job.json': Buffer.from(given).toString('base64') }),
      package: content.package.toString('base64'),
    },
  };
}

function jobThere({ reach }: Settings, job: OurJob): object {
  const more = {
    cacheFolder: cachePlace,
    ...(job.resources.nodes > 1 && { launcher: [...python, '-m', 'stellwerk.runner.ranks', 'lead', jobFolder] }),
  };
  if (reach === 'direct') return { ...job, ...more };
  const { caBundle: _, ...same } = job;
  return { ...same, ...more, server: `unix:${relayLink}` };
}

/** Belongs to the Job and goes with it. */
export function claimManifest(
  { name, installation, settings }: Pick<Wanted, 'name' | 'installation' | 'settings'>,
  job: { uid: string },
): object | undefined {
  const { volumeClaimSize: storage, storageClass } = settings;
  if (storage === undefined) return undefined;
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, labels: labelsOf(installation, 'run'), ownerReferences: [owner(name, job.uid)] },
    spec: {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage } },
      ...(storageClass !== undefined && { storageClassName: storageClass }),
    },
  };
}

export const owner = (name: string, uid: string) => ({ apiVersion: 'batch/v1', kind: 'Job', name, uid });
