// Brings a web service's replicas to what is wanted, with no request lost: new ones start and become ready beside the old ones,
// then the old ones leave the routes, finish what they are answering, and end. If the new ones do not become ready,
// they are removed and the old ones go on. Safe to begin again after a restart at any point.
import { setTimeout as pause } from 'node:timers/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { Outcome, Work } from '../../activity/activities.ts';
import type { Database } from '../../db/database.ts';
import { isDiskFull } from '../../db/disk-full.ts';
import { sql } from '../../db/transactions.ts';
import { Readiness } from './readiness.ts';
import type { Replicas } from './replicas.ts';
import type { WebServiceState } from './states.ts';
import {
  type ReplicaRow,
  type RolloutInput,
  type WebServiceRow,
  webServiceReadings,
  webServiceTransactions,
} from './store.ts';

export interface RolloutNeeds {
  db: Database;
  replicas: Replicas;
  now(): number;
}

const pollMs = 50;
const waitForOtherMs = 100;
/** How long a target that refuses for now is tried again before the change is undone. */
const retryForMs = 5 * 60_000;

export class Rollout {
  readonly #needs: RolloutNeeds;
  readonly #readiness: Readiness;

  constructor(needs: RolloutNeeds) {
    this.#needs = needs;
    this.#readiness = new Readiness(needs);
  }

  /** The executor of deploy, update and scale. */
  async apply(work: Work): Promise<Outcome> {
    const service = await this.#service(work);
    if (!service || service.activity !== work.activity.id)
      return { state: 'canceled', message: 'Another activity has taken over.' };
    if (!(await this.#isAlone(work))) return { againInMs: waitForOtherMs };
    let wanted: ReplicaRow[];
    try {
      wanted = await this.#bringUp(service, work);
    } catch (error) {
      if (isStopping(work) || this.#isPassing(error, work)) throw error;
      await this.#undo(service, error as Error, work);
      throw error instanceof TargetError ? new TargetError('never', error.message) : error;
    }
    await work.progress('Letting the replaced replicas finish.', 0.8);
    await this.#retireOthers(service, wanted, work);
    await this.#move(service, 'healthy', null);
    const { name, image_name, image_version, replicas } = service;
    return {
      state: 'succeeded',
      message: `${name} serves ${image_name}:${image_version} with ${replicas} replica${replicas === 1 ? '' : 's'}.`,
    };
  }

  /** The executor of delete. */
  async remove(work: Work): Promise<Outcome> {
    const service = await this.#service(work);
    if (!service) return { state: 'succeeded', message: 'The web service is gone.' };
    if (!(await this.#isAlone(work))) return { againInMs: waitForOtherMs };
    await this.#retire(service, await this.#needs.replicas.of(service), work);
    await this.#needs.db.transact(webServiceTransactions.remove, service);
    await this.#needs.replicas.writeRoutes();
    return { state: 'succeeded', message: `The web service ${service.name} is deleted.` };
  }

  async #service(work: Work): Promise<WebServiceRow | undefined> {
    const { workspace, name } = work.input as RolloutInput;
    return this.#needs.db.first(
      sql.selectFrom('web_service').selectAll().where('workspace', '=', workspace).where('name', '=', name),
    );
  }

  /** Whether the activity that changed it before has come to its end. */
  async #isAlone(work: Work): Promise<boolean> {
    const { after } = work.input as RolloutInput;
    return after === undefined || this.#needs.db.transact(webServiceReadings.hasEnded, { activity: after });
  }

  /** Returns once as many replicas of the wanted kind as are wanted are ready. */
  async #bringUp(service: WebServiceRow, work: Work): Promise<ReplicaRow[]> {
    await work.progress('Unpacking the image and starting replicas.', 0.1);
    const there = (await this.#needs.replicas.of(service)).filter(
      ({ generation }) => generation === service.generation,
    );
    const kept = best(there, service.replicas);
    const missing = this.#missing(service, there, service.replicas - kept.length);
    const wanted: ReplicaRow[] = [];
    for (const row of kept) wanted.push((await this.#runs(service, row)) ? row : await this.#start(service, row, work));
    for (const row of missing) {
      await this.#needs.db.transact(webServiceTransactions.addReplica, row);
      wanted.push(await this.#start(service, row, work));
    }
    await this.#needs.replicas.writeRoutes();
    await work.progress(`Waiting for ${wanted.length} replica${wanted.length === 1 ? '' : 's'} to be ready.`, 0.4);
    await this.#readiness.of(service, wanted, work);
    return wanted;
  }

  #missing(service: WebServiceRow, there: ReplicaRow[], count: number): ReplicaRow[] {
    const taken = new Set(there.map(({ id }) => id));
    const rows: ReplicaRow[] = [];
    for (let number = 1; rows.length < count; number++) {
      const row = this.#newRow(service, number);
      if (!taken.has(row.id)) rows.push(row);
    }
    return rows;
  }

  #newRow(service: WebServiceRow, number: number): ReplicaRow {
    const since = Date.parse(service.created_at).toString(36); // a later web service of the same name has other ids
    return {
      id: `${service.workspace}.${service.name}.${since}.${service.generation}-${number}`,
      workspace: service.workspace,
      service: service.name,
      image_name: service.image_name,
      image_version: service.image_version,
      generation: service.generation,
      handle: null,
      state: 'starting',
      reason: null,
      started_at: this.#time(),
      restarts: 0,
    };
  }

  async #runs(service: WebServiceRow, row: ReplicaRow): Promise<boolean> {
    return (await this.#needs.replicas.look(service, row))?.state === 'running';
  }

  /** Or finds the one that an interrupted try has started. */
  async #start(service: WebServiceRow, row: ReplicaRow, work: Work): Promise<ReplicaRow> {
    work.log(`Starting the replica ${row.id} of ${row.image_name}:${row.image_version}.`);
    const handle = await this.#needs.replicas.start(service, row, work.signal);
    if (!handle) throw new Error(`The replica ${row.id} was removed while it was started.`);
    const set = { isolation: handle.isolation ?? null };
    await this.#needs.db.transact(webServiceTransactions.change, { service, set });
    return { ...row, handle: JSON.stringify(handle) };
  }

  /** Replicas that cannot be ended now are left, out of the routes, to the supervisor: the change itself is done. */
  async #retireOthers(service: WebServiceRow, wanted: ReplicaRow[], work: Work): Promise<void> {
    const ids = new Set(wanted.map(({ id }) => id));
    const others = (await this.#needs.replicas.of(service)).filter(({ id }) => !ids.has(id));
    try {
      await this.#retire(service, others, work);
    } catch (error) {
      if (isStopping(work)) throw error;
      work.log(`A replaced replica could not be ended yet: ${(error as Error).message}`);
    }
  }

  /** Takes replicas out of the routes, waits until they have answered, and ends them. */
  async #retire(service: WebServiceRow, rows: ReplicaRow[], work: Work): Promise<void> {
    if (rows.length === 0) return;
    for (const { id } of rows)
      await this.#needs.db.transact(webServiceTransactions.setReplica, { id, set: { state: 'draining' } });
    await this.#needs.replicas.writeRoutes();
    const deadline = this.#needs.now() + service.timeout_ms;
    while ((await this.#areBusy(rows)) && this.#needs.now() < deadline) {
      if (isStopping(work)) work.signal.throwIfAborted();
      await pause(pollMs);
    }
    await Promise.all(rows.map((row) => this.#needs.replicas.stop(service, row)));
    for (const { id } of rows) work.log(`The replica ${id} has ended.`);
  }

  async #areBusy(rows: ReplicaRow[]): Promise<boolean> {
    const status = await this.#needs.replicas.gatewayStatus();
    return status?.draining.some(({ id, inFlight }) => inFlight > 0 && rows.some((row) => row.id === id)) ?? false;
  }

  /** A target that refuses for now is asked again, for a while. */
  #isPassing(error: unknown, work: Work): boolean {
    if (work.cancelRequested()) return false;
    if (isDiskFull(error)) return true;
    if (!(error instanceof TargetError) || error.retry === 'never') return false;
    const { startedAt, createdAt } = work.activity;
    return this.#needs.now() - Date.parse(startedAt ?? createdAt) < retryForMs;
  }

  /** Back to what was before, if that served: a failed update must not take a service down. */
  async #undo(service: WebServiceRow, error: Error, work: Work): Promise<void> {
    work.log(error.message);
    const { previous } = work.input as RolloutInput;
    const there = await this.#needs.replicas.of(service);
    const serving = there.filter(({ generation }) => generation === previous?.generation);
    await this.#retireOthers(service, previous ? best(serving, previous.replicas) : [], work);
    if (previous === undefined) {
      await this.#move(service, 'failed', error.message);
      return;
    }
    await this.#move(service, 'healthy', `The last change was undone: ${error.message}`, previous);
    await this.#needs.replicas.writeRoutes();
  }

  async #move(
    service: WebServiceRow,
    to: WebServiceState,
    reason: string | null,
    set: Partial<WebServiceRow> = {},
  ): Promise<void> {
    const text = reason?.slice(0, limits.errorMessageLength) ?? null;
    await this.#needs.db.transact(webServiceTransactions.move, {
      service,
      activity: service.activity,
      to,
      set: { ...set, reason: text, updated_at: this.#time() },
    });
  }

  #time(): string {
    return new Date(this.#needs.now()).toISOString();
  }
}

/** Of those that may go on, the ones to keep: what is ready first. */
function best(rows: ReplicaRow[], count: number): ReplicaRow[] {
  const rank = ({ state }: ReplicaRow) => (state === 'ready' ? 0 : state === 'starting' ? 1 : 2);
  const usable = rows.filter(({ state }) => state !== 'draining');
  return usable.sort((a, b) => rank(a) - rank(b)).slice(0, count);
}

/** The server stops: the next one goes on from here. A canceled change, in contrast, is undone. */
function isStopping(work: Work): boolean {
  return work.signal.aborted && !work.cancelRequested();
}
