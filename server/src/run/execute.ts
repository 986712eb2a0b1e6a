// The activity of a run that has a machine to run on: wait for a place, make the environment, start the job, look after it, and
// remove what it left. How the run goes is what its runner reports; here it is only seen whether the runner is there.
// Invariants: every step can be taken again after a restart; one job per attempt; a place is freed only when nothing of the job is left.
import type { ComputeKind } from '@stellwerk/contract/compute-settings.ts';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { Executor, Outcome, Work } from '../activity/activities.ts';
import type { ComputeDriver, Computes, EndCause, JobHandle, JobState, RunsJobs, Target } from '../compute/computes.ts';
import type { Database } from '../db/database.ts';
import { isDiskFull } from '../db/disk-full.ts';
import { sql } from '../db/transactions.ts';
import type { JobOrders } from './job-orders.ts';
import type { Leases } from './leases.ts';
import { runTransactions } from './lifecycle.ts';
import type { Moment, Move } from './moves.ts';
import type { Room } from './queue.ts';
import { mayTryAgain } from './retries.ts';
import { isEnd } from './states.ts';
import type { PrivateRow, RunRow } from './store.ts';
import { baked, type TrainingImages } from './training-images.ts';

export interface ExecuteNeeds {
  db: Database;
  moment(): Moment;
  /** A clock that never jumps, in ms. */
  steadyMs(): number;
  computes: Pick<Computes, 'require' | 'find'>;
  orders: JobOrders;
  leases: Leases;
  images: TrainingImages;
}

interface Scene {
  row: RunRow;
  kept: PrivateRow;
  driver: ComputeDriver<ComputeKind>;
  jobs: RunsJobs<ComputeKind>;
  target: Target;
  room: Room;
  where: 'here' | 'elsewhere';
}

type Ended = Extract<JobState, { state: 'ended' }>;

/** A run that ended for one of these did not get lost: nobody will come back with more. */
const isFinal: Record<EndCause, boolean> = {
  preempted: false,
  'node-lost': false,
  'time-limit': true,
  'out-of-memory': true,
  canceled: true,
  refused: true,
};

const lookEveryMs = 1_000;
const soonMs = 100;
const laterMs = 5_000;
/** On top of the grace period that the runner gives the script. */
const cancelWithinMs = 30_000;
/** For a runner to deliver and leave after the run has ended. */
const leavesWithinMs = 120_000;
const again = (againInMs: number): Outcome => ({ againInMs });
const over: Outcome = { leave: true };

export function runExecutor(needs: ExecuteNeeds): Executor {
  const execution = new Execution(needs);
  return (work) => execution.step(work);
}

class Execution {
  readonly #needs: ExecuteNeeds;
  /** Since when it waits for something, by its name. */
  readonly #since = new Map<string, number>();

  constructor(needs: ExecuteNeeds) {
    this.#needs = needs;
  }

  async step(work: Work): Promise<Outcome> {
    const { db } = this.#needs;
    const { workspace, subject } = work.activity;
    const row = await db.first(
      sql.selectFrom('run').selectAll().where('workspace', '=', workspace).where('id', '=', subject),
    );
    if (!row || row.queue === null) return over;
    if (isEnd(row.state) && row.placed === 0) return over;
    // Nothing of it is left, and nobody was told yet: the server was killed in between.
    if (row.state === 'lost' && row.placed === 0)
      return { state: 'failed', error: { reason: 'run.lost', message: row.reason ?? 'It is lost.' } };
    try {
      const kept = (await db.first(sql.selectFrom('run_private').selectAll().where('run_key', '=', row.key)))!;
      const { computes } = this.#needs;
      const isStarted = kept.handle !== null || isEnd(row.state);
      const usable = await (isStarted ? computes.find : computes.require).call(computes, workspace, row.target!);
      const { driver, target, capacity, maxConcurrentRuns: places } = usable;
      const room = { places, capacity };
      const where = driver.reach(target) === 'elsewhere' ? 'elsewhere' : 'here';
      return await this.#act({ row, kept, driver, jobs: driver.jobs!, target, room, where }, work);
    } catch (error) {
      return this.#failed(row, error, work);
    }
  }

  async #act(scene: Scene, work: Work): Promise<Outcome> {
    const { row, kept } = scene;
    if (isEnd(row.state)) return this.#tidy(scene);
    if (row.state === 'queued') {
      const { room } = scene;
      const taken = await this.#needs.db.transact(runTransactions.takePlace, {
        key: row.key,
        room,
        moment: this.#needs.moment(),
      });
      if (!taken) return over;
      const placed = await this.#needs.db.first(sql.selectFrom('run').selectAll().where('key', '=', row.key));
      return placed ? this.#act({ ...scene, row: placed }, work) : over;
    }
    if (kept.handle !== null) return this.#look(scene, JSON.parse(kept.handle), work);
    return row.cancel_requested ? this.#end(row, { to: 'canceled' }) : this.#start(scene, work);
  }

  async #start({ row, driver, jobs, target, where }: Scene, work: Work): Promise<Outcome> {
    const { db, orders, leases, images } = this.#needs;
    const watch = { log: work.log, signal: work.signal };
    const { container, environment } = JSON.parse(row.configuration!) as RunConfiguration;
    const imageSignIn = await orders.imageSignIn(row);
    const sought = {
      ...(container?.image !== undefined && { name: container.image }),
      ...(imageSignIn && { signIn: imageSignIn }),
    };
    // What is told need not be on the disk before the work begins.
    const told = work.progress('Making the environment.');
    const base =
      container?.environment === 'in-image' && !environment.userManaged
        ? await images.base(
            { ...sought, python: environment.python, pythonFallback: environment.pythonFallback },
            { log: work.log, signal: work.signal },
          )
        : undefined;
    const platform = base?.target ?? (await driver.platform?.(target, sought));
    const [made] = await Promise.all([orders.make(row, where, { ...watch, target: platform }), told]);
    const { job, image } = await baked(made, base, row, images);
    const order = {
      id: orderId(row),
      job,
      user: row.user,
      ...(imageSignIn && { imageSignIn }),
      ...(image && { image }),
    };
    const starting = jobs.start(target, order, watch);
    const [handle] = await Promise.all([starting, work.progress('Starting the runner.')]);
    await db.transact(runTransactions.keep, {
      key: row.key,
      row: { leased: 1 },
      kept: { handle: JSON.stringify(handle) },
    });
    leases.renew(row.key);
    work.log(`The runner has been started on ${target.name}.`);
    return again(lookEveryMs);
  }

  async #look(scene: Scene, handle: JobHandle, work: Work): Promise<Outcome> {
    const { row, kept, jobs, target } = scene;
    const seen = await this.#seen(scene, handle);
    if (seen.state === 'ended') return this.#abandoned(scene, handle, seen, work);
    if (seen.state === 'waiting') await this.#waits(row, seen, work);
    if (!row.cancel_requested) return again(lookEveryMs);
    if (!kept.cancel_asked) {
      await jobs.cancel(target, handle, 'ask');
      await this.#needs.db.transact(runTransactions.keep, { key: row.key, kept: { cancel_asked: 1 } });
      return again(lookEveryMs);
    }
    const { graceSeconds } = JSON.parse(row.configuration!) as RunConfiguration;
    if (this.#waitedMs(`cancel ${row.key}`) < graceSeconds * 1_000 + cancelWithinMs) return again(lookEveryMs);
    await jobs.cancel(target, handle, 'kill');
    return this.#end(row, {
      to: 'canceled',
      reason: `${row.reason ?? 'Canceled.'} Its runner did not end and was killed.`,
    });
  }

  /** How the job stands; what its target tells of it is kept. */
  async #seen({ row, jobs, target }: Scene, handle: JobHandle): Promise<JobState> {
    const seen = await jobs.look(target, handle);
    const usage = 'usage' in seen ? seen.usage : undefined;
    if (seen.facts || usage)
      await this.#needs.db.transact(runTransactions.learn, {
        key: row.key,
        ...(seen.facts && { facts: seen.facts }),
        ...(usage && { usage }),
      });
    return seen;
  }

  /** In the target's own queue nobody can be heard of: the lease goes on as long as the target says that it waits. */
  async #waits(row: RunRow, { reason, position }: Extract<JobState, { state: 'waiting' }>, work: Work): Promise<void> {
    this.#needs.leases.renew(row.key);
    const message = position === undefined ? reason : `${reason} (position ${position})`;
    if (row.reason === message) return;
    await this.#needs.db.transact(runTransactions.keep, { key: row.key, row: { reason: message } });
    await work.progress(message);
  }

  /** The runner is gone without having said how the run went. What it left is delivered first: that may say it. */
  async #abandoned(scene: Scene, handle: JobHandle, seen: Ended, work: Work): Promise<Outcome> {
    const { row, jobs, target } = scene;
    const { db, leases } = this.#needs;
    const reason =
      seen.reason ?? 'Its runner ended without saying how the run went; it was killed, or its machine restarted.';
    leases.end(row.key);
    await db.transact(runTransactions.lose, {
      key: row.key,
      reason,
      moment: this.#needs.moment(),
      isKnown: seen.reason !== undefined,
    });
    work.log(`${reason} What it left is being delivered.`);
    await jobs.recover(target, handle);
    leases.end(row.key);
    await jobs.cleanUp(target, handle);
    const own = await this.#ownEnd(row);
    if (mayTryAgain(row, own?.cause ?? seen.cause ?? 'node-lost')) {
      const message = `Attempt ${row.attempt} ended: ${own?.reason ?? reason} Another one waits for a place.`;
      const stands = { key: row.key, reason: message, moment: this.#needs.moment() };
      if (await db.transact(runTransactions.standAgain, stands)) {
        work.log(message);
        return again(0);
      }
    }
    await db.transact(runTransactions.freePlace, { key: row.key, moment: this.#needs.moment() });
    const after = await db.first(sql.selectFrom('run').select(['state', 'reason']).where('key', '=', row.key));
    if (after && isEnd(after.state)) return over;
    if (seen.cause !== undefined && isFinal[seen.cause])
      return this.#end({ ...row, placed: 0 }, { to: seen.cause === 'canceled' ? 'canceled' : 'failed', reason });
    await db.transact(runTransactions.lose, { key: row.key, reason, moment: this.#needs.moment() });
    return { state: 'failed', error: { reason: 'run.lost', message: after?.reason ?? reason } };
  }

  /** What its runner said that the attempt ended for, where another one may follow. */
  async #ownEnd({ key }: RunRow): Promise<{ cause: EndCause; reason: string | null } | undefined> {
    const { db } = this.#needs;
    const kept = await db.first(sql.selectFrom('run_private').select('ended_for').where('run_key', '=', key));
    if (!kept?.ended_for) return undefined;
    const row = await db.first(sql.selectFrom('run').select('reason').where('key', '=', key));
    return { cause: kept.ended_for, reason: row?.reason ?? null };
  }

  /** After the end: the runner leaves, what it could not deliver is delivered, and nothing of the job stays. */
  async #tidy(scene: Scene): Promise<Outcome> {
    const { row, kept, jobs, target } = scene;
    const { db } = this.#needs;
    this.#needs.leases.end(row.key);
    if (kept.handle === null) await jobs.cleanUp(target, { id: orderId(row), user: row.user });
    else {
      const handle = JSON.parse(kept.handle) as JobHandle;
      if ((await this.#seen(scene, handle)).state === 'running') {
        const endedMs = this.#waitedMs(`leave ${row.key}`);
        if (endedMs < leavesWithinMs) return again(endedMs < 5_000 ? soonMs : lookEveryMs);
      }
      await jobs.cancel(target, handle, 'kill');
      await jobs.recover(target, handle);
      await jobs.cleanUp(target, handle);
    }
    await db.transact(runTransactions.freePlace, { key: row.key, moment: this.#needs.moment() });
    for (const what of ['cancel', 'leave']) this.#since.delete(`${what} ${row.key}`);
    return over;
  }

  /** How long this server has been waiting for it: by no clock that somebody may set, nor by that of the runner. */
  #waitedMs(what: string): number {
    const now = this.#needs.steadyMs();
    if (!this.#since.has(what)) this.#since.set(what, now);
    return now - this.#since.get(what)!;
  }

  async #failed(row: RunRow, error: unknown, work: Work): Promise<Outcome> {
    if (isEnd(row.state)) {
      if (!(error instanceof TargetError)) throw error;
      work.log(error.message);
      return again(laterMs);
    }
    if (work.cancelRequested()) return this.#end(row, { to: 'canceled' });
    if (isChanging(error)) return again(lookEveryMs);
    const isPassing = isDiskFull(error) || (error instanceof TargetError && error.retry !== 'never');
    if (work.signal.aborted || isPassing) throw error;
    const known = error instanceof ServiceError || error instanceof TargetError;
    const message = known ? error.message : 'An internal fault happened before the script was started.';
    work.log(message);
    const outcome = await this.#end(row, { to: 'failed', reason: message });
    if (!known) throw error;
    return outcome;
  }

  /** The activity ends with it; one more step removes what is left. */
  async #end(row: RunRow, move: Move): Promise<Outcome> {
    await this.#needs.db.transact(runTransactions.move, { key: row.key, move, moment: this.#needs.moment() });
    return row.placed ? again(0) : over;
  }
}

/** Its target is being attached or let go of just now; what comes of that decides. */
function isChanging(error: unknown): boolean {
  return error instanceof ServiceError && error.reason === 'compute.not-ready' && error.details?.state !== 'failed';
}

function orderId({ workspace, id, attempt }: RunRow): string {
  return JSON.stringify([workspace, id, attempt]);
}
