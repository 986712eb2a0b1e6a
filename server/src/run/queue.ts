// Places on a machine: so many runs at a time, first in, first out. Whoever frees a place wakes the next that waits.
import type { Transaction } from '../db/transactions.ts';
import { type Moment, moveRun, wakeNext } from './moves.ts';
import { type RunRow, runOf, setPrivate, setRun } from './store.ts';

/** Takes a place for a waiting run, and begins its attempt. False if none is free, or it is another's turn. */
export function takePlace(tx: Transaction, key: number, places: number, moment: Moment): boolean {
  const row = runOf(tx, key);
  if (row.state !== 'queued' || row.queue === null) return false;
  const { taken } = tx
    .statement<{ taken: number }>('SELECT count(*) AS taken FROM run WHERE queue = ? AND placed = 1')
    .get(row.queue)!;
  if (taken >= places) return false;
  if (position(tx, row) > places - taken) {
    wakeNext(tx, row.queue, moment);
    return false;
  }
  setRun(tx, key, { placed: 1, attempt: row.attempt + 1 });
  moveRun(tx, { ...row, placed: 1, attempt: row.attempt + 1 }, { to: 'preparing' }, moment);
  return true;
}

/** After nothing of the job is left on the machine. */
export function freePlace(tx: Transaction, key: number, moment: Moment): void {
  const row = runOf(tx, key);
  setPrivate(tx, key, { handle: null });
  if (row.placed === 0) return;
  setRun(tx, key, { placed: 0 });
  if (row.queue !== null) wakeNext(tx, row.queue, moment);
}

/** 1 is the next to start. */
export function position(tx: Transaction, row: Pick<RunRow, 'queue' | 'key'>): number {
  const before = tx
    .statement<{ count: number }>("SELECT count(*) AS count FROM run WHERE queue = ? AND state = 'queued' AND key < ?")
    .get(row.queue, row.key)!;
  return before.count + 1;
}
