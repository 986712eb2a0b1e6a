// The files of a run, and what else is read of it by those who do not show runs.
import type { RunFile } from '@stellwerk/contract/run.ts';
import type { Caller } from '../access/access.ts';
import { readings, sql, type Transaction } from '../db/transactions.ts';
import { fence, requireRun } from './lifecycle.ts';
import { recordsOf } from './records.ts';
import type { Origin } from './resubmission.ts';
import { isEnd } from './states.ts';
import { isWithin, keysBelow, privateOf, type RunFileRow, type RunRow, runNamed } from './store.ts';

interface One {
  workspace: string;
  run: string;
}

export const runReadings = readings('run-read', {
  record(tx: Transaction, { workspace, run }: One) {
    return recordsOf(tx, [requireRun(tx, workspace, run)])[0]!;
  },

  /** With what its environment was made by. */
  origin(tx: Transaction, { workspace, run }: One): Origin {
    const row = requireRun(tx, workspace, run);
    const { plan } = privateOf(tx, row.key);
    return { record: recordsOf(tx, [row])[0]!, ...(plan !== null && { plan: JSON.parse(plan) }) };
  },

  place(tx: Transaction, { workspace, run }: One): { key: number; ended: boolean } {
    const row = requireRun(tx, workspace, run);
    return { key: row.key, ended: isEnd(row.state) };
  },

  fence(
    tx: Transaction,
    { workspace, run, attempt, caller }: One & { attempt?: number | undefined; caller: Caller },
  ): void {
    fence(tx, requireRun(tx, workspace, run), attempt, caller);
  },

  below(tx: Transaction, { workspace, run }: One): { key: number; id: string }[] {
    const keys = JSON.stringify(keysBelow(tx, requireRun(tx, workspace, run).key));
    return tx
      .statement<{ key: number; id: string }>(
        'SELECT key, id FROM run WHERE key IN (SELECT value FROM json_each(?)) AND trash IS NULL ORDER BY key',
      )
      .all(keys);
  },

  within(tx: Transaction, { workspace, ancestor, run }: One & { ancestor: string }): boolean {
    const [above, below] = [runNamed(tx, workspace, ancestor), runNamed(tx, workspace, run)];
    return above !== undefined && below?.trash === null && isWithin(tx, above.key, below);
  },

  row(tx: Transaction, { workspace, run }: One): RunRow | undefined {
    const row = runNamed(tx, workspace, run);
    return row?.trash === null ? row : undefined;
  },

  /** A file, or all below a folder, or everything; in the order of their paths. */
  files(
    tx: Transaction,
    {
      workspace,
      run,
      prefix,
      after,
      limit,
    }: One & { prefix?: string | undefined; after?: string | undefined; limit?: number | undefined },
  ): RunFileRow[] {
    const { key } = requireRun(tx, workspace, run);
    let query = sql.selectFrom('run_file').selectAll().where('run_key', '=', key).orderBy('path');
    const folder = prefix?.replace(/\/+$/, '');
    if (folder) {
      // `/` is followed by `0`: everything below the folder, by the index and without patterns.
      query = query.where((e) =>
        e.or([e('path', '=', folder), e.and([e('path', '>=', `${folder}/`), e('path', '<', `${folder}0`)])]),
      );
    }
    if (after !== undefined) query = query.where('path', '>', after);
    return tx.all(limit === undefined ? query : query.limit(limit));
  },
});

export function fileOf(row: RunFileRow): RunFile {
  return { path: row.path, sizeBytes: row.size_bytes, digest: row.digest, at: row.at };
}
