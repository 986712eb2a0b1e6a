// Every legal move of a run. `lost` is left again when the runner is heard of; an end is for good.
import { endStates, type RunState } from '@stellwerk/contract/run-state.ts';

const moves: Record<RunState, readonly RunState[]> = {
  queued: ['preparing', 'running', 'failed', 'canceled'],
  preparing: ['running', 'finalizing', 'completed', 'failed', 'canceled', 'lost'],
  running: ['finalizing', 'completed', 'failed', 'canceled', 'lost'],
  finalizing: ['completed', 'failed', 'canceled', 'lost'],
  lost: ['queued', 'preparing', 'running', 'finalizing', 'completed', 'failed', 'canceled'],
  completed: [],
  failed: [],
  canceled: [],
};

export function mayMove(from: RunState, to: RunState): boolean {
  return moves[from].includes(to);
}

export function isEnd(state: RunState): boolean {
  return endStates.includes(state);
}

/** States in which somebody must be heard of. */
export const attendedStates = ['preparing', 'running', 'finalizing'] as const satisfies readonly RunState[];
