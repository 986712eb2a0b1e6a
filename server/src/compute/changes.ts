// The activities of compute targets: each looks at the machine, makes or removes what is wanted, and then changes the record.
// Invariants: a target that cannot be used is not attached; what was usable stays as it was when a change fails; a record goes only after all
// that was made for it has gone; every step can be taken again after a restart.
import type { ComputeProvisioning } from '@stellwerk/contract/compute-kinds/provisioning.ts';
import type { ComputeKind, ComputeSettings } from '@stellwerk/contract/compute-settings.ts';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import type { Executor, Outcome, Work } from '../activity/activities.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import type { LeaveInput, Wanted } from './computes.ts';
import type { IsProvisioned, Target } from './driver.ts';
import { type ComputeKinds, driverOf } from './kinds.ts';
import { type OpenRuns, refuseUsed } from './open-runs.ts';
import { isMade, targetOf } from './records.ts';
import { type ComputeRow, computeTransactions } from './store.ts';

export interface ChangeNeeds {
  db: Database;
  kinds: ComputeKinds;
  runs: OpenRuns;
}

const lookAgainMs = 300;

export class ComputeChanges {
  readonly #needs: ChangeNeeds;

  constructor(needs: ChangeNeeds) {
    this.#needs = needs;
  }

  /** By the kind of the activity. */
  readonly executors = {
    'compute.attach': this.#executor((row, work) => this.#attach(row, work)),
    'compute.create': this.#executor((row, work) => this.#create(row, work)),
    'compute.update': this.#executor((row, work) => this.#update(row, work)),
    'compute.detach': this.#executor((row, work) => this.#leave(row, work, () => this.#empty(row, work))),
    'compute.delete': this.#executor((row, work) => this.#leave(row, work, () => this.#remove(row))),
  };

  #executor(act: (row: ComputeRow, work: Work) => Promise<Outcome>): Executor {
    return (work) => this.#step(work, (row) => act(row, work));
  }

  async #step(work: Work, act: (row: ComputeRow) => Promise<Outcome>): Promise<Outcome> {
    const { workspace, subject, id, kind } = work.activity;
    const row = await this.#rowOf(workspace, subject);
    // Gone, or another activity's meanwhile: this one was interrupted after it had done its work.
    if (!row || row.activity !== id) return { state: 'succeeded' };
    try {
      return await act(row);
    } catch (error) {
      const isFinal = error instanceof ServiceError || (error instanceof TargetError && error.retry === 'never');
      if (!isFinal) throw error;
      work.log(error.message);
      if (kind === 'compute.attach') await this.#forget(row, work);
      else {
        const lies = kind === 'compute.update' || isMade(row) ? 'usable' : 'failed';
        const state = kind === 'compute.delete' ? 'failed' : lies;
        await this.#set(row, work, { state, wanted: null, reason: state === 'failed' ? error.message : null });
      }
      const reason = error instanceof ServiceError ? error.reason : 'compute.unusable';
      return { state: 'failed', error: { reason, message: error.message } };
    }
  }

  async #attach(row: ComputeRow, work: Work): Promise<Outcome> {
    if (work.cancelRequested()) {
      await this.#forget(row, work);
      return { state: 'canceled' };
    }
    await this.#requireUsable(targetOf(row));
    await this.#set(row, work, { state: 'usable', reason: null });
    return { state: 'succeeded', message: 'It can be used.' };
  }

  async #create(row: ComputeRow, work: Work): Promise<Outcome> {
    if (work.cancelRequested()) {
      await this.#remove(row);
      await this.#forget(row, work);
      return { state: 'canceled' };
    }
    const settings = await this.#provided(row, JSON.parse(row.provisioning!), work);
    await this.#set(row, work, { settings: JSON.stringify(settings), state: 'usable', reason: null });
    return { state: 'succeeded', message: 'It can be used.' };
  }

  async #update(row: ComputeRow, work: Work): Promise<Outcome> {
    if (row.wanted === null) return { state: 'succeeded' };
    if (work.cancelRequested()) {
      await this.#set(row, work, { wanted: null });
      return { state: 'canceled' };
    }
    const wanted = JSON.parse(row.wanted) as Wanted;
    if ('settings' in wanted) await this.#requireUsable({ ...row, settings: wanted.settings });
    const change =
      'settings' in wanted
        ? { settings: JSON.stringify(wanted.settings) }
        : {
            settings: JSON.stringify(await this.#provided(row, wanted.provisioning, work)),
            provisioning: JSON.stringify(wanted.provisioning),
          };
    await this.#set(row, work, { ...change, wanted: null, state: 'usable', reason: null });
    return { state: 'succeeded', message: 'It can be used.' };
  }

  async #leave(row: ComputeRow, work: Work, remove: () => Promise<void>): Promise<Outcome> {
    const { force, by } = work.input as LeaveInput;
    const { runs } = this.#needs;
    if (!force) await refuseUsed(runs, row);
    const left = await runs.on(row.workspace, row.name);
    const open = left.filter(({ ended }) => !ended).map(({ id }) => id);
    if (open.length > 0 && work.activity.report === undefined)
      await work.report({ canceled: open }, `Canceling ${open.length === 1 ? 'a run' : `${open.length} runs`}.`);
    for (const run of open) await runs.cancel(row.workspace, run, by).catch(unlessEnded);
    // What their jobs have left over there is removed before nobody knows any more how to reach it.
    if (left.length > 0) return { againInMs: lookAgainMs };
    await remove();
    await this.#forget(row, work);
    return { state: 'succeeded' };
  }

  /** What stays on a machine that cannot be reached any more is nobody's harm. */
  async #empty(row: ComputeRow, work: Work): Promise<void> {
    const target = targetOf(row);
    try {
      await driverOf(this.#needs.kinds, target).forget?.(target);
    } catch (error) {
      if (!(error instanceof TargetError)) throw error;
      work.log(`What was kept there for later runs stays: ${error.message}`);
    }
  }

  async #remove(row: ComputeRow): Promise<void> {
    const wanted = JSON.parse(row.provisioning!) as ComputeProvisioning;
    await this.#lifetimeOf(row).remove(row, wanted as never, await this.#base(row));
  }

  async #provided(row: ComputeRow, wanted: ComputeProvisioning, work: Work): Promise<ComputeSettings> {
    const watch = { log: work.log, signal: work.signal };
    return this.#lifetimeOf(row).provide(row, wanted as never, await this.#base(row), watch);
  }

  #lifetimeOf({ kind }: ComputeRow): IsProvisioned<ComputeKind> {
    return this.#needs.kinds[kind].lifetime as IsProvisioned<ComputeKind>;
  }

  async #base({ workspace, base }: ComputeRow): Promise<Target> {
    return targetOf((await this.#rowOf(workspace, base!))!);
  }

  async #requireUsable(target: Target): Promise<void> {
    const probed = await driverOf(this.#needs.kinds, target).probe(target);
    const flaw = probed.findings.find(({ ok }) => !ok);
    if (!flaw) return;
    const name = target.settings.kind === 'host' ? 'The host' : target.name;
    throw new ServiceError(
      'failed-precondition',
      flaw.what === 'isolation' ? 'compute.host-isolation' : 'compute.unusable',
      `${name} cannot be attached: ${flaw.detail}${flaw.hint ? ` ${flaw.hint}` : ''}`,
    );
  }

  #rowOf(workspace: string, name: string): Promise<ComputeRow | undefined> {
    const query = sql.selectFrom('compute').selectAll().where('workspace', '=', workspace).where('name', '=', name);
    return this.#needs.db.first(query);
  }

  async #set(of: ComputeRow, { activity: { id }, fence }: Work, change: Partial<ComputeRow>): Promise<void> {
    await this.#needs.db.transact(computeTransactions.update, { of: named(of), change, held: { id, fence } });
  }

  async #forget(of: ComputeRow, { activity: { id }, fence }: Work): Promise<void> {
    await this.#needs.db.transact(computeTransactions.delete, { of: named(of), held: { id, fence } });
  }
}

function named({ workspace, name }: ComputeRow): Pick<ComputeRow, 'workspace' | 'name'> {
  return { workspace, name };
}

/** A run that is to be canceled may come to its end by itself meanwhile. */
function unlessEnded(error: unknown): void {
  if (!(error instanceof ServiceError && error.reason === 'run.move-refused')) throw error;
}
