// What compute targets are told of the runs that use them.
import type { QueuedRun } from '@stellwerk/contract/compute.ts';
import type { Load, OpenRuns } from '../compute/computes.ts';
import type { Database } from '../db/database.ts';
import { readings, type Transaction } from '../db/transactions.ts';
import { runTransactions } from './lifecycle.ts';
import { inQueue } from './line.ts';
import type { Moment } from './moves.ts';

const useReadings = readings('run-use', {
  on(tx: Transaction, { workspace, target }: { workspace: string; target: string }): { id: string; ended: boolean }[] {
    const rows = tx
      .statement<{ id: string; ended: number }>(
        `SELECT id, 0 AS ended FROM run WHERE workspace = ?1 AND target = ?2 COLLATE NOCASE AND ended_at IS NULL
         UNION ALL SELECT id, 1 FROM run WHERE placed = 1 AND ended_at IS NOT NULL AND workspace = ?1 AND target = ?2 COLLATE NOCASE`,
      )
      .all(workspace, target);
    return rows.map(({ id, ended }) => ({ id, ended: ended === 1 }));
  },

  inQueue(tx: Transaction, { queue, workspace }: { queue: string; workspace: string }): QueuedRun[] {
    return inQueue(tx, queue, workspace);
  },

  load(tx: Transaction, { workspace }: { workspace: string }): [string, { queued: number; running: number }][] {
    const rows = tx
      .statement<{ target: string; queued: number; running: number }>(
        `SELECT target, sum(state = 'queued') AS queued, sum(state IN ('preparing', 'running', 'finalizing') OR placed = 1) AS running FROM run
         WHERE workspace = ? AND ended_at IS NULL AND target IS NOT NULL GROUP BY target`,
      )
      .all(workspace);
    return rows.map(({ target, queued, running }) => [target, { queued, running }]);
  },
});

export class TargetUse implements OpenRuns {
  readonly #db: Database;
  readonly #moment: () => Moment;

  constructor(needs: { db: Database; moment(): Moment }) {
    this.#db = needs.db;
    this.#moment = needs.moment;
  }

  async load(workspace: string): Promise<Map<string, Load>> {
    return new Map(await this.#db.transact(useReadings.load, { workspace }));
  }

  on(workspace: string, target: string): Promise<{ id: string; ended: boolean }[]> {
    return this.#db.transact(useReadings.on, { workspace, target });
  }

  inQueue(queue: string, workspace: string): Promise<QueuedRun[]> {
    return this.#db.transact(useReadings.inQueue, { queue, workspace });
  }

  cancel(workspace: string, run: string, by: string): Promise<unknown> {
    return this.#db.transact(runTransactions.cancel, { workspace, run, by, moment: this.#moment() });
  }
}
