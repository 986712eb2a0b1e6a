// The transactions of a run's life: each is committed whole, together with its activity, its children and its experiment.
import { createHash } from 'node:crypto';
import { withCondaPackages } from '@stellwerk/contract/conda-lock.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { JobFacts, Usage } from '@stellwerk/contract/job.ts';
import type { Run, RunFile } from '@stellwerk/contract/run.ts';
import type { RunState } from '@stellwerk/contract/run-state.ts';
import { bearerOf, type Caller } from '../access/access.ts';
import { changeActivity } from '../activity/activities.ts';
import { type Transaction, transactions } from '../db/transactions.ts';
import { appendJournal, type JournalPart } from '../telemetry/journals.ts';
import { insertRun, type NewRun } from './creation.ts';
import { applyEntry, putFile } from './entries.ts';
import { setProperty, setTag } from './labels.ts';
import { cancelRun, type Moment, type Move, moveRun } from './moves.ts';
import { freePlace, type Room, standAgain, takePlace } from './queue.ts';
import { recordsOf } from './records.ts';
import { differencesOnceRunning } from './resubmission.ts';
import { mayTryAgain } from './retries.ts';
import { attendedStates, isEnd } from './states.ts';
import {
  inTrash,
  keysBelow,
  type PrivateRow,
  privateOf,
  type RunRow,
  runNamed,
  runOf,
  setPrivate,
  setRun,
} from './store.ts';

export interface Report {
  attempt: number;
  state?: Exclude<RunState, 'queued' | 'lost'> | undefined;
  reason?: string | undefined;
  progress?: string | undefined;
  exitCode?: number | undefined;
  cause?: 'time-limit' | 'out-of-memory' | undefined;
  usage?: Usage | undefined;
  lastLines?: string[] | undefined;
  host?: string | undefined;
  python?: string | undefined;
  notices?: string[] | undefined;
  condaPackages?: string[] | undefined;
  job?: JobFacts | undefined;
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
  if (row.trash !== null) throw inTrash(row);
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
    return insertRun(tx, made);
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
    if (isEnd(row.state) || privateOf(tx, row.key).ended_for !== null) return heard(tx, row);
    const environment = environmentAfter(row, report);
    const set: Partial<RunRow> = {
      ...(report.host !== undefined && report.host !== row.host && { host: report.host }),
      ...(environment !== row.environment && { environment }),
      ...learned(row, report.job, report.usage),
      ...differing(tx, row, report),
      // Whoever reports by itself is no longer spoken for by its parent's runner.
      ...((row.attendant_key !== row.key || row.leased === 0) && { attendant_key: row.key, leased: 1 }),
    };
    if (Object.keys(set).length > 0) {
      setRun(tx, row.key, set);
      row = { ...row, ...set };
    }
    if (row.state === 'lost' && (report.state === undefined || report.state === row.state_before))
      row = moveRun(tx, row, { to: row.state_before ?? 'running' }, moment);
    if (report.state !== undefined && endsForAnother(row, report)) {
      // Not heard of any more, until another attempt has begun: that is for whoever looks after its job.
      setPrivate(tx, row.key, { ended_for: report.cause! });
      row = moveRun(tx, row, { ...report, to: 'lost' }, moment);
    } else if (report.state !== undefined) row = moveRun(tx, row, { ...report, to: report.state }, moment);
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
    return putFile(tx, row, { ...given, by: bearerOf(given.caller) });
  },

  appendJournal(
    tx: Transaction,
    given: Of<Omit<JournalPart, 'runKey'> & { attempt?: number | undefined; caller: Caller; moment: Moment }>,
  ): number {
    const row = requireRun(tx, given.workspace, given.run);
    fence(tx, row, given.attempt, given.caller);
    return appendJournal(tx, { ...given, runKey: row.key }, (inside, entry) =>
      applyEntry(inside, row.key, entry, given.moment, bearerOf(given.caller)),
    );
  },

  /**
   * Its runner was not heard of for longer than its lease. Nothing happens if it was, meanwhile. `isKnown`: the reason is from who knows,
   * and better than that of before.
   */
  lose(
    tx: Transaction,
    { key, reason, moment, isKnown = false }: { key: number; reason: string; moment: Moment; isKnown?: boolean },
  ): boolean {
    const row = runOf(tx, key);
    if (isKnown && row?.state === 'lost') setRun(tx, key, { reason });
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

  takePlace(tx: Transaction, { key, room, moment }: { key: number; room: Room; moment: Moment }): boolean {
    return takePlace(tx, key, room, moment);
  },

  /** False if it has ended, or came back, meanwhile. */
  standAgain(tx: Transaction, { key, reason, moment }: { key: number; reason: string; moment: Moment }): boolean {
    return standAgain(tx, key, reason, moment);
  },

  freePlace(tx: Transaction, { key, moment }: { key: number; moment: Moment }): void {
    freePlace(tx, key, moment);
  },

  move(tx: Transaction, { key, move, moment }: { key: number; move: Move; moment: Moment }): void {
    const row = runOf(tx, key);
    if (!isEnd(row.state)) moveRun(tx, row, move, moment);
  },

  /** What the target tells of the job; what is known already stays. */
  learn(tx: Transaction, { key, facts, usage }: { key: number; facts?: JobFacts; usage?: Usage }): void {
    const set = learned(runOf(tx, key), facts, usage);
    if (Object.keys(set).length > 0) setRun(tx, key, set);
  },

  keep(tx: Transaction, { key, row, kept }: { key: number; row?: Partial<RunRow>; kept?: Partial<PrivateRow> }): void {
    if (row) setRun(tx, key, row);
    if (kept) setPrivate(tx, key, kept);
  },
});

function endsForAnother(row: RunRow, { state, cause }: Report): boolean {
  return state === 'failed' && cause !== undefined && row.queue !== null && mayTryAgain(row, cause);
}

function learned(row: RunRow, facts?: JobFacts, usage?: Usage): Partial<Pick<RunRow, 'job' | 'usage'>> {
  const changed = (before: string | null, more: object | undefined) => {
    const after = more && JSON.stringify(merged(before === null ? {} : JSON.parse(before), more));
    return after === before ? undefined : after;
  };
  const [job, used] = [changed(row.job, facts), changed(row.usage, usage)];
  return { ...(job !== undefined && { job }), ...(used !== undefined && { usage: used }) };
}

/** What is known of a number from two sides, or by and by, is the greater one. */
function merged(before: Record<string, unknown>, more: object): object {
  const greater = Object.entries(more).map(([name, value]): [string, unknown] => {
    const known = before[name];
    return [name, typeof value === 'number' && typeof known === 'number' ? Math.max(value, known) : value];
  });
  return { ...before, ...Object.fromEntries(greater) };
}

/** What differs from the run that this one does again, as it is seen. */
function differing(tx: Transaction, row: RunRow, { host, python }: Report): Pick<RunRow, 'differences'> | undefined {
  if (row.resubmitted_from === null || (host === undefined && python === undefined)) return undefined;
  const first = runNamed(tx, row.workspace, row.resubmitted_from);
  if (!first) return undefined;
  const environment = JSON.parse(first.environment ?? '{}') as NonNullable<Run['environment']>;
  const known = JSON.parse(row.differences ?? '[]') as string[];
  const found = differencesOnceRunning(known, { host: first.host, python: environment.python }, { host, python });
  return found.length > known.length ? { differences: JSON.stringify(found) } : undefined;
}

function heard(tx: Transaction, row: RunRow): Heard {
  const kept = privateOf(tx, row.key);
  return {
    key: row.key,
    state: row.state,
    leased: !isEnd(row.state) && kept.ended_for === null,
    cancelRequested: row.cancel_requested === 1 || row.state === 'canceled',
    attempt: row.attempt,
    user: row.user,
    tokenUntil: kept.token_until,
  };
}

function environmentAfter(row: RunRow, { python, notices, condaPackages }: Report): string | null {
  if (python === undefined && notices === undefined && condaPackages === undefined) return row.environment;
  const before = row.environment === null ? {} : (JSON.parse(row.environment) as NonNullable<Run['environment']>);
  const all = notices && [...new Set([...(before.notices ?? []), ...notices])];
  const lock = condaPackages && withCondaPackages(before.lock ?? '', condaPackages);
  return JSON.stringify({
    ...before,
    ...(python !== undefined && { python }),
    ...(all && { notices: all }),
    ...(lock !== undefined && { lock, lockHash: createHash('sha256').update(lock).digest('hex') }),
  });
}
