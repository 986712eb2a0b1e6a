// Every legal move of a web service, and which activity may begin in which state.
import type { WebService } from '@stellwerk/contract/web-service.ts';

export type WebServiceState = WebService['state'];

const moves: Record<WebServiceState, readonly WebServiceState[]> = {
  deploying: ['healthy', 'failed', 'deleting'],
  healthy: ['updating', 'unhealthy', 'deleting'],
  unhealthy: ['healthy', 'updating', 'deleting'],
  updating: ['healthy', 'unhealthy', 'failed', 'deleting'],
  failed: ['updating', 'deleting'],
  deleting: [],
};

export function mayMove(from: WebServiceState, to: WebServiceState): boolean {
  return moves[from].includes(to);
}

/** While an activity is changing a web service, no other one may begin, except its deletion. */
export function isSettled(state: WebServiceState): boolean {
  return state === 'healthy' || state === 'unhealthy' || state === 'failed';
}
