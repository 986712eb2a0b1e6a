// Archives or deletes what a query selects, as an activity: first, if asked, only what it comes to. The query is read beside who writes,
// and what it selects is changed in pieces; what a restart interrupts goes on, since what was changed is not selected again.
import type { Activity } from '@stellwerk/contract/activity.ts';
import type { SelectionReport } from '@stellwerk/contract/run-selection.ts';
import { type Beginning, beginActivity, changeActivity, type Outcome, type Work } from '../activity/activities.ts';
import { readings, type Transaction, transactions } from '../db/transactions.ts';
import type { Disposal, Trash } from '../trash/trash.ts';
import { Measure, type MeasureNeeds } from './measure.ts';
import type { Moment } from './moves.ts';
import type { SortValue } from './query/order.ts';
import { type RunQuery, selectRuns } from './query/query.ts';
import { keysBelow, type RunRow, runOf } from './store.ts';
import { archiveKeys, discardRun } from './trash.ts';

type Kind = 'runs.archive' | 'runs.delete';

export interface SelectionNeeds extends MeasureNeeds {
  moment(): Moment;
  newId(): string;
  trash: Pick<Trash, 'disposal' | 'discardedMany'>;
}

interface Selection {
  query: RunQuery;
  dryRun: boolean;
}

interface Selected {
  key: number;
  /** With what descends from it. */
  keys: number[];
  isOpen: boolean;
}

interface Piece {
  keys: number[];
  activity: string;
  fence: number;
  done: { runs: number; skipped: number };
  moment: Moment;
}

const runsAtOnce = 50;

function withBelow(tx: Transaction, key: number): Selected | undefined {
  const row: RunRow | undefined = runOf(tx, key);
  if (row?.trash !== null) return undefined; // with a run above it
  const keys = [key, ...keysBelow(tx, key)];
  const open = tx
    .statement('SELECT 1 FROM run WHERE key IN (SELECT value FROM json_each(?)) AND ended_at IS NULL LIMIT 1')
    .get(JSON.stringify(keys));
  return { key, keys, isOpen: open !== undefined };
}

const selectionReadings = readings('run-selection', {
  keys(tx: Transaction, { query, last }: { query: RunQuery; last?: SortValue[] | undefined }) {
    return selectRuns(tx, query, last, runsAtOnce);
  },

  withBelow(tx: Transaction, { keys }: { keys: number[] }): Selected[] {
    return keys.map((key) => withBelow(tx, key)).filter((one) => one !== undefined);
  },
});

const selectionTransactions = transactions('run-selection', {
  begin: (tx: Transaction, beginning: Beginning): Activity => beginActivity(tx, beginning),

  archive(tx: Transaction, { keys, done, ...piece }: Piece): Piece['done'] | undefined {
    let { runs } = done;
    for (const key of keys) {
      const one = withBelow(tx, key);
      if (one) runs += archiveKeys(tx, one.keys, piece.moment.at);
    }
    return noted(tx, { ...done, runs }, piece, `Archived ${runs} runs.`);
  },

  delete(
    tx: Transaction,
    { keys, done, disposal, ...piece }: Piece & { disposal: Disposal },
  ): Piece['done'] | undefined {
    let { runs, skipped } = done;
    for (const key of keys) {
      const one = withBelow(tx, key);
      if (one?.isOpen) skipped++;
      else if (one) runs += discardRun(tx, runOf(tx, key), disposal).runs!;
    }
    return noted(tx, { runs, skipped }, piece, `Put ${runs} runs into the trash.`);
  },
});

/** With the deed, so that no restart comes between. Undone with it if another worker has taken over. */
function noted(
  tx: Transaction,
  done: Piece['done'],
  { activity, fence, moment }: Pick<Piece, 'activity' | 'fence' | 'moment'>,
  message: string,
): Piece['done'] {
  if (changeActivity(tx, activity, { state: 'running', report: done, message, at: moment.at }, fence)) return done;
  throw new Error('The activity is held by another worker, or has ended.');
}

export class RunSelections {
  readonly #needs: SelectionNeeds;

  constructor(needs: SelectionNeeds) {
    this.#needs = needs;
  }

  async begin(kind: Kind, input: Omit<RunQuery, 'now'> & { dryRun: boolean }, by: string): Promise<Activity> {
    const { dryRun, ...selection } = input;
    const { db, moment, newId } = this.#needs;
    const { now, at } = moment();
    const query = { ...selection, now };
    await db.transact(selectionReadings.keys, { query }); // a mistake is told now
    return db.transact(selectionTransactions.begin, {
      id: newId(),
      workspace: query.workspace,
      kind,
      subject: query.experiment ?? 'runs',
      message: 'Waiting to begin.',
      input: { query, dryRun } satisfies Selection,
      createdBy: by,
      at,
      dueAt: now,
    });
  }

  async act(work: Work): Promise<Outcome> {
    const { query, dryRun } = work.input as Selection;
    const kind = work.activity.kind as Kind;
    return dryRun ? this.#measure(kind, query, work) : this.#change(kind, query, work);
  }

  /** What a selection of runs comes to; of models too, where they are added. */
  measure(): Measure {
    return new Measure(this.#needs);
  }

  async *#parts(query: RunQuery, { signal }: Work): AsyncGenerator<number[]> {
    let last: SortValue[] | undefined;
    do {
      signal.throwIfAborted();
      const part = await this.#needs.db.transact(selectionReadings.keys, { query, last });
      if (part.keys.length > 0) yield part.keys;
      last = part.last;
    } while (last);
  }

  async #measure(kind: Kind, query: RunQuery, work: Work): Promise<Outcome> {
    const measure = this.measure();
    const seen = new Set<number>();
    let skipped = 0;
    for await (const keys of this.#parts(query, work)) {
      const selected = await this.#needs.db.transact(selectionReadings.withBelow, { keys });
      const wanted = selected.filter(({ isOpen }) => kind === 'runs.archive' || !isOpen);
      skipped += selected.length - wanted.length;
      const fresh = [...new Set(wanted.flatMap((one) => one.keys))].filter((key) => !seen.has(key));
      for (const key of fresh) seen.add(key);
      await measure.addRuns(fresh);
    }
    const report = await measure.report(skipped);
    await work.report(report);
    return { state: 'succeeded', message: `It would be ${told(report)}.` };
  }

  async #change(kind: Kind, query: RunQuery, work: Work): Promise<Outcome> {
    const { db, moment, trash } = this.#needs;
    const { id: activity, report, workspace, createdBy } = work.activity;
    let done = { runs: Number(report?.runs ?? 0), skipped: 0 };
    for await (const keys of this.#parts(query, work)) {
      const piece = { keys, activity, fence: work.fence, done, moment: moment() };
      const after =
        kind === 'runs.archive'
          ? await db.transact(selectionTransactions.archive, piece)
          : await db.transact(selectionTransactions.delete, { ...piece, disposal: trash.disposal(createdBy) });
      done = after ?? done;
    }
    if (kind === 'runs.delete') await trash.discardedMany(workspace, createdBy);
    await work.report(done);
    const rest =
      done.skipped > 0 ? ` ${done.skipped} have not ended, or have descendants that have not: they stay.` : '';
    return {
      state: 'succeeded',
      message: `${kind === 'runs.archive' ? 'Archived' : 'Deleted'} ${done.runs} runs.${rest}`,
    };
  }
}

function told({ runs, files = 0, freedBytes = 0 }: SelectionReport): string {
  return `${runs} runs with ${files} files; ${freedBytes} bytes that nothing else refers to`;
}
