// Who is still there? Each run's runner is heard of at least once in a lease; a run whose runner is silent for longer is lost, and
// comes back when it is heard of again.
// Invariants: time is counted by this server's own steady clock since it last heard; after a restart every lease begins anew.
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import { runTransactions } from './lifecycle.ts';
import type { Moment } from './moves.ts';
import { attendedStates } from './states.ts';

export interface LeaseNeeds {
  db: Database;
  moment(): Moment;
  /** A clock that never jumps, in ms. */
  steadyMs(): number;
  leaseSeconds: number;
  /** Something failed in the sweep that nobody waits for. */
  incident(error: unknown): void;
}

const sweepEveryMs = 1_000;

export class Leases {
  readonly #needs: LeaseNeeds;
  readonly #heardAt = new Map<number, number>();
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();

  constructor(needs: LeaseNeeds) {
    this.#needs = needs;
  }

  get leaseSeconds(): number {
    return this.#needs.leaseSeconds;
  }

  async start(): Promise<void> {
    const rows = await this.#needs.db.all(
      sql
        .selectFrom('run')
        .select('key')
        .where('leased', '=', 1)
        .where('state', 'in', [...attendedStates]),
    );
    for (const { key } of rows) this.renew(key);
    const every = Math.min(sweepEveryMs, this.#needs.leaseSeconds * 250);
    this.#timer = setInterval(() => {
      this.#sweeping = this.sweep().catch(this.#needs.incident);
    }, every);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#sweeping;
  }

  renew(key: number): void {
    this.#heardAt.set(key, this.#needs.steadyMs());
  }

  end(key: number): void {
    this.#heardAt.delete(key);
  }

  async sweep(): Promise<void> {
    const now = this.#needs.steadyMs();
    const { leaseSeconds, db } = this.#needs;
    for (const [key, heardAt] of this.#heardAt) {
      if (now - heardAt <= leaseSeconds * 1_000) continue;
      const reason = `Nothing was heard from its runner for ${Math.round((now - heardAt) / 100) / 10} seconds.`;
      await db.transact(runTransactions.lose, { key, reason, moment: this.#needs.moment() });
      // Only if it was not heard of while that was written.
      if (this.#heardAt.get(key) === heardAt) this.#heardAt.delete(key);
    }
  }
}
