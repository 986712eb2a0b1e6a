// Where things lie in our pods, and what things are called on a cluster.
import { createHash } from 'node:crypto';

/** Short: a socket's path must not be long. */
export const place = '/stellwerk';
export const relayLink = `${place}/relay`;
export const jobFolder = `${place}/job`;
export const cachePlace = `${place}/cache`;
export const bundle = `${place}/bundle`;
/** Where the Secret of the job is mounted, in the container of the keeper. */
export const givenPlace = '/stellwerk-given';

/** What is installed beside the image's Python has no say in a runner. */
export const python = ['python3', '-S'];

export const containers = { runner: 'runner', keeper: 'keeper' } as const;

const label = 'stellwerk.org';
export const canceledMark = `${label}/canceled`;
export const installationLabel = `${label}/installation`;
export const madeForLabel = `${label}/made-for`;
export const managed = { 'app.kubernetes.io/managed-by': 'stellwerk' };

/** By these, whoever looks at the cluster sees whose a thing is. */
export const labelsOf = (installation: string, what: 'run' | 'look') => ({
  ...managed,
  [installationLabel]: installation,
  [`${label}/what`]: what,
});

/** Run ids are free text; a hash of the job's id is a safe name. */
export function jobNameOf(installation: string, id: string): string {
  return `stellwerk-${installation}-${createHash('sha256').update(id).digest('hex').slice(0, 24)}`;
}
