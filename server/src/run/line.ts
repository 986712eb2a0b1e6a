// Who waits for a place on a machine, and in what order.
import type { Transaction } from '../db/transactions.ts';
import type { RunRow } from './store.ts';

/** Those that wait, in their order: a user's next run stands behind as many of others as that user has there already. */
export function line(tx: Transaction, queue: string): Pick<RunRow, 'key' | 'asked'>[] {
  return tx
    .statement<Pick<RunRow, 'key' | 'asked'>>(
      `WITH busy AS (SELECT user, count(*) AS count FROM run WHERE queue = ?1 AND placed = 1 GROUP BY user)
       SELECT key, asked FROM (
         SELECT key, asked, priority, row_number() OVER (PARTITION BY user, priority ORDER BY key) + coalesce(busy.count, 0) AS turn
         FROM run LEFT JOIN busy USING (user) WHERE queue = ?1 AND state = 'queued'
       ) ORDER BY priority DESC, turn, key`,
    )
    .all(queue);
}
