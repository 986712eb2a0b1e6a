// Collections are activities of no workspace; the last ones are kept.
import type { Activity } from '@stellwerk/contract/activity.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import { type ActivityRow, activityOf, beginActivity } from '../activity/activities.ts';
import { readings, type Transaction, transactions } from '../db/transactions.ts';

type Input = CheckedOf<'server', 'collectGarbage'>;

interface Begun {
  activity: Activity;
  input: Input;
}

const kept = 100;
/** Of the server, not of a workspace. */
const nowhere = '';
const all = "FROM activity WHERE workspace = '' AND kind = 'server.collect'";

function last(tx: Transaction): Begun[] {
  const rows = tx.statement<ActivityRow>(`SELECT * ${all} ORDER BY created_at DESC, id DESC LIMIT ?`).all(kept);
  return rows.map((row) => ({ activity: activityOf(row), input: JSON.parse(row.input) as Input }));
}

export const collectionReadings = readings('collection', {
  last: (tx: Transaction): Begun[] => last(tx),

  freePages(tx: Transaction): { pages: number; pageBytes: number } {
    const { freelist_count: pages } = tx.statement<{ freelist_count: number }>('PRAGMA freelist_count').get()!;
    return { pages, pageBytes: tx.statement<{ page_size: number }>('PRAGMA page_size').get()!.page_size };
  },
});

export const collectionTransactions = transactions('collection', {
  /** Or the one that goes on. */
  begin(
    tx: Transaction,
    { id, input, by, now, at }: { id: string; input: Input; by: string; now: number; at: string },
  ): Begun {
    const [before, ...older] = last(tx);
    const open = [before, ...older].find((one) => one && !one.activity.endedAt);
    if (open) return open;
    for (const { activity } of [before, ...older].filter((one) => one !== undefined).slice(kept - 1)) {
      tx.statement('DELETE FROM activity_event WHERE activity = ?').run(activity.id);
      tx.statement('DELETE FROM activity WHERE id = ?').run(activity.id);
    }
    const activity = beginActivity(tx, {
      id,
      workspace: nowhere,
      kind: 'server.collect',
      subject: 'server',
      message: 'Waiting to begin.',
      input,
      createdBy: by,
      at,
      dueAt: now,
    });
    return { activity, input };
  },

  /** Gives pages that rows left free back to the disk. */
  shrink(tx: Transaction, { pages }: { pages: number }): void {
    tx.statement(`PRAGMA incremental_vacuum(${Math.round(pages)})`).all();
  },
});
