// Every legal move of an activity.
import type { ActivityState } from '@stellwerk/contract/activity.ts';

const moves: Record<ActivityState, readonly ActivityState[]> = {
  queued: ['running', 'succeeded', 'failed', 'canceled'],
  running: ['running', 'succeeded', 'failed', 'canceled', 'queued'],
  succeeded: [],
  failed: [],
  canceled: [],
};

export function mayMove(from: ActivityState, to: ActivityState): boolean {
  return moves[from].includes(to);
}
