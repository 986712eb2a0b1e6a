// The transactions of a run's life: each is committed whole, together with its activity, its children and its experiment.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath } from '@stellwerk/contract/paths.ts';
import type { Run, RunFile, RunState } from '@stellwerk/contract/run.ts';
import type { Caller } from '../access/access.ts';
import { type Beginning, beginActivity, changeActivity } from '../activity/activities.ts';
import { addReferences, notHere, removeReferences, sizeHeld } from '../blob/blobs.ts';
import { sql, type Transaction, transactions } from '../db/transactions.ts';
import { countRun } from '../experiment/experiments.ts';
import { appendJournal, type JournalPart, type OtherEntry } from '../telemetry/journals.ts';
import { setParameter, setProperty, setTag } from './labels.ts';
import { cancelRun, type Moment, type Move, moveRun } from './moves.ts';
import type { ParameterValue } from './parameters.ts';
import { freePlace, takePlace } from './queue.ts';
import { recordsOf } from './records.ts';
import { attendedStates, isEnd } from './states.ts';
import { keysBelow, type PrivateRow, privateOf, type RunRow, runNamed, runOf, setPrivate, setRun } from './store.ts';

export interface NewRun {
  run: Pick<RunRow, 'workspace' | 'id' | 'experiment' | 'user' | 'content_hash'> & Partial<RunRow>;
  parent?: string | undefined;
  parameters: Record<string, ParameterValue>;
  tags: Record<string, string>;
  properties: Record<string, string>;
  /** Sealed. */
  secrets: string | null;
  activity: Beginning | null;
  moment: Moment;
}

export interface Report {
  attempt: number;
  state?: Exclude<RunState, 'queued' | 'lost'> | undefined;
  reason?: string | undefined;
  progress?: string | undefined;
  exitCode?: number | undefined;
  lastLines?: string[] | undefined;
  host?: string | undefined;
  python?: string | undefined;
  notices?: string[] | undefined;
  startedAt?: string | undefined;
  endedAt?: string | undefined;
}

export interface Heard {
  key: number;
  state: RunState;
  /** Whether its lease goes on. */
  leased: boolean;
  cancelRequested: boolean;
  attempt: number;
  user: string;
  tokenUntil: number;
}

type Of<T> = T & { workspace: string; run: string };

export function requireRun(tx: Transaction, workspace: string, id: string): RunRow {
  const row = runNamed(tx, workspace, id);
  if (!row)
    throw new ServiceError(
      'not-found',
      'run.not-found',
      `There is no run ${JSON.stringify(id)} in the workspace ${workspace}.`,
    );
  return row;
}

/** An attempt that a newer one has superseded writes nothing more: neither with its number nor with its token. */
export function fence(tx: Transaction, row: RunRow, attempt: number | undefined, caller: Caller): void {
  const own = caller.kind === 'run' ? runNamed(tx, caller.workspace, caller.run) : undefined;
  const newest =
    own && caller.kind === 'run' && caller.attempt < own.attempt
      ? own
      : attempt !== undefined && attempt < row.attempt
        ? row
        : undefined;
  if (newest)
    throw new ServiceError(
      'conflict',
      'run.attempt-superseded',
      `Attempt ${newest.attempt} of the run ${newest.id} has begun; what an earlier one reports is refused.`,
      { attempt: newest.attempt },
    );
}

export const runTransactions = transactions('run', {
  /** The record of a new run, or of the one that was made of the same before. */
  insert(tx: Transaction, made: NewRun): { record: Run; key: number; created: boolean } {
    const { run } = made;
    const found = runNamed(tx, run.workspace, run.id);
    if (found) {
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
    tx.run(
      sql.insertInto('run_private').values({
        run_key: key,
        secrets: made.secrets,
        handle: null,
        plan: null,
        token_until: 0,
        cancel_at: null,
        cancel_asked: 0,
      }),
    );
    tx.notify(`runs.${run.workspace}`);
    return { record: recordsOf(tx, [runOf(tx, key)])[0]!, key, created: true };
  },

  report(tx: Transaction, given: Of<{ report: Report; caller: Caller; moment: Moment }>): Heard {
    const { report, moment } = given;
    let row = requireRun(tx, given.workspace, given.run);
    fence(tx, row, report.attempt, given.caller);
    if (row.attempt === 0)
      throw new ServiceError(
        'conflict',
        'run.move-refused',
        `The run ${row.id} has not been taken up; nobody can report for it yet.`,
      );
    if (isEnd(row.state)) return heard(tx, row);
    const environment = environmentAfter(row, report);
    const set: Partial<RunRow> = {
      ...(report.host !== undefined && report.host !== row.host && { host: report.host }),
      ...(environment !== row.environment && { environment }),
      // Whoever reports by itself is no longer spoken for by its parent's runner.
      ...((row.attendant_key !== row.key || row.leased === 0) && { attendant_key: row.key, leased: 1 }),
    };
    if (Object.keys(set).length > 0) {
      setRun(tx, row.key, set);
      row = { ...row, ...set };
    }
    if (row.state === 'lost' && (report.state === undefined || report.state === row.state_before))
      row = moveRun(tx, row, { to: row.state_before ?? 'running' }, moment);
    if (report.state !== undefined)
      row = moveRun(tx, row, { ...report, to: report.state, reason: report.reason ?? reasonKept(row, report) }, moment);
    if (report.progress !== undefined && row.activity !== null && !isEnd(row.state))
      changeActivity(tx, row.activity, { message: report.progress, at: moment.at });
    return heard(tx, row);
  },

  cancel(tx: Transaction, { workspace, run, by, moment }: Of<{ by: string; moment: Moment }>): Run {
    const row = requireRun(tx, workspace, run);
    cancelRun(tx, row, by, keysBelow(tx, row.key), moment);
    return recordsOf(tx, [runOf(tx, row.key)])[0]!;
  },

  update(
    tx: Transaction,
    given: Of<{
      displayName?: string | undefined;
      description?: string | undefined;
      tags?: Record<string, string | null> | undefined;
      properties?: Record<string, string> | undefined;
      caller: Caller;
    }>,
  ): Run {
    const row = requireRun(tx, given.workspace, given.run);
    fence(tx, row, undefined, given.caller);
    const set: Partial<RunRow> = {
      ...(given.displayName !== undefined && { display_name: given.displayName }),
      ...(given.description !== undefined && { description: given.description }),
    };
    if (Object.keys(set).length > 0) setRun(tx, row.key, set);
    for (const [name, value] of Object.entries(given.tags ?? {})) setTag(tx, row.key, name, value);
    for (const [name, value] of Object.entries(given.properties ?? {})) setProperty(tx, row.key, name, value);
    return recordsOf(tx, [runOf(tx, row.key)])[0]!;
  },

  putFile(
    tx: Transaction,
    given: Of<{ path: string; digest: string; attempt?: number | undefined; caller: Caller; at: string }>,
  ): RunFile {
    const row = requireRun(tx, given.workspace, given.run);
    fence(tx, row, given.attempt, given.caller);
    return putFile(tx, row, given.path, given.digest, given.at);
  },

  appendJournal(
    tx: Transaction,
    given: Of<Omit<JournalPart, 'runKey'> & { attempt?: number | undefined; caller: Caller; moment: Moment }>,
  ): number {
    const row = requireRun(tx, given.workspace, given.run);
    fence(tx, row, given.attempt, given.caller);
    return appendJournal(tx, { ...given, runKey: row.key }, (inside, entry) =>
      applyEntry(inside, row.key, entry, given.moment),
    );
  },

  /** Its runner was not heard of for longer than its lease. Nothing happens if it was, meanwhile. */
  lose(tx: Transaction, { key, reason, moment }: { key: number; reason: string; moment: Moment }): boolean {
    const row = runOf(tx, key);
    if (!row || !(attendedStates as readonly RunState[]).includes(row.state)) return false;
    if (row.cancel_requested === 1)
      moveRun(tx, row, { to: 'canceled', reason: `${row.reason ?? 'Canceled.'} ${reason}` }, moment);
    else moveRun(tx, row, { to: 'lost', reason }, moment);
    return true;
  },

  /** Takes up a run on its submitter's machine: a new attempt begins, and earlier ones are fenced off. */
  takeUp(tx: Transaction, { workspace, run, user, moment }: Of<{ user: string; moment: Moment }>): RunRow {
    const row = requireRun(tx, workspace, run);
    if (row.configuration === null || row.queue !== null)
      throw new ServiceError(
        'failed-precondition',
        'run.move-refused',
        `The run ${row.id} is not one that is taken up by its submitter.`,
      );
    if (row.user.toLowerCase() !== user.toLowerCase())
      throw new ServiceError(
        'permission-denied',
        'compute.not-yours',
        `The run ${row.id} runs on the local computer of ${row.user}, who submitted it.`,
      );
    if (isEnd(row.state))
      throw new ServiceError(
        'failed-precondition',
        'run.move-refused',
        `The run ${row.id} has ended: it ${row.state}.`,
      );
    const set = { attempt: row.attempt + 1, leased: 1 };
    setRun(tx, row.key, set);
    const taken = { ...row, ...set };
    // A second attempt starts over, whatever the first had come to.
    if (taken.state === 'running' || taken.state === 'finalizing') moveRun(tx, taken, { to: 'lost' }, moment);
    moveRun(tx, runOf(tx, row.key), { to: 'preparing' }, moment);
    return runOf(tx, row.key);
  },

  takePlace(tx: Transaction, { key, places, moment }: { key: number; places: number; moment: Moment }): boolean {
    return takePlace(tx, key, places, moment);
  },

  freePlace(tx: Transaction, { key, moment }: { key: number; moment: Moment }): void {
    freePlace(tx, key, moment);
  },

  move(tx: Transaction, { key, move, moment }: { key: number; move: Move; moment: Moment }): void {
    const row = runOf(tx, key);
    if (isEnd(row.state)) return;
    // Who canceled it stands there already.
    const reason = move.reason ?? (row.cancel_requested === 1 ? (row.reason ?? undefined) : undefined);
    moveRun(tx, row, { ...move, reason }, moment);
  },

  keep(tx: Transaction, { key, row, kept }: { key: number; row?: Partial<RunRow>; kept?: Partial<PrivateRow> }): void {
    if (row) setRun(tx, key, row);
    if (kept) setPrivate(tx, key, kept);
  },
});

function insertRow(tx: Transaction, { run, parent: parentId, moment }: NewRun): number {
  const parent = parentId === undefined ? undefined : runNamed(tx, run.workspace, parentId);
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
    ...run,
    number: countRun(tx, made),
    parent_key: parent?.key ?? null,
    parent: parent?.id ?? null,
    root_key: parent?.root_key ?? 0,
    root: parent?.root ?? run.id,
    child_count: 0,
    placed: 0,
    cancel_requested: 0,
    created_at: moment.at,
    attendant_key: 0,
  };
  tx.run(sql.insertInto('run').values(row as RunRow));
  const { key } = runNamed(tx, run.workspace, run.id)!;
  const attendant = row.interactive === 1 && parent ? runOf(tx, parent.attendant_key) : undefined;
  const isSpokenFor = attendant !== undefined && attendant.leased === 1 && !isEnd(attendant.state);
  const own = isSpokenFor ? { attendant_key: attendant.key } : { attendant_key: key, leased: row.interactive };
  setRun(tx, key, { ...own, ...(parent ? {} : { root_key: key }) });
  if (parent) setRun(tx, parent.key, { child_count: parent.child_count + 1 });
  return key;
}

function heard(tx: Transaction, row: RunRow): Heard {
  return {
    key: row.key,
    state: row.state,
    leased: !isEnd(row.state),
    cancelRequested: row.cancel_requested === 1 || row.state === 'canceled',
    attempt: row.attempt,
    user: row.user,
    tokenUntil: privateOf(tx, row.key).token_until,
  };
}

/** Who canceled it stands there until the runner says how it went. */
function reasonKept(row: RunRow, report: Report): string | undefined {
  return row.cancel_requested === 1 && report.state === 'canceled' ? (row.reason ?? undefined) : undefined;
}

function environmentAfter(row: RunRow, { python, notices }: Report): string | null {
  if (python === undefined && notices === undefined) return row.environment;
  const before = row.environment === null ? {} : (JSON.parse(row.environment) as NonNullable<Run['environment']>);
  const all = notices && [...new Set([...(before.notices ?? []), ...notices])];
  return JSON.stringify({ ...before, ...(python !== undefined && { python }), ...(all && { notices: all }) });
}

function putFile(tx: Transaction, row: RunRow, path: string, digest: string, at: string): RunFile {
  checkPath(path);
  const size = sizeHeld(tx, row.workspace, digest);
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

function applyEntry(tx: Transaction, key: number, entry: OtherEntry, moment: Moment): void {
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
      putFile(tx, row, entry[1], entry[2], moment.at);
      break;
    case 'state':
      // How a submitted script went is its runner's to say; what has ended stays so.
      if (row.interactive === 1 && !isEnd(row.state)) moveRun(tx, row, { to: entry[1], reason: entry[2] }, moment);
  }
}
