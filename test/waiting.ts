// Waiting for what must come, with a deadline so generous that only a fault reaches it. Stories assert order and outcome, never time.
import { setTimeout as pause } from 'node:timers/promises';
import type { Client } from '@stellwerk/client/client.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { endStates, type RunState } from '@stellwerk/contract/run-state.ts';

const deadlineMs = 120_000;

/** Looks until it is there. What is thrown meanwhile counts as not there yet. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const giveUpAt = Date.now() + deadlineMs;
  for (let last: unknown; ; await pause(50)) {
    try {
      last = undefined;
      const found = await look();
      if (found !== undefined && found !== false) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > giveUpAt) throw new Error(`It did not come in ${deadlineMs / 1_000} s: ${what}.`, { cause: last });
  }
}

export interface RunPlace {
  client: Client;
  workspace: string;
  run: string;
}

export async function untilState({ client, workspace, run }: RunPlace, ...states: RunState[]): Promise<Run> {
  return until(`the run ${run} is ${states.join(' or ')}`, async () => {
    const record = await client.runs.get({ workspace, run });
    // Another end than the one waited for is for good: whoever waits sees it.
    return (states.includes(record.state) || endStates.includes(record.state)) && record;
  });
}

export function untilEnded(place: RunPlace): Promise<Run> {
  return untilState(place, ...endStates);
}
