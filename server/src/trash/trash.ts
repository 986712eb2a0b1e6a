// The trash: what was deleted lies in it for a set time, hidden but whole, and can be restored; then it is gone for good.
// Invariants: names, ids and version numbers of what lies here are not given again; what has begun to go cannot be restored; going is
// done in pieces, each a short transaction, and goes on after a restart.

import type { Activity } from '@stellwerk/contract/activity.ts';
import type { TrashEntry, TrashKind } from '@stellwerk/contract/trash.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import type { Caller } from '../access/access.ts';
import { nameOf } from '../access/access.ts';
import { type Beginning, beginActivity } from '../activity/activities.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';
import { type Disposal, entryOf, type Noting, noEntry, type TrashRow, trashTransactions } from './store.ts';

export { comeBack, countIn, type Disposal, discard, dropEntry, entryRow, type TrashRow } from './store.ts';

/** What a room does with its things in the trash. */
export interface Discarded {
  restore(entry: TrashRow): Promise<void>;
  /** Removes all of it, piece by piece; the row of the entry stays. Can be repeated. */
  remove(entry: TrashRow, signal: AbortSignal): Promise<void>;
}

export interface TrashNeeds {
  db: Database;
  now(): number;
  newId(): string;
  /** How long things lie here. */
  keepMs: number;
  /** Of higher rooms. */
  kinds: { [K in TrashKind]: Discarded };
}

/** What the activity `trash.empty` was asked. */
export interface Emptying {
  entry?: number | undefined;
  dryRun: boolean;
  /** Only what is due. */
  due?: boolean;
}

const beginnings = transactions('trash-activity', {
  begin: (tx: Transaction, beginning: Beginning): Activity => beginActivity(tx, beginning),
});

export class Trash {
  readonly #needs: TrashNeeds;

  constructor(needs: TrashNeeds) {
    this.#needs = needs;
  }

  async list(input: CheckedOf<'trash', 'list'>): Promise<OutputOf<'trash', 'list'>> {
    const before = keyOf(input, 1);
    let query = sql
      .selectFrom('trash')
      .selectAll()
      .where('workspace', '=', input.workspace)
      .where('state', '<>', 'going');
    query = query.orderBy('id', 'desc').limit(rowsFor(input));
    if (input.kind) query = query.where('kind', '=', input.kind);
    if (before) query = query.where('id', '<', Number(before[0]));
    return pageFrom(await this.#needs.db.all(query), input, entryOf, (row) => [row.id]);
  }

  async restore({ workspace, entry }: CheckedOf<'trash', 'restore'>): Promise<Record<string, never>> {
    const row = await this.#row(workspace, entry);
    await this.#needs.kinds[row.kind].restore(row);
    return {};
  }

  async empty({ workspace, ...input }: CheckedOf<'trash', 'empty'>, caller: Caller): Promise<Activity> {
    if (input.entry !== undefined) await this.#row(workspace, input.entry);
    return this.#begin(workspace, input, nameOf(caller));
  }

  #begin(workspace: string, input: Emptying, createdBy: string): Promise<Activity> {
    const now = this.#needs.now();
    return this.#needs.db.transact(beginnings.begin, {
      id: this.#needs.newId(),
      workspace,
      kind: 'trash.empty',
      subject: input.entry === undefined ? 'trash' : `trash/${input.entry}`,
      message: 'Waiting to begin.',
      input,
      createdBy,
      at: new Date(now).toISOString(),
      dueAt: now,
    });
  }

  async #row(workspace: string, entry: number): Promise<TrashRow> {
    const row = await this.#needs.db.first(sql.selectFrom('trash').selectAll().where('id', '=', entry));
    if (row?.workspace === workspace && row.state !== 'going') return row;
    throw noEntry(workspace, entry);
  }

  // What other rooms ask.

  /** How something is deleted now. */
  disposal(by: string): Disposal {
    const now = this.#needs.now();
    return { by, at: new Date(now).toISOString(), dueAt: now + this.#needs.keepMs };
  }

  /** After something was discarded: where nothing is kept, it goes at once. */
  async discarded(row: TrashRow): Promise<TrashEntry> {
    if (this.#needs.keepMs === 0) await this.#begin(row.workspace, { entry: row.id, dryRun: false }, row.deleted_by);
    return entryOf(row);
  }

  /** After many were. */
  async discardedMany(workspace: string, by: string): Promise<void> {
    if (this.#needs.keepMs === 0) await this.#begin(workspace, { dryRun: false, due: true }, by);
  }

  /** A thousand at a time, in the order in which they came. */
  async entries(
    {
      workspace,
      entry,
      due,
    }: { workspace?: string | undefined; entry?: number | undefined; due?: boolean | undefined },
    after = 0,
  ): Promise<TrashRow[]> {
    let query = sql.selectFrom('trash').selectAll().where('id', '>', after).orderBy('id').limit(1_000);
    if (due) query = query.where('due_at', '<=', this.#needs.now());
    if (workspace !== undefined) query = query.where('workspace', '=', workspace);
    if (entry !== undefined) query = query.where('id', '=', entry);
    return this.#needs.db.all(query);
  }

  /** Removes an entry for good. False if it was restored before it began. */
  async remove(row: TrashRow, signal: AbortSignal, noting?: Noting): Promise<boolean> {
    const { db, kinds } = this.#needs;
    if (!(await db.transact(trashTransactions.begin, { id: row.id }))) return false;
    await kinds[row.kind].remove(row, signal);
    await db.transact(trashTransactions.end, { id: row.id, noting });
    return true;
  }
}
