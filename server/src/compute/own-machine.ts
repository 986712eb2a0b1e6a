// Targets that are the server's own machine: whoever runs something there may do with it what they like, so only administrators say that they are.
import type { ComputeSettings } from '@stellwerk/contract/compute-settings.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { type Caller, isAdministrator } from '../access/access.ts';

export function isOwnMachine(settings: ComputeSettings): boolean {
  return settings.kind === 'host' || (settings.kind === 'docker' && settings.address.startsWith('unix:'));
}

export function onlyAdministrators(caller: Caller, what: string): void {
  if (!isAdministrator(caller))
    throw new ServiceError(
      'permission-denied',
      'access.administrator-needed',
      `Only an administrator of the server may ${what} its host.`,
    );
}
