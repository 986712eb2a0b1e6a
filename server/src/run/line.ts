// Who waits for a place on a machine, and in what order.
import type { QueuedRun } from '@stellwerk/contract/compute.ts';
import type { ReadResources } from '@stellwerk/contract/resources.ts';
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

const priorities = ['low', 'normal', 'high'] as const;
const shownAtMost = 1_000;

/** Those that have a place, and those in line, as somebody in a workspace sees them: of other workspaces' runs, that they are there. */
export function inQueue(tx: Transaction, queue: string, workspace: string): QueuedRun[] {
  const placed = tx
    .statement<{ key: number }>('SELECT key FROM run WHERE queue = ? AND placed = 1 ORDER BY key LIMIT ?')
    .all(queue, shownAtMost);
  const waiting = line(tx, queue).slice(0, shownAtMost);
  return [
    ...placed.map(({ key }) => seen(tx, key, workspace)),
    ...waiting.map(({ key }, at) => ({ position: at + 1, ...seen(tx, key, workspace) })),
  ];
}

function seen(tx: Transaction, key: number, workspace: string): QueuedRun {
  const row = tx.statement<RunRow>('SELECT * FROM run WHERE key = ?').get(key)!;
  const plain = { state: row.state, priority: priorities[row.priority]!, createdAt: row.created_at };
  if (row.workspace.toLowerCase() !== workspace.toLowerCase()) return plain;
  return {
    ...plain,
    run: row.id,
    user: row.user,
    ...(row.reason !== null && { reason: row.reason }),
    ...(row.asked !== null && { resources: JSON.parse(row.asked) as ReadResources }),
  };
}
