// Where things lie in our containers, and what they are called on an engine.
import { createHash } from 'node:crypto';
import type { LayerEntry } from '../../../oci/layer-entry.ts';
import type { Target } from '../../driver.ts';
import { packageEntries } from './wheel.ts';

/** Short: a socket's path must not be long. */
export const place = '/opt/stellwerk';
export const relayLink = `${place}/relay`;
export const jobFolder = `${place}/job`;
export const cachePlace = '/opt/stellwerk-cache';
const bundle = `${place}/bundle`;

/** What is installed beside the image's Python has no say in a runner. */
export const python = ['python3', '-S'];
export const runnerEnvironment = [`PYTHONPATH=${bundle}`];

export const bundleEntries = (wheel: string): Promise<LayerEntry[]> => packageEntries(wheel, bundle.slice(1));

export const jobEntry = (job: object): LayerEntry => ({
  path: `${jobFolder.slice(1)}/job.json`,
  mode: 0o600,
  source: { bytes: Buffer.from(JSON.stringify(job)) },
});

/** By these, whoever looks at the engine sees whose a container or volume is. */
export const labelsOf = (installation: string, what: string) => ({
  'org.stellwerk.installation': installation,
  'org.stellwerk.what': what,
});

/** Run ids are free text; a hash of the job's id is a safe name. */
export function containerNameOf(installation: string, id: string): string {
  return `stellwerk-${installation}-${hash(id)}`;
}

/** Environments that runs of a target have in common. */
export function cacheNameOf(installation: string, { workspace, name }: Pick<Target, 'workspace' | 'name'>): string {
  return `stellwerk-${installation}-cache-${hash(JSON.stringify([workspace, name]))}`;
}

const hash = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 24);
