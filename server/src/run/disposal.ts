// Runs and experiments are archived, deleted into the trash, restored and removed: the pieces of `trash.ts`, one after another, so that
// nobody who writes waits for long.
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { TrashEntry } from '@stellwerk/contract/trash.ts';
import type { Database } from '../db/database.ts';
import type { LogName } from '../telemetry/logs.ts';
import type { Discarded, Trash, TrashRow } from '../trash/trash.ts';
import { type RunPlace, runTrash, trashedRuns } from './trash.ts';

export interface DisposalNeeds {
  db: Database;
  trash: Pick<Trash, 'disposal' | 'discarded' | 'entries'>;
  /** Removes logs, which are files; safe to repeat. */
  removeLogs(all: readonly LogName[]): Promise<void>;
}

/** A piece takes some ten milliseconds. */
const runsAtOnce = 100;
const removedAtOnce = 20;
const rowsAtOnce = 300;

export class RunDisposal {
  readonly #needs: DisposalNeeds;

  constructor(needs: DisposalNeeds) {
    this.#needs = needs;
  }

  async discardRun(workspace: string, run: string, by: string): Promise<TrashEntry> {
    const { db, trash } = this.#needs;
    const entry = await db.transact(runTrash.discard, { workspace, run, disposal: trash.disposal(by) });
    return trash.discarded(entry);
  }

  async discardExperiment(workspace: string, experiment: string, by: string): Promise<TrashEntry> {
    const { db, trash } = this.#needs;
    const entry = await db.transact(runTrash.discardExperiment, {
      workspace,
      experiment,
      disposal: trash.disposal(by),
    });
    await this.#gather(entry);
    const [whole] = await trash.entries({ workspace, entry: entry.id });
    return trash.discarded(whole ?? entry);
  }

  async #gather(entry: TrashRow): Promise<void> {
    let after: RunPlace | undefined = { created_at: '', key: 0 };
    while (after) after = await this.#needs.db.transact(runTrash.gather, { entry, after, limit: runsAtOnce });
  }

  /** For the trash. */
  get runs(): Discarded {
    return {
      restore: async (entry) => {
        await this.#needs.db.transact(runTrash.restore, { entry });
        await this.#release(entry);
      },
      remove: (entry, signal) => this.#remove(entry, signal),
    };
  }

  get experiments(): Discarded {
    return {
      restore: async (entry) => {
        await this.#needs.db.transact(runTrash.restoreExperiment, { entry });
        await this.#release(entry);
      },
      remove: async (entry, signal) => {
        await this.#gather(entry); // a restart may have come between
        await this.#remove(entry, signal);
        await this.#needs.db.transact(runTrash.removeExperiment, { entry });
      },
    };
  }

  async #release(entry: TrashRow): Promise<void> {
    while (await this.#needs.db.transact(runTrash.release, { entry, limit: runsAtOnce }));
  }

  async #remove(entry: TrashRow, signal: AbortSignal): Promise<void> {
    const { db, removeLogs } = this.#needs;
    for (;;) {
      signal.throwIfAborted();
      const { keys, logs } = await db.transact(trashedRuns.removable, { entry: entry.id, limit: removedAtOnce });
      if (keys.length === 0) break;
      await removeLogs(logs);
      await db.transact(runTrash.remove, { keys, rows: rowsAtOnce });
    }
    // Its runner has just left: what is left of the job is being removed from its machine.
    if (await db.transact(trashedRuns.any, { entry: entry.id }))
      throw new TargetError('later', 'A run of it is still being removed from its machine.');
  }
}
