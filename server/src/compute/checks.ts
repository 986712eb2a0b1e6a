// What can be said of a compute target before anybody looks at it: who may attach it, and what it may be changed to.
import type { ComputeProvisioning } from '@stellwerk/contract/compute-kinds/provisioning.ts';
import type { ComputeSettings } from '@stellwerk/contract/compute-settings.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { type Caller, isAdministrator } from '../access/access.ts';
import type { ComputeRow } from './store.ts';

export function invalid(message: string): ServiceError {
  return new ServiceError('invalid-argument', 'settings.invalid', message);
}

export function onlyAdministrators(caller: Caller, what: string): void {
  if (!isAdministrator(caller))
    throw new ServiceError(
      'permission-denied',
      'access.administrator-needed',
      `Only an administrator of the server may ${what} its host.`,
    );
}

/** What no shape can say. */
export function refuseImpossible(settings: ComputeSettings | ComputeProvisioning): void {
  if ('minNodes' in settings && settings.minNodes > settings.maxNodes)
    throw invalid(`minNodes (${settings.minNodes}) may not be more than maxNodes (${settings.maxNodes}).`);
  for (const [name, value] of Object.entries(settings))
    if (typeof value === 'string' && /^https?:/.test(value) && !URL.canParse(value))
      throw invalid(`${name} is no address that can be reached: ${value}`);
}

export function refuseOtherKind(row: ComputeRow, settings: ComputeSettings): void {
  if (row.provisioning !== null) throw invalid(`The compute target ${row.name} was created here: it is scaled.`);
  if (settings.kind !== row.kind)
    throw invalid(`The compute target ${row.name} is of the kind ${row.kind}, which cannot be changed.`);
}

export function refuseOtherPlace(row: ComputeRow, wanted: ComputeProvisioning): void {
  if (row.provisioning === null)
    throw invalid(`The compute target ${row.name} was attached: its settings are updated.`);
  const before = JSON.parse(row.provisioning) as ComputeProvisioning;
  if (before.kind !== wanted.kind || before.on.toLowerCase() !== wanted.on.toLowerCase())
    throw invalid(
      `The compute target ${row.name} is of the kind ${before.kind} on ${before.on}, which cannot be changed.`,
    );
}

/** Whoever runs something on such a target may do with the server's own machine what they like. */
export function isOwnMachine(settings: ComputeSettings): boolean {
  return settings.kind === 'host' || (settings.kind === 'docker' && settings.address.startsWith('unix:'));
}
