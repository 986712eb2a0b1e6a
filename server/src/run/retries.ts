// Whether a run is begun again when an attempt of it ended for something that was not its script's own doing.
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { EndCause } from '../compute/computes.ts';
import type { RunRow } from './store.ts';

export function mayTryAgain(
  { configuration, attempt, cancel_requested }: Pick<RunRow, 'configuration' | 'attempt' | 'cancel_requested'>,
  cause: EndCause,
): boolean {
  const { retries } = JSON.parse(configuration!) as RunConfiguration;
  // Those from before there were retries have none.
  const isLeft = retries !== undefined && attempt <= retries.count;
  return isLeft && cancel_requested === 0 && (retries.on as string[]).includes(cause);
}
