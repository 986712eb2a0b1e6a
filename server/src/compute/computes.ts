// Compute targets: where scripts run. Attached ones belong to a workspace and are shared by its users; `local` is everyone's own
// machine; `host` is there by itself only on a single-user server.
// Invariants: a server that others can reach runs nothing of theirs as its own user; a target with open runs is not detached.
import type { Activity, ActivityKind } from '@stellwerk/contract/activity.ts';
import type { ComputeTarget, NodeCounts, Probe } from '@stellwerk/contract/compute.ts';
import type { ComputeProvisioning } from '@stellwerk/contract/compute-kinds/provisioning.ts';
import type { ComputeKind, ComputeSettings } from '@stellwerk/contract/compute-settings.ts';
import { type ErrorReason, ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { type Caller, nameOf } from '../access/access.ts';
import type { Activities, Beginning } from '../activity/activities.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import {
  invalid,
  isOwnMachine,
  onlyAdministrators,
  refuseImpossible,
  refuseOtherKind,
  refuseOtherPlace,
} from './checks.ts';
import type { Capacity, ComputeDriver, Target } from './driver.ts';
import { type ComputeKinds, driverOf } from './kinds.ts';
import { type Load, type OpenRuns, refuseUsed } from './open-runs.ts';
import { builtIn, isBuiltIn, isMade, isReady, notMade, plainRow, recordOf, requireReady, targetOf } from './records.ts';
import { type ComputeRow, computeTransactions } from './store.ts';

export { ComputeChanges } from './changes.ts';
export type {
  Capacity,
  ComputeDriver,
  EndCause,
  Flaw,
  JobHandle,
  JobOrder,
  JobState,
  MadeImage,
  PublicAddress,
  RunsJobs,
  Target,
} from './driver.ts';
export type { HostNeeds } from './kinds/host/host.ts';
export type { MachineNeeds } from './kinds/ssh/created.ts';
export { type ComputeKinds, computeKinds } from './kinds.ts';
export type { Load, OpenRuns } from './open-runs.ts';
export { Tending } from './tending.ts';

export interface ComputeNeeds {
  stores: { db: Database; activities: Pick<Activities, 'get' | 'settled'> };
  now(): number;
  newId(): string;
  kinds: ComputeKinds;
  /** Whether only this machine can reach the server: then whoever submits owns the machine anyway. */
  loopbackOnly: boolean;
  runs: OpenRuns;
}

/** A target, ready for work. */
export interface UsableTarget {
  target: Target;
  driver: ComputeDriver<ComputeKind>;
  queue: string;
  maxConcurrentRuns: number;
  /** Of its machine, where shares of it are given out here. */
  capacity?: Capacity;
}

/** What a target is to become. */
export type Wanted = { settings: ComputeSettings } | { provisioning: ComputeProvisioning };
export interface LeaveInput {
  force: boolean;
  by: string;
}

const waitsMs = 30_000;

export class Computes {
  readonly #needs: ComputeNeeds;

  constructor(needs: ComputeNeeds) {
    this.#needs = needs;
  }

  async attach(input: CheckedOf<'compute', 'attach'>, caller: Caller): Promise<ComputeTarget> {
    const { settings } = input;
    this.#refuseBuiltIn(input.workspace, input.name);
    this.#allow({ ...input, settings }, caller);
    const row = this.#newRow(input, caller, { kind: settings.kind, settings: JSON.stringify(settings) }, 'attaching');
    const activity = this.#activity('compute.attach', row, 'Looking whether it can be used.', caller);
    await this.#needs.stores.db.transact(computeTransactions.insert, { row, activity });
    await this.#done(activity);
    return this.get({ workspace: input.workspace, target: input.name });
  }

  async create(input: CheckedOf<'compute', 'create'>, caller: Caller): Promise<ComputeTarget> {
    const { workspace, name, settings } = input;
    this.#refuseBuiltIn(workspace, name);
    refuseImpossible(settings);
    const kind = settings.kind as ComputeKind;
    const lifetime = this.#needs.kinds[kind]?.lifetime;
    if (!lifetime) throw invalid(`Compute targets of the kind ${kind} are attached, not created.`);
    const base = await this.#row(workspace, settings.on);
    if (base.kind !== lifetime.on)
      throw invalid(
        `A compute target of the kind ${kind} is made on an attached one of the kind ${lifetime.on}; ${base.name} is of the kind ${base.kind}.`,
      );
    requireReady(base);
    const made = { kind, settings: notMade, provisioning: JSON.stringify(settings), base: base.name };
    const row = this.#newRow(input, caller, made, 'creating');
    const activity = this.#activity('compute.create', row, 'Making it.', caller);
    await this.#needs.stores.db.transact(computeTransactions.insert, { row, activity });
    return this.get({ workspace, target: name });
  }

  async list(input: CheckedOf<'compute', 'list'>): Promise<OutputOf<'compute', 'list'>> {
    const after = keyOf(input, 1);
    const load = await this.#needs.runs.load(input.workspace);
    const rows = (await this.#rows(input.workspace)).sort((a, b) => compare(a.name, b.name));
    const rest = after ? rows.filter(({ name }) => compare(name, String(after[0])) > 0) : rows;
    return pageFrom(
      rest,
      input,
      (row) => this.#record(row, load),
      (row) => [row.name],
    );
  }

  async get({ workspace, target }: CheckedOf<'compute', 'get'>): Promise<ComputeTarget> {
    const row = await this.#row(workspace, target);
    const record = this.#record(row, await this.#needs.runs.load(workspace));
    const nodes = isReady(row) ? await this.#nodes(targetOf(row)) : undefined;
    return { ...record, ...(nodes && { nodes }) };
  }

  /** What cannot be reached now has none to show. */
  async #nodes(target: Target): Promise<NodeCounts | undefined> {
    return driverOf(this.#needs.kinds, target)
      .nodes?.(target)
      .catch((error: unknown) => {
        if (error instanceof TargetError) return undefined;
        throw error;
      });
  }

  async update(input: CheckedOf<'compute', 'update'>, caller: Caller): Promise<ComputeTarget> {
    const { workspace, settings } = input;
    const { db } = this.#needs.stores;
    const row = await this.#attached(workspace, input.target);
    const change = {
      ...(input.description !== undefined && { description: input.description }),
      ...(input.tags !== undefined && { tags: JSON.stringify(input.tags) }),
    };
    if (settings) {
      refuseOtherKind(row, settings);
      this.#allow({ workspace, name: row.name, settings }, caller);
    }
    if (settings) await this.#change(row, { settings }, caller, change);
    else if (Object.keys(change).length > 0) await db.transact(computeTransactions.update, { of: row, change });
    return this.get(input);
  }

  async listQueue({ workspace, target }: CheckedOf<'compute', 'listQueue'>): Promise<OutputOf<'compute', 'listQueue'>> {
    const row = await this.#row(workspace, target);
    if (!isMade(row)) return { items: [] };
    const found = targetOf(row);
    const queue = driverOf(this.#needs.kinds, found).queue(found);
    return { items: await this.#needs.runs.inQueue(queue, workspace) };
  }

  async scale(input: CheckedOf<'compute', 'scale'>, caller: Caller): Promise<ComputeTarget> {
    const row = await this.#attached(input.workspace, input.target);
    refuseImpossible(input.settings);
    refuseOtherPlace(row, input.settings);
    await this.#change(row, { provisioning: input.settings }, caller);
    return this.get(input);
  }

  async #change(row: ComputeRow, wanted: Wanted, caller: Caller, more: Partial<ComputeRow> = {}): Promise<void> {
    const activity = this.#activity('compute.update', row, 'Looking whether it can be used so.', caller);
    const change = { ...more, wanted: JSON.stringify(wanted) };
    await this.#needs.stores.db.transact(computeTransactions.begin, { of: row, change, activity });
    await this.#done(activity);
  }

  async probe({ workspace, target }: CheckedOf<'compute', 'probe'>): Promise<Probe> {
    const found = targetOf(await this.#row(workspace, target));
    return driverOf(this.#needs.kinds, found).probe(found);
  }

  async detach(input: CheckedOf<'compute', 'detach'>, caller: Caller): Promise<Activity> {
    const row = await this.#attached(input.workspace, input.target);
    if (row.kind === 'host') onlyAdministrators(caller, 'detach');
    if (row.provisioning !== null)
      throw new ServiceError(
        'failed-precondition',
        'compute.created',
        `The compute target ${row.name} was created here.`,
      );
    return this.#leave(row, 'compute.detach', input.force === true, caller);
  }

  async delete(input: CheckedOf<'compute', 'delete'>, caller: Caller): Promise<Activity> {
    const row = await this.#attached(input.workspace, input.target);
    if (row.provisioning === null)
      throw new ServiceError(
        'failed-precondition',
        'compute.not-created',
        `The compute target ${row.name} was attached.`,
      );
    return this.#leave(row, 'compute.delete', input.force === true, caller);
  }

  async #leave(
    row: ComputeRow,
    kind: 'compute.detach' | 'compute.delete',
    force: boolean,
    caller: Caller,
  ): Promise<Activity> {
    const { db, activities } = this.#needs.stores;
    const { workspace, name } = row;
    if (!force) await refuseUsed(this.#needs.runs, row);
    const based = await db.all(
      sql.selectFrom('compute').select('name').where('workspace', '=', workspace).where('base', '=', name),
    );
    if (based.length > 0)
      throw new ServiceError(
        'failed-precondition',
        'compute.in-use',
        `On the compute target ${name} ${based.map((one) => one.name).join(', ')} was created; delete that first.`,
      );
    const activity = this.#activity(kind, row, 'Letting go of it.', caller, { force, by: nameOf(caller) });
    const state = kind === 'compute.delete' ? 'deleting' : 'detaching';
    await db.transact(computeTransactions.begin, { of: row, change: { state }, activity });
    await this.#done(activity);
    return activities.get({ workspace, activity: activity.id });
  }

  /** For those who start something on it. */
  async require(workspace: string, name: string): Promise<UsableTarget> {
    const row = await this.#row(workspace, name);
    requireReady(row);
    const target = targetOf(row);
    const flaw = this.#lacksUser(target);
    if (flaw) throw new ServiceError('failed-precondition', 'compute.host-isolation', flaw);
    return await this.#usable(target);
  }

  /** For those who look after what was started on it, although nothing new may be: the server may be reached by others now. */
  async find(workspace: string, name: string): Promise<UsableTarget> {
    return await this.#usable(targetOf(await this.#row(workspace, name, true)));
  }

  async #usable(target: Target): Promise<UsableTarget> {
    const driver = driverOf(this.#needs.kinds, target);
    const wanted = 'maxConcurrentRuns' in target.settings ? target.settings.maxConcurrentRuns : undefined;
    const capacity = await driver.capacity?.(target);
    // Where it has a queue of its own, that one decides.
    const maxConcurrentRuns = wanted ?? capacity?.cpus ?? Number.POSITIVE_INFINITY;
    return { target, driver, queue: driver.queue(target), maxConcurrentRuns, ...(capacity && { capacity }) };
  }

  /** What can be said before anybody looks at the machine. */
  #allow(target: Target, caller: Caller): void {
    refuseImpossible(target.settings);
    if (target.settings.kind === 'local')
      throw invalid('The local computer is not attached: it is there, under the name local.');
    if (isOwnMachine(target.settings)) onlyAdministrators(caller, 'attach');
    const lacking = this.#lacksUser(target);
    if (lacking) throw new ServiceError('failed-precondition', 'compute.host-isolation', lacking);
  }

  #refuseBuiltIn(workspace: string, name: string): void {
    if (this.#builtIn(workspace).some((row) => row.name === name.toLowerCase()))
      throw new ServiceError('conflict', 'compute.name-taken', `The compute target ${name} is there by itself.`);
  }

  #newRow(
    input: {
      workspace: string;
      name: string;
      description?: string | undefined;
      tags?: Record<string, string> | undefined;
    },
    caller: Caller,
    made: Pick<ComputeRow, 'kind' | 'settings'> & Partial<ComputeRow>,
    state: ComputeRow['state'],
  ): ComputeRow {
    return {
      ...plainRow,
      ...made,
      workspace: input.workspace,
      name: input.name,
      state,
      description: input.description ?? null,
      tags: JSON.stringify(input.tags ?? {}),
      created_at: new Date(this.#needs.now()).toISOString(),
      created_by: nameOf(caller),
    };
  }

  #activity(kind: ActivityKind, row: ComputeRow, message: string, caller: Caller, input?: LeaveInput): Beginning {
    const now = this.#needs.now();
    return {
      id: `compute-${this.#needs.newId()}`,
      workspace: row.workspace,
      kind,
      subject: row.name,
      message,
      ...(input && { input }),
      createdBy: nameOf(caller),
      at: new Date(now).toISOString(),
      dueAt: now,
    };
  }

  /** Waits a while for what is mostly quick, and tells its failure as that of the call. */
  async #done({ workspace, id }: Beginning): Promise<void> {
    const { state, error } = await this.#needs.stores.activities.settled({ workspace, activity: id }, waitsMs);
    if (state === 'failed' && error)
      throw new ServiceError('failed-precondition', error.reason as ErrorReason, error.message);
  }

  /** Also of a target that was attached while only this machine reached the server. */
  #lacksUser({ settings }: Target): string | undefined {
    if (this.#needs.loopbackOnly || settings.kind !== 'host' || settings.user !== undefined) return undefined;
    return 'This server can be reached from other machines: its host runs scripts only as another Unix user, and none is named.';
  }

  #builtIn(workspace: string, withHost = this.#needs.loopbackOnly): ComputeRow[] {
    return (withHost ? (['host', 'local'] as const) : (['local'] as const)).map((kind) => builtIn(workspace, kind));
  }

  async #rows(workspace: string, withHost?: boolean): Promise<ComputeRow[]> {
    const attached = await this.#needs.stores.db.all(
      sql.selectFrom('compute').selectAll().where('workspace', '=', workspace),
    );
    const names = new Set(attached.map(({ name }) => name.toLowerCase()));
    return [...this.#builtIn(workspace, withHost).filter(({ name }) => !names.has(name)), ...attached];
  }

  async #row(workspace: string, name: string, withHost?: boolean): Promise<ComputeRow> {
    const row = (await this.#rows(workspace, withHost)).find((one) => one.name.toLowerCase() === name.toLowerCase());
    if (!row)
      throw new ServiceError(
        'not-found',
        'compute.not-found',
        `There is no compute target ${name} in the workspace ${workspace}.`,
      );
    return row;
  }

  async #attached(workspace: string, name: string): Promise<ComputeRow> {
    const row = await this.#row(workspace, name);
    if (isBuiltIn(row))
      throw new ServiceError(
        'failed-precondition',
        'settings.invalid',
        `The compute target ${row.name} is there by itself; it cannot be changed or detached.`,
      );
    return row;
  }

  #record(row: ComputeRow, load: Map<string, Load>): ComputeTarget {
    const flaw = isMade(row) ? this.#lacksUser(targetOf(row)) : undefined;
    const { hostsServices } = this.#needs.kinds[row.kind];
    return recordOf(row, { flaw, hostsServices, load: load.get(row.name) });
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
