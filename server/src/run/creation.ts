// Makes the row of a new run and all that belongs to it, inside a transaction; or finds the run that was made of the same before.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { type Beginning, beginActivity } from '../activity/activities.ts';
import { sql, type Transaction } from '../db/transactions.ts';
import { countRun } from '../experiment/experiments.ts';
import { useSnapshot } from '../snapshot/snapshots.ts';
import { setParameter, setProperty, setTag } from './labels.ts';
import type { Moment } from './moves.ts';
import type { ParameterValue } from './parameters.ts';
import { recordsOf } from './records.ts';
import { isEnd } from './states.ts';
import { inTrash, type RunRow, runNamed, runOf, setRun } from './store.ts';

export interface NewRun {
  run: Pick<RunRow, 'workspace' | 'id' | 'experiment' | 'user' | 'content_hash'> & Partial<RunRow>;
  parent?: string | undefined;
  parameters: Record<string, ParameterValue>;
  tags: Record<string, string>;
  properties: Record<string, string>;
  /** Of the script; null where there is none. */
  arguments: readonly (string | number | boolean)[] | null;
  /** Sealed. */
  secrets: string | null;
  /** JSON: EnvironmentPlan, where it is that of another run. */
  plan?: string | undefined;
  activity: Beginning | null;
  moment: Moment;
}

export function insertRun(tx: Transaction, made: NewRun): { record: Run; key: number; created: boolean } {
  const { run } = made;
  const found = runNamed(tx, run.workspace, run.id);
  if (found) {
    if (found.trash !== null) throw inTrash(found, 'conflict');
    if (found.content_hash !== run.content_hash)
      throw new ServiceError(
        'conflict',
        'run.id-taken',
        `There is a run ${JSON.stringify(run.id)} in the workspace ${run.workspace} already, and it is another.`,
      );
    return { record: recordsOf(tx, [found])[0]!, key: found.key, created: false };
  }
  const key = insertRow(tx, made);
  if (made.activity) beginActivity(tx, made.activity);
  for (const [name, value] of Object.entries(made.parameters)) setParameter(tx, key, name, value);
  for (const [name, value] of Object.entries(made.tags)) setTag(tx, key, name, value);
  for (const [name, value] of Object.entries(made.properties)) setProperty(tx, key, name, value);
  if (made.arguments)
    tx.run(sql.insertInto('run_arguments').values({ run_key: key, text: argumentsText(made.arguments) }));
  tx.run(
    sql.insertInto('run_private').values({
      run_key: key,
      secrets: made.secrets,
      handle: null,
      plan: made.plan ?? null,
      token_until: 0,
      cancel_at: null,
      cancel_asked: 0,
    }),
  );
  return { record: recordsOf(tx, [runOf(tx, key)])[0]!, key, created: true };
}

function insertRow(tx: Transaction, { run, parent: parentId, moment }: NewRun): number {
  const above = parentId === undefined ? undefined : runNamed(tx, run.workspace, parentId);
  const parent = above?.trash === null ? above : undefined;
  if (parentId !== undefined && !parent)
    throw new ServiceError(
      'not-found',
      'run.parent-invalid',
      `There is no run ${JSON.stringify(parentId)} in the workspace ${run.workspace} that could be the parent.`,
    );
  const made = { workspace: run.workspace, name: run.experiment, at: moment.at, by: run.user };
  const row: Omit<RunRow, 'key'> = {
    display_name: null,
    description: null,
    state: 'queued',
    state_before: null,
    reason: null,
    attempt: 0,
    priority: 1,
    asked: null,
    interactive: 0,
    target: null,
    queue: null,
    configuration: null,
    snapshot: null,
    environment: null,
    git: null,
    host: null,
    started_at: null,
    ended_at: null,
    duration_ms: null,
    exit_code: null,
    last_lines: null,
    activity: null,
    leased: 0,
    resubmitted_from: null,
    differences: null,
    job: null,
    usage: null,
    ...run,
    number: countRun(tx, made, parent !== undefined),
    parent_key: parent?.key ?? null,
    parent: parent?.id ?? null,
    root_key: parent?.root_key ?? 0,
    root: parent?.root ?? run.id,
    child_count: 0,
    placed: 0,
    gpus: null,
    cancel_requested: 0,
    created_at: moment.at,
    attendant_key: 0,
    archived_at: null,
    trash: null,
  };
  if (row.snapshot !== null) useSnapshot(tx, row.workspace, row.snapshot);
  tx.run(sql.insertInto('run').values(row as RunRow));
  const { key } = runNamed(tx, run.workspace, run.id)!;
  const attendant = row.interactive === 1 && parent ? runOf(tx, parent.attendant_key) : undefined;
  const isSpokenFor = attendant !== undefined && attendant.leased === 1 && !isEnd(attendant.state);
  const own = isSpokenFor ? { attendant_key: attendant.key } : { attendant_key: key, leased: row.interactive };
  setRun(tx, key, { ...own, ...(parent ? {} : { root_key: key }) });
  if (parent) setRun(tx, parent.key, { child_count: parent.child_count + 1 });
  return key;
}

/** As queries compare them: joined by blanks; of very long ones the beginning. */
function argumentsText(given: readonly (string | number | boolean)[]): string {
  return given.join(' ').slice(0, 32_000).toWellFormed();
}
