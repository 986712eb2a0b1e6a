// May this caller use this verb on this input? Users by their role; run tokens by the verb's scope.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Verb } from '@stellwerk/contract/verb.ts';
import type { Caller, RunCaller } from '../access/access.ts';
import type { Authenticator } from '../access/authenticator.ts';

/** What must be known of runs to say what a run's token reaches. */
export interface RunReach {
  /** Whether `run` is `ancestor` or a descendant of it. A run that does not exist is within nothing. */
  within(workspace: string, ancestor: string, run: string): Promise<boolean>;
  snapshotOf(workspace: string, run: string): Promise<string | undefined>;
}

type Input = Record<string, unknown>;

export async function authorise(
  verb: Verb,
  input: Input,
  caller: Caller,
  authenticator: Authenticator,
  runs: RunReach,
): Promise<void> {
  if (verb.permission === 'public') return;
  if (caller.kind === 'stranger')
    throw new ServiceError('unauthenticated', 'access.sign-in-needed', 'This needs a sign-in.');
  const workspace = typeof input.workspace === 'string' ? input.workspace : undefined;
  if (caller.kind === 'user') return authenticator.permit(caller, verb.permission, workspace);
  if (!(await runMay(verb, input, caller, runs))) {
    throw new ServiceError(
      'permission-denied',
      'access.run-token-scope',
      `The token of the run ${caller.run} does not reach this.`,
    );
  }
  fence(input, caller);
}

async function runMay(verb: Verb, input: Input, caller: RunCaller, runs: RunReach): Promise<boolean> {
  if (verb.runToken === undefined || input.workspace !== caller.workspace) return false;
  switch (verb.runToken) {
    case 'run':
      return runs.within(caller.workspace, caller.run, String(input.run));
    case 'child':
      return typeof input.parent === 'string' && runs.within(caller.workspace, caller.run, input.parent);
    case 'snapshot':
      return (await runs.snapshotOf(caller.workspace, caller.run)) === input.snapshot;
    case 'upload':
    case 'datastore':
    case 'model':
      return true; // the room decides by what is asked for
  }
}

/** A token belongs to one attempt: what is written with it about its own run is written as that attempt. */
function fence(input: Input, caller: RunCaller): void {
  if (input.run !== caller.run || input.attempt === undefined || input.attempt === caller.attempt) return;
  throw new ServiceError(
    'conflict',
    'run.attempt-superseded',
    `The token is of attempt ${caller.attempt} of the run ${caller.run}, not of attempt ${String(input.attempt)}.`,
  );
}
