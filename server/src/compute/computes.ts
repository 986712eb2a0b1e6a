// Compute targets: where scripts run. Attached ones belong to a workspace and are shared by its users; `local` is everyone's own
// machine; `host` is there by itself only on a single-user server.
// Invariants: a server that others can reach runs nothing of theirs as its own user; a target with open runs is not detached.
import type { ComputeTarget, Probe } from '@stellwerk/contract/compute.ts';
import type { ComputeKind, ComputeSettings } from '@stellwerk/contract/compute-settings.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { CheckedOf, OutputOf } from '@stellwerk/contract/verbs.ts';
import { type Caller, isAdministrator, nameOf } from '../access/access.ts';
import type { Database } from '../db/database.ts';
import { keyOf, pageFrom } from '../db/paging.ts';
import { sql } from '../db/transactions.ts';
import type { Capacity, ComputeDriver, Target } from './driver.ts';
import { type ComputeKinds, driverOf } from './kinds.ts';
import { type ComputeRow, computeTransactions } from './store.ts';

export type {
  Capacity,
  ComputeDriver,
  EndCause,
  Flaw,
  JobHandle,
  JobOrder,
  JobState,
  RunsJobs,
  Target,
} from './driver.ts';
export { type ComputeKinds, computeKinds } from './kinds.ts';

export interface Load {
  queued: number;
  running: number;
}

export interface ComputeNeeds {
  db: Database;
  now(): number;
  kinds: ComputeKinds;
  /** Whether only this machine can reach the server: then whoever submits owns the machine anyway. */
  loopbackOnly: boolean;
  /** Open runs by the name of their target. */
  load(workspace: string): Promise<Map<string, Load>>;
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

const always = new Date(0).toISOString();

export class Computes {
  readonly #needs: ComputeNeeds;

  constructor(needs: ComputeNeeds) {
    this.#needs = needs;
  }

  async attach(input: CheckedOf<'compute', 'attach'>, caller: Caller): Promise<ComputeTarget> {
    const { workspace, name, settings } = input;
    if (this.#builtIn(workspace).some((row) => row.name === name.toLowerCase()))
      throw new ServiceError('conflict', 'compute.name-taken', `The compute target ${name} is there by itself.`);
    await this.#check({ workspace, name, settings }, caller);
    const row: ComputeRow = {
      workspace,
      name,
      kind: settings.kind,
      settings: JSON.stringify(settings),
      state: 'usable',
      reason: null,
      description: input.description ?? null,
      tags: JSON.stringify(input.tags ?? {}),
      created_at: new Date(this.#needs.now()).toISOString(),
      created_by: nameOf(caller),
    };
    await this.#needs.db.transact(computeTransactions.insert, row);
    return this.#record(row, await this.#needs.load(workspace));
  }

  async list(input: CheckedOf<'compute', 'list'>): Promise<OutputOf<'compute', 'list'>> {
    const after = keyOf(input, 1);
    const load = await this.#needs.load(input.workspace);
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
    return this.#record(await this.#row(workspace, target), await this.#needs.load(workspace));
  }

  async update(input: CheckedOf<'compute', 'update'>, caller: Caller): Promise<ComputeTarget> {
    const { workspace, settings } = input;
    const row = await this.#attached(workspace, input.target);
    if (settings && settings.kind !== row.kind)
      throw new ServiceError(
        'invalid-argument',
        'settings.invalid',
        `The compute target ${row.name} is of the kind ${row.kind}, which cannot be changed.`,
      );
    if (settings) await this.#check({ workspace, name: row.name, settings }, caller);
    const set: Partial<ComputeRow> = {
      ...(settings && { settings: JSON.stringify(settings), state: 'usable', reason: null }),
      ...(input.description !== undefined && { description: input.description }),
      ...(input.tags !== undefined && { tags: JSON.stringify(input.tags) }),
    };
    if (Object.keys(set).length > 0)
      await this.#needs.db.transact(computeTransactions.update, { workspace, name: row.name, set });
    return this.get(input);
  }

  async probe({ workspace, target }: CheckedOf<'compute', 'probe'>): Promise<Probe> {
    const found = targetOf(await this.#row(workspace, target));
    return driverOf(this.#needs.kinds, found).probe(found);
  }

  async detach({ workspace, target }: CheckedOf<'compute', 'detach'>, caller: Caller): Promise<Record<string, never>> {
    const row = await this.#attached(workspace, target);
    if (row.kind === 'host') onlyAdministrators(caller, 'detach');
    const load = (await this.#needs.load(workspace)).get(row.name);
    if (load && load.queued + load.running > 0)
      throw new ServiceError(
        'failed-precondition',
        'compute.in-use',
        `On the compute target ${row.name} ${load.running} runs are open and ${load.queued} wait.`,
      );
    await this.#needs.db.transact(computeTransactions.delete, { workspace, name: row.name });
    return {};
  }

  /** For those who start something on it. */
  async require(workspace: string, name: string): Promise<UsableTarget> {
    const target = targetOf(await this.#row(workspace, name));
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

  async #check(target: Target, caller: Caller): Promise<void> {
    if (target.settings.kind === 'local')
      throw new ServiceError(
        'invalid-argument',
        'settings.invalid',
        'The local computer is not attached: it is there, under the name local.',
      );
    if (target.settings.kind === 'host') onlyAdministrators(caller, 'attach');
    const lacking = this.#lacksUser(target);
    if (lacking) throw new ServiceError('failed-precondition', 'compute.host-isolation', lacking);
    const probed = await driverOf(this.#needs.kinds, target).probe(target);
    const flaw = probed.findings.find(({ ok }) => !ok);
    if (flaw)
      throw new ServiceError(
        'failed-precondition',
        flaw.what === 'isolation' ? 'compute.host-isolation' : 'compute.unusable',
        `${target.settings.kind === 'host' ? 'The host' : target.name} cannot be attached: ${flaw.detail}${flaw.hint ? ` ${flaw.hint}` : ''}`,
        { probe: probed },
      );
  }

  /** Also of a target that was attached while only this machine reached the server. */
  #lacksUser({ settings }: Target): string | undefined {
    if (this.#needs.loopbackOnly || settings.kind !== 'host' || settings.user !== undefined) return undefined;
    return 'This server can be reached from other machines: its host runs scripts only as another Unix user, and none is named.';
  }

  #builtIn(workspace: string, withHost = this.#needs.loopbackOnly): ComputeRow[] {
    const there = (kind: 'host' | 'local'): ComputeRow => ({
      workspace,
      name: kind,
      kind,
      settings: JSON.stringify({ kind } satisfies ComputeSettings),
      state: 'usable',
      reason: null,
      description: null,
      tags: '{}',
      created_at: always,
      created_by: 'stellwerk',
    });
    return withHost ? [there('host'), there('local')] : [there('local')];
  }

  async #rows(workspace: string, withHost?: boolean): Promise<ComputeRow[]> {
    const attached = await this.#needs.db.all(sql.selectFrom('compute').selectAll().where('workspace', '=', workspace));
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
    if (row.created_at === always)
      throw new ServiceError(
        'failed-precondition',
        'settings.invalid',
        `The compute target ${row.name} is there by itself; it cannot be changed or detached.`,
      );
    return row;
  }

  #record(row: ComputeRow, load: Map<string, Load>): ComputeTarget {
    const target = targetOf(row);
    const driver = driverOf(this.#needs.kinds, target);
    const flaw = this.#lacksUser(target);
    return {
      name: row.name,
      kind: row.kind,
      settings: target.settings,
      state: flaw ? 'failed' : row.state,
      ...((flaw ?? row.reason) !== null && { reason: flaw ?? row.reason! }),
      trains: true,
      hostsServices: driver.hostsServices,
      ...(row.description !== null && { description: row.description }),
      tags: JSON.parse(row.tags),
      ...(load.get(row.name) ?? { queued: 0, running: 0 }),
      createdAt: row.created_at,
      createdBy: row.created_by,
    };
  }
}

function targetOf(row: ComputeRow): Target {
  return { workspace: row.workspace, name: row.name, settings: JSON.parse(row.settings) };
}

function onlyAdministrators(caller: Caller, what: string): void {
  if (!isAdministrator(caller))
    throw new ServiceError(
      'permission-denied',
      'access.administrator-needed',
      `Only an administrator of the server may ${what} its host.`,
    );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
