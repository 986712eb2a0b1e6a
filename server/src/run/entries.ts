// What a journal says about the run itself, and its files, applied inside a transaction.
import { checkPath } from '@stellwerk/contract/paths.ts';
import type { RunFile } from '@stellwerk/contract/run.ts';
import { addReferences, type Bearer, notHere, removeReferences, sizeHeld } from '../blob/blobs.ts';
import { sql, type Transaction } from '../db/transactions.ts';
import type { OtherEntry } from '../telemetry/journals.ts';
import { setParameter, setProperty, setTag } from './labels.ts';
import { type Moment, moveRun } from './moves.ts';
import { isEnd } from './states.ts';
import { type RunRow, runOf, setRun } from './store.ts';

/** A file of a content that whoever says so has brought: all of a workspace are a user's, a run's token has its own. */
export function putFile(
  tx: Transaction,
  row: RunRow,
  { path, digest, at, by }: { path: string; digest: string; at: string; by: Bearer },
): RunFile {
  checkPath(path);
  const size = sizeHeld(tx, row.workspace, digest, by);
  if (size === undefined) throw notHere(row.workspace, digest);
  const owner = { kind: 'run', id: row.id };
  const before = tx.first(
    sql.selectFrom('run_file').select('digest').where('run_key', '=', row.key).where('path', '=', path),
  );
  addReferences(tx, row.workspace, owner, [digest]);
  tx.statement(
    `INSERT INTO run_file (run_key, path, digest, size_bytes, at) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (run_key, path) DO UPDATE SET digest = excluded.digest, size_bytes = excluded.size_bytes, at = excluded.at`,
  ).run(row.key, path, digest, size, at);
  if (before && before.digest !== digest) {
    const used = tx.first(
      sql
        .selectFrom('run_file')
        .select('path')
        .where('run_key', '=', row.key)
        .where('digest', '=', before.digest)
        .limit(1),
    );
    if (!used) removeReferences(tx, row.workspace, owner, [before.digest]);
  }
  return { path, sizeBytes: size, digest, at };
}

export function applyEntry(tx: Transaction, key: number, entry: OtherEntry, moment: Moment, by: Bearer): void {
  const row = runOf(tx, key);
  switch (entry[0]) {
    case 'tag':
      setTag(tx, key, entry[1], entry[2]);
      break;
    case 'prop':
      setProperty(tx, key, entry[1], entry[2]);
      break;
    case 'param':
      setParameter(tx, key, entry[1], entry[2]);
      break;
    case 'name':
      setRun(tx, key, { display_name: entry[1] });
      break;
    case 'file':
      putFile(tx, row, { path: entry[1], digest: entry[2], at: moment.at, by });
      break;
    case 'state':
      // How a submitted script went is its runner's to say; what has ended stays so.
      if (row.interactive === 1 && !isEnd(row.state)) {
        const endedAt = entry[3] === undefined ? undefined : new Date(entry[3] * 1_000).toISOString();
        moveRun(tx, row, { to: entry[1], reason: entry[2] ?? undefined, endedAt }, moment);
      }
  }
}
