// What compute targets know of the runs that use them: handed down, since runs are above.
import type { QueuedRun } from '@stellwerk/contract/compute.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { ComputeRow } from './store.ts';

export interface Load {
  queued: number;
  running: number;
}

export interface OpenRuns {
  /** By the name of their target. */
  load(workspace: string): Promise<Map<string, Load>>;
  /** Those that have not ended, or of which something is still there. */
  on(workspace: string, target: string): Promise<{ id: string; ended: boolean }[]>;
  /** Those in a queue, as somebody in the workspace sees them. */
  inQueue(queue: string, workspace: string): Promise<QueuedRun[]>;
  cancel(workspace: string, run: string, by: string): Promise<unknown>;
}

/** A target with open runs is not taken away, unless that is wanted although it cancels them. */
export async function refuseUsed(
  runs: OpenRuns,
  { workspace, name }: Pick<ComputeRow, 'workspace' | 'name'>,
): Promise<void> {
  const open = (await runs.on(workspace, name)).filter(({ ended }) => !ended).map(({ id }) => id);
  if (open.length === 0) return;
  const few = open.slice(0, 20).join(', ') + (open.length > 20 ? ', …' : '');
  const count = open.length === 1 ? 'a run is' : `${open.length} runs are`;
  throw new ServiceError(
    'failed-precondition',
    'compute.in-use',
    `On the compute target ${name} ${count} open, which would be canceled: ${few}.`,
    { runs: open.slice(0, 1_000) },
  );
}
