import { runState } from '@stellwerk/contract/run-state.ts';
import { expect, test } from 'vitest';
import { isEnd, mayMove } from './states.ts';

test('an end is for good', () => {
  for (const end of ['completed', 'failed', 'canceled'] as const) {
    expect(isEnd(end)).toBe(true);
    expect(runState.options.filter((to) => mayMove(end, to))).toEqual([]);
  }
});

test('a lost run comes back to wherever it was, stands in line for another attempt, or comes to its end', () => {
  expect(runState.options.filter((to) => mayMove('lost', to))).toEqual([
    'queued',
    'preparing',
    'running',
    'finalizing',
    'completed',
    'failed',
    'canceled',
  ]);
});

test('a run goes forward only', () => {
  const order = ['queued', 'preparing', 'running', 'finalizing', 'completed'] as const;
  for (const [at, from] of order.entries())
    for (const to of order.slice(0, at + 1)) expect(mayMove(from, to)).toBe(false);
  expect(mayMove('queued', 'lost')).toBe(false);
});

test('a run can fail and be canceled from every state that is not an end', () => {
  for (const from of runState.options.filter((state) => !isEnd(state))) {
    expect(mayMove(from, 'failed')).toBe(true);
    expect(mayMove(from, 'canceled')).toBe(true);
  }
});
