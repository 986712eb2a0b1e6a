// Runs go into the trash with all that descends from them, come back from it, or are removed for good; inside transactions.
// Invariants: nothing that has not ended is deleted; what lies in the trash has no token; removing is done in pieces that are small,
// whatever a run has, and its row is the last to go.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { revokeRunTokens } from '../access/access.ts';
import { readings, type Transaction, transactions } from '../db/transactions.ts';
import { experimentNamed, recountRuns, requireExperiment, setExperiment } from '../experiment/experiments.ts';
import type { LogName } from '../telemetry/logs.ts';
import { comeBack, countIn, type Disposal, discard, dropEntry, entryRow, type TrashRow } from '../trash/trash.ts';
import { requireRun } from './lifecycle.ts';
import { keysBelow, type RunRow, runNamed, runOf, setRun } from './store.ts';

interface Of {
  workspace: string;
  run: string;
}

export type RunPlace = Pick<RunRow, 'created_at' | 'key'>;

const asList = 'SELECT value FROM json_each(?)';

export const runTrash = transactions('run-trash', {
  /** Deleting again what lies in an entry of its own gives that entry. */
  discard(tx: Transaction, { workspace, run, disposal }: Of & { disposal: Disposal }): TrashRow {
    const trash = runNamed(tx, workspace, run)?.trash;
    const before = trash == null ? undefined : entryRow(tx, trash);
    if (before?.kind === 'run' && before.name === run && before.state === 'kept') return before;
    return discardRun(tx, requireRun(tx, workspace, run), disposal);
  },

  /** The experiment is gone for everybody at once; its runs follow in pieces (`gather`). */
  discardExperiment(
    tx: Transaction,
    { workspace, experiment, disposal }: { workspace: string; experiment: string; disposal: Disposal },
  ): TrashRow {
    const before = experimentNamed(tx, workspace, experiment)?.trash;
    const kept = before == null ? undefined : entryRow(tx, before);
    if (kept?.state === 'kept') return kept; // deleted again
    const row = requireExperiment(tx, workspace, experiment);
    for (const open of openRuns(tx, workspace)) if (isBelow(tx, open, experiment)) throw notEnded(open, experiment);
    const entry = discard(tx, { workspace, kind: 'experiment', name: row.name, runs: 0 }, disposal);
    setExperiment(tx, row.key, { trash: entry.id });
    return entry;
  },

  /** Moves some more runs of a deleted experiment into its entry, those that were deleted before it too. Returns where to go on. */
  gather(
    tx: Transaction,
    { entry, after, limit }: { entry: TrashRow; after: RunPlace; limit: number },
  ): RunPlace | undefined {
    const rows = tx
      .statement<RunRow>(
        'SELECT * FROM run WHERE workspace = ? AND experiment = ? AND (created_at, key) > (?, ?) ORDER BY created_at, key LIMIT ?',
      )
      .all(entry.workspace, entry.name, after.created_at, after.key, limit);
    const keys = new Set(
      rows.filter(({ trash }) => trash !== entry.id).flatMap(({ key }) => [key, ...keysBelow(tx, key)]),
    );
    countIn(tx, entry.id, hide(tx, [...keys], entry));
    return rows.length < limit ? undefined : rows.at(-1);
  },

  restore(tx: Transaction, { entry }: { entry: TrashRow }): void {
    comeBack(tx, entry);
    const top = runsIn(tx, entry.id, 1)[0];
    if (top) refuseBlocked(tx, top);
  },

  /** An experiment comes back first, and its runs follow in pieces (`release`). */
  restoreExperiment(tx: Transaction, { entry }: { entry: TrashRow }): void {
    comeBack(tx, entry);
    const back = tx.statement('UPDATE experiment SET trash = NULL WHERE workspace = ? AND name = ? AND trash = ?');
    back.run(entry.workspace, entry.name, entry.id);
  },

  /** Brings some more runs of an entry back, parents first. The entry ends with the last of them. */
  release(tx: Transaction, { entry, limit }: { entry: TrashRow; limit: number }): boolean {
    const rows = runsIn(tx, entry.id, limit);
    for (const { key } of rows) setRun(tx, key, { trash: null });
    recount(tx, entry.workspace, rows, 1);
    if (rows.length === limit) return true;
    dropEntry(tx, entry.id);
    return false;
  },

  /** Removes some of what these runs have, and the runs that have nothing more. Returns their keys. */
  remove(tx: Transaction, { keys, rows: budget }: { keys: number[]; rows: number }): number[] {
    const gone: number[] = [];
    let left = budget;
    for (const key of keys) {
      const row = runOf(tx, key);
      if (row) left -= removeParts(tx, row, left);
      if (left <= 0) break;
      if (row) removeRow(tx, row);
      gone.push(key);
    }
    return gone;
  },

  removeExperiment(tx: Transaction, { entry }: { entry: TrashRow }): void {
    tx.statement('DELETE FROM experiment WHERE workspace = ? AND name = ? AND trash = ?').run(
      entry.workspace,
      entry.name,
      entry.id,
    );
  },

  archive(tx: Transaction, { workspace, run, at }: Of & { at: string | null }): RunRow {
    const row = requireRun(tx, workspace, run);
    archiveKeys(tx, [row.key, ...keysBelow(tx, row.key)], at);
    return runOf(tx, row.key);
  },
});

export const trashedRuns = readings('run-trash', {
  /** Those that nothing of is left on a machine, children before their parents. */
  removable(tx: Transaction, { entry, limit }: { entry: number; limit: number }): { keys: number[]; logs: LogName[] } {
    const rows = tx
      .statement<RunRow>('SELECT * FROM run WHERE trash = ? AND placed = 0 ORDER BY key DESC LIMIT ?')
      .all(entry, limit);
    const names = tx.statement<{ name: string }>('SELECT name FROM run_log WHERE run_key = ?');
    const logs = rows.flatMap(({ key, workspace, id: run }) =>
      names.all(key).map(({ name }): LogName => ({ workspace, run, name })),
    );
    return { keys: rows.map(({ key }) => key), logs };
  },

  keys(tx: Transaction, { entry }: { entry: number }): number[] {
    const rows = tx.statement<{ key: number }>('SELECT key FROM run WHERE trash = ? ORDER BY key').all(entry);
    return rows.map(({ key }) => key);
  },

  any(tx: Transaction, { entry }: { entry: number }): boolean {
    return runsIn(tx, entry, 1).length > 0;
  },
});

export function discardRun(tx: Transaction, row: RunRow, disposal: Disposal): TrashRow {
  const keys = [row.key, ...keysBelow(tx, row.key)];
  const open = tx
    .statement<RunRow>(`SELECT * FROM run WHERE key IN (${asList}) AND ended_at IS NULL LIMIT 1`)
    .get(JSON.stringify(keys));
  if (open) throw notEnded(open, row.id);
  const entry = discard(tx, { workspace: row.workspace, kind: 'run', name: row.id, runs: keys.length }, disposal);
  hide(tx, keys, entry);
  return entry;
}

export function archiveKeys(tx: Transaction, keys: readonly number[], at: string | null): number {
  return tx
    .statement(`UPDATE run SET archived_at = ? WHERE key IN (${asList}) AND (archived_at IS NULL) = ?`)
    .run(at, JSON.stringify(keys), at !== null);
}

/** Takes runs into an entry, out of another one too. Returns how many. */
function hide(tx: Transaction, keys: readonly number[], entry: TrashRow): number {
  const list = JSON.stringify(keys);
  const rows = tx
    .statement<RunRow>(`SELECT * FROM run WHERE key IN (${asList}) AND trash IS NOT ?`)
    .all(list, entry.id);
  tx.statement(`UPDATE run SET trash = ? WHERE key IN (${asList})`).run(entry.id, list);
  const shown = rows.filter(({ trash }) => trash === null);
  recount(tx, entry.workspace, shown, -1);
  revokeRunTokens(
    tx,
    entry.workspace,
    shown.map(({ id }) => id),
  );
  for (const other of new Set(rows.map(({ trash }) => trash)))
    if (other !== null && runsIn(tx, other, 1).length === 0 && entryRow(tx, other)?.kind === 'run')
      dropEntry(tx, other);
  return rows.length;
}

const runsIn = (tx: Transaction, entry: number, limit: number) =>
  tx.statement<RunRow>('SELECT * FROM run WHERE trash = ? ORDER BY key LIMIT ?').all(entry, limit);

/** What experiments and parents count is what does not lie in the trash. */
function recount(tx: Transaction, workspace: string, rows: readonly RunRow[], each: 1 | -1): void {
  for (const [experiment, some] of Map.groupBy(rows, (row) => row.experiment))
    recountRuns(tx, workspace, experiment, each * some.length);
  const children = tx.statement('UPDATE run SET child_count = child_count + ? WHERE key = ?');
  for (const [parent, some] of Map.groupBy(rows, (row) => row.parent_key))
    if (parent !== null) children.run(each * some.length, parent);
}

const openRuns = (tx: Transaction, workspace: string) =>
  tx.statement<RunRow>('SELECT * FROM run WHERE workspace = ? AND ended_at IS NULL').all(workspace);

function isBelow(tx: Transaction, run: RunRow, experiment: string): boolean {
  for (let at: RunRow | undefined = run; at; at = at.parent_key === null ? undefined : runOf(tx, at.parent_key))
    if (at.experiment === experiment) return true;
  return false;
}

function notEnded(open: RunRow, what: string): ServiceError {
  const isSame = open.id === what;
  return new ServiceError(
    'failed-precondition',
    'run.not-ended',
    `${isSame ? 'The run' : `${JSON.stringify(what)} cannot be deleted: the run`} ${open.id} has not ended: it is ${open.state}.`,
    { run: open.id },
  );
}

/** What it belongs to must be there. */
function refuseBlocked(tx: Transaction, row: RunRow): void {
  const parent = row.parent_key === null ? undefined : runOf(tx, row.parent_key);
  const experiment = tx
    .statement<{ trash: number | null }>('SELECT trash FROM experiment WHERE workspace = ? AND name = ?')
    .get(row.workspace, row.experiment);
  const blocked =
    parent?.trash != null
      ? `its parent ${parent.id} lies in the trash, in the entry ${parent.trash}`
      : experiment?.trash != null
        ? `its experiment ${row.experiment} lies in the trash, in the entry ${experiment.trash}`
        : undefined;
  if (blocked)
    throw new ServiceError('failed-precondition', 'trash.blocked', `The run ${row.id} cannot be restored: ${blocked}.`);
}

/** At most so many rows of what can be many. Returns how many; fewer than the budget when nothing is left. */
function removeParts(tx: Transaction, { key, workspace, id }: RunRow, budget: number): number {
  let removed = 0;
  const some = (text: string, ...of: unknown[]) => {
    if (removed < budget) removed += tx.statement(text).run(...of, budget - removed);
  };
  for (const table of ['point_chunk', 'row_chunk'])
    some(
      `DELETE FROM ${table} WHERE (metric, number) IN
         (SELECT c.metric, c.number FROM metric m JOIN ${table} c ON c.metric = m.id WHERE m.run_key = ? LIMIT ?)`,
      key,
    );
  some('DELETE FROM metric WHERE id IN (SELECT id FROM metric WHERE run_key = ? LIMIT ?)', key);
  for (const table of ['run_file', 'run_parameter', 'run_log', 'journal']) {
    const name = table === 'run_file' ? 'path' : 'name';
    some(
      `DELETE FROM ${table} WHERE run_key = ?1 AND ${name} IN (SELECT ${name} FROM ${table} WHERE run_key = ?1 LIMIT ?2)`,
      key,
    );
  }
  some(
    `DELETE FROM blob_ref WHERE workspace = ?1 AND owner_kind = 'run' AND owner_id = ?2 AND digest IN
       (SELECT digest FROM blob_ref WHERE workspace = ?1 AND owner_kind = 'run' AND owner_id = ?2 LIMIT ?3)`,
    workspace,
    id,
  );
  return removed;
}

/** Its activity goes with it; what the audit log says of it stays. */
function removeRow(tx: Transaction, { key, activity }: RunRow): void {
  tx.statement('DELETE FROM activity_event WHERE activity = ?').run(activity);
  tx.statement('DELETE FROM activity WHERE id = ?').run(activity);
  tx.statement('DELETE FROM run WHERE key = ?').run(key);
}
