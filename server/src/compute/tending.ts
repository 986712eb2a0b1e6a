// Looks after targets that were made here: every so often each is brought back to how it was wanted, such as how many of its nodes are on.
// Invariants: one round at a time; what cannot be reached now is looked after in the next round.
import { setTimeout as pause } from 'node:timers/promises';
import type { ComputeProvisioning } from '@stellwerk/contract/compute-kinds/provisioning.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import type { ComputeKinds } from './kinds.ts';
import { targetOf } from './records.ts';
import type { ComputeRow } from './store.ts';

export interface TendingNeeds {
  db: Database;
  kinds: ComputeKinds;
  /** Something failed that nobody waits for. */
  incident(error: unknown): void;
}

const everyMs = 10_000;

export class Tending {
  readonly #needs: TendingNeeds;
  readonly #over = new AbortController();
  #going: Promise<void> = Promise.resolve();

  constructor(needs: TendingNeeds) {
    this.#needs = needs;
  }

  start(): void {
    this.#going = this.#go();
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await this.#going;
  }

  async #go(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      await this.round().catch(this.#needs.incident);
      await pause(everyMs, undefined, { signal, ref: false }).catch(() => {}); // it is over
    }
  }

  async round(): Promise<void> {
    const made = sql.selectFrom('compute').selectAll().where('provisioning', 'is not', null);
    const rows = await this.#needs.db.all(made.where('state', '=', 'usable'));
    await Promise.all(rows.map((row) => this.#tend(row)));
  }

  async #tend(row: ComputeRow): Promise<void> {
    const lifetime = this.#needs.kinds[row.kind].lifetime;
    if (!lifetime?.tend) return;
    const { workspace, base } = row;
    const on = await this.#needs.db.first(
      sql.selectFrom('compute').selectAll().where('workspace', '=', workspace).where('name', '=', base!),
    );
    if (!on) return;
    const wanted = JSON.parse(row.provisioning!) as ComputeProvisioning;
    await lifetime.tend(row, wanted as never, targetOf(on)).catch((error: unknown) => {
      if (!(error instanceof TargetError)) throw error;
    });
  }
}
