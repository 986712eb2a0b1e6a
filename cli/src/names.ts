// How verbs are called on the command line: the noun in the singular, words joined by hyphens, what stands in the address without a flag.
import { pathFields, type Verb } from '@stellwerk/contract/verb.ts';

const singulars: Record<string, string> = {
  activities: 'activity',
  packageIndexes: 'package-index',
};

export const kebab = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** `runs` → `run`, `signIns` → `sign-in`, `compute` → `compute`. */
export function nounOf(noun: string): string {
  return singulars[noun] ?? kebab(noun).replace(/(?<=[a-z]{2})s$/, '');
}

/** Fields that may be given without their flag though they do not stand in the address. */
const alsoPositional: Record<string, string[]> = {
  'workspaces.create': ['name'],
  'users.create': ['name'],
  'tokens.create': ['name'],
  'experiments.create': ['name'],
  'compute.attach': ['name'],
  'compute.create': ['name'],
  'services.deploy': ['name'],
  'services.scale': ['replicas'],
  'members.set': ['role'],
  'models.setAlias': ['version'],
  'datastores.putFile': ['path'],
  'datastores.getFile': ['path'],
  'datastores.deleteFiles': ['path'],
  'datastores.listFiles': ['prefix'],
  'runs.getFile': ['path'],
  'snapshots.getFile': ['path'],
  'models.getFile': ['path'],
  'metrics.getSeries': ['name'],
};

export interface Positional {
  field: string;
  /** Has a flag too, so it can be left out. */
  optional: boolean;
}

export function positionalsOf(name: string, declaration: Verb): Positional[] {
  const inPath = pathFields(declaration.path).filter(
    (field) => field !== 'workspace' || name.startsWith('workspaces.'),
  );
  const mayBeMissing = (field: string) =>
    isVersion(inPath, field) || (field === 'workspace' && name !== 'workspaces.delete');
  const required = inPath.map((field) => ({ field, optional: mayBeMissing(field) }));
  return [...required, ...(alsoPositional[name] ?? []).map((field) => ({ field, optional: true }))];
}

/** In `<name> [version]` the version may be left out (the latest) or stand behind a colon. */
function isVersion(inPath: string[], field: string): boolean {
  return field === 'version' && inPath.includes('name');
}

/** `diabetes:3` as name and version; a name alone means its latest version. */
export function splitReference(reference: string, version?: string): { name: string; version: string } {
  if (version !== undefined) return { name: reference, version };
  const colon = reference.lastIndexOf(':');
  if (colon <= 0 || colon === reference.length - 1) return { name: reference, version: 'latest' };
  return { name: reference.slice(0, colon), version: reference.slice(colon + 1) };
}
