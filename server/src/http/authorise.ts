// May this caller use this verb? Users by their role in the workspace; run tokens by the verb's scope. Decided in two steps: whoever has no
// business with a verb is turned away before anything of the request is read; what a run's token reaches depends on the input.
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

/** `workspace`: of the address. */
export async function admit(
  verb: Verb,
  workspace: string | undefined,
  caller: Caller,
  authenticator: Authenticator,
): Promise<void> {
  if (verb.permission === 'public') return;
  if (caller.kind === 'stranger')
    throw new ServiceError('unauthenticated', 'access.sign-in-needed', 'This needs a sign-in.');
  if (caller.kind === 'user') return authenticator.permit(caller, verb.permission, workspace);
  if (verb.runToken === undefined || workspace !== caller.workspace) throw outOfReach(caller);
}

/** Of a run's token that was admitted. */
export async function authoriseRun(verb: Verb, input: Input, caller: RunCaller, runs: RunReach): Promise<void> {
  if (verb.permission === 'public') return;
  if (!(await reaches(verb, input, caller, runs))) throw outOfReach(caller);
  fence(input, caller);
}

async function reaches(verb: Verb, input: Input, caller: RunCaller, runs: RunReach): Promise<boolean> {
  if (verb.runToken === undefined) return false;
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

function outOfReach(caller: RunCaller): ServiceError {
  return new ServiceError(
    'permission-denied',
    'access.run-token-scope',
    `The token of the run ${caller.run} does not reach this.`,
  );
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
