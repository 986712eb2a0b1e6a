// Brings a web service's replicas to what is wanted, with no request lost: new ones start and become ready beside the old ones,
// then the old ones leave the routes, finish what they are answering, and end. If the new ones do not become ready,
// they are removed and the old ones go on. Safe to begin again after a restart at any point.
import { setTimeout as pause } from 'node:timers/promises';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Outcome, Work } from '../../activity/activities.ts';
import type { Database } from '../../db/database.ts';
import { sql } from '../../db/transactions.ts';
import type { GatewayStatus } from '../../gateway/gateways.ts';
import type { Replicas } from './replicas.ts';
import type { WebServiceState } from './states.ts';
import { type ReplicaRow, type WebServiceRow, webServiceTransactions } from './store.ts';

export interface RolloutNeeds {
  db: Database;
  replicas: Replicas;
  now(): number;
}

const pollMs = 50;
/** For `init()` to load the models. */
const readyWithinMs = 10 * 60_000;
const logLinesShown = 15;

export class Rollout {
  readonly #needs: RolloutNeeds;

  constructor(needs: RolloutNeeds) {
    this.#needs = needs;
  }

  /** The executor of deploy, update and scale. */
  async apply(work: Work): Promise<Outcome> {
    const service = await this.#service(work);
    if (!service || service.activity !== work.activity.id)
      return { state: 'canceled', message: 'Another activity has taken over.' };
    const before = await this.#needs.replicas.of(service);
    const keep = before
      .filter(({ generation, state }) => generation === service.generation && state !== 'draining')
      .slice(0, service.replicas);
    const fresh: ReplicaRow[] = [];
    try {
      await work.progress('Unpacking the image and starting replicas.', 0.1);
      for (const id of this.#missingIds(service, keep, before)) fresh.push(await this.#start(service, id, work));
      await this.#needs.replicas.writeRoutes();
      await this.#untilReady(service, [...keep, ...fresh], work);
    } catch (error) {
      await this.#undo(service, before, [...fresh, ...(await this.#unstarted(service, before))], error as Error, work);
      throw error;
    }
    const wanted = new Set([...keep, ...fresh].map(({ id }) => id));
    await work.progress('Letting the replaced replicas finish.', 0.8);
    await this.#retire(
      service,
      (await this.#needs.replicas.of(service)).filter(({ id }) => !wanted.has(id)),
      work,
    );
    await this.#move(service, 'healthy', null);
    return {
      state: 'succeeded',
      message: `${service.name} serves ${service.image_name}:${service.image_version} with ${service.replicas} replica${service.replicas === 1 ? '' : 's'}.`,
    };
  }

  /** The executor of delete. */
  async remove(work: Work): Promise<Outcome> {
    const service = await this.#service(work);
    if (!service) return { state: 'succeeded', message: 'The web service is gone.' };
    await this.#retire(service, await this.#needs.replicas.of(service), work);
    await this.#needs.db.transact(webServiceTransactions.remove, service);
    await this.#needs.replicas.writeRoutes();
    return { state: 'succeeded', message: `The web service ${service.name} is deleted.` };
  }

  async #service(work: Work): Promise<WebServiceRow | undefined> {
    const { workspace, name } = work.input as { workspace: string; name: string };
    return this.#needs.db.first(
      sql.selectFrom('web_service').selectAll().where('workspace', '=', workspace).where('name', '=', name),
    );
  }

  /** Ids are made from the generation and a number, so that a second try finds what the first one started. */
  #missingIds(service: WebServiceRow, keep: ReplicaRow[], there: ReplicaRow[]): string[] {
    const taken = new Set(there.map(({ id }) => id));
    const ids: string[] = [];
    for (let number = 1; ids.length < service.replicas - keep.length; number++) {
      const id = `${service.workspace}.${service.name}.${Date.parse(service.created_at).toString(36)}.${service.generation}-${number}`;
      if (!taken.has(id)) ids.push(id);
    }
    return ids;
  }

  async #start(service: WebServiceRow, id: string, work: Work): Promise<ReplicaRow> {
    work.log(`Starting the replica ${id} of ${service.image_name}:${service.image_version}.`);
    const row: ReplicaRow = {
      id,
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
    const handle = await this.#needs.replicas.start(service, row, work.signal);
    await this.#needs.db.transact(webServiceTransactions.change, {
      service,
      set: { isolation: handle.isolation ?? null },
    });
    return { ...row, handle: JSON.stringify(handle) };
  }

  async #untilReady(service: WebServiceRow, rows: ReplicaRow[], work: Work): Promise<void> {
    const deadline = this.#needs.now() + readyWithinMs;
    const waiting = new Map(rows.map((row) => [row.id, row]));
    await work.progress(`Waiting for ${rows.length} replicas to be ready.`, 0.4);
    while (waiting.size > 0) {
      const status = await this.#needs.replicas.gatewayStatus();
      for (const row of waiting.values()) {
        if (!isReady(status, service, row.id)) {
          await this.#throwIfEnded(service, row);
          continue;
        }
        waiting.delete(row.id);
        work.log(`The replica ${row.id} is ready.`);
        await this.#needs.db.transact(webServiceTransactions.setReplica, {
          id: row.id,
          set: { state: 'ready', reason: null },
        });
      }
      if (waiting.size === 0) return;
      if (this.#needs.now() > deadline)
        throw unusable(
          `The replica ${[...waiting.keys()][0]} was not ready within ${readyWithinMs / 60_000} minutes`,
          await this.#said(service, [...waiting.values()][0]!),
        );
      work.signal.throwIfAborted();
      await pause(pollMs, undefined, { signal: work.signal });
    }
  }

  async #throwIfEnded(service: WebServiceRow, row: ReplicaRow): Promise<void> {
    const looked = await this.#needs.replicas.look(service, row);
    if (looked?.state !== 'ended') return;
    throw unusable(
      `The replica ${row.id} ended with ${looked.exitCode === null ? 'a signal' : `exit code ${looked.exitCode}`} before it was ready`,
      await this.#said(service, row),
    );
  }

  #said(service: WebServiceRow, row: ReplicaRow): Promise<string> {
    return this.#needs.replicas.log(service, { replica: row.id, lines: logLinesShown });
  }

  /** Takes replicas out of the routes, waits until they have answered, and ends them. */
  async #retire(service: WebServiceRow, rows: ReplicaRow[], work: Work): Promise<void> {
    if (rows.length === 0) return;
    for (const { id } of rows)
      await this.#needs.db.transact(webServiceTransactions.setReplica, { id, set: { state: 'draining' } });
    await this.#needs.replicas.writeRoutes();
    const deadline = this.#needs.now() + service.timeout_ms;
    const busy = async () => {
      const status = await this.#needs.replicas.gatewayStatus();
      return status?.draining.some(({ id, inFlight }) => inFlight > 0 && rows.some((row) => row.id === id)) ?? false;
    };
    while ((await busy()) && this.#needs.now() < deadline) await pause(pollMs);
    await Promise.all(rows.map((row) => this.#needs.replicas.stop(service, row)));
    for (const { id } of rows) work.log(`The replica ${id} has ended.`);
  }

  /** Replicas whose row was written but whose start failed. */
  async #unstarted(service: WebServiceRow, before: ReplicaRow[]): Promise<ReplicaRow[]> {
    const known = new Set(before.map(({ id }) => id));
    return (await this.#needs.replicas.of(service)).filter(({ id, handle }) => handle === null && !known.has(id));
  }

  /** Back to what was before, if that served: a failed update must not take a service down. */
  async #undo(
    service: WebServiceRow,
    before: ReplicaRow[],
    fresh: ReplicaRow[],
    error: Error,
    work: Work,
  ): Promise<void> {
    if (work.signal.aborted && !work.cancelRequested()) return; // the server stops: the next one goes on
    work.log(error.message);
    await this.#retire(service, fresh, work);
    const serving = before.filter(({ state }) => state === 'ready');
    const previous = serving[0];
    if (!previous) {
      await this.#move(service, 'failed', error.message);
      return;
    }
    const same = serving.filter(({ generation }) => generation === previous.generation);
    await this.#move(service, 'healthy', `The last change was undone: ${error.message}`, {
      image_name: previous.image_name,
      image_version: previous.image_version,
      generation: previous.generation,
      replicas: same.length,
    });
    await this.#needs.replicas.writeRoutes();
  }

  async #move(
    service: WebServiceRow,
    to: WebServiceState,
    reason: string | null,
    set: Partial<WebServiceRow> = {},
  ): Promise<void> {
    const change = { ...set, reason: reason?.slice(0, 3_000) ?? null, updated_at: this.#time() };
    await this.#needs.db.transact(webServiceTransactions.move, {
      service,
      activity: service.activity,
      to,
      set: change,
    });
  }

  #time(): string {
    return new Date(this.#needs.now()).toISOString();
  }
}

function isReady(status: GatewayStatus | undefined, service: WebServiceRow, id: string): boolean {
  const served = status?.services.find((one) => one.workspace === service.workspace && one.service === service.name);
  return served?.replicas.some((replica) => replica.id === id && replica.ready) ?? false;
}

function unusable(what: string, said: string): ServiceError {
  return new ServiceError(
    'failed-precondition',
    'web-service.not-ready',
    `${what}. It printed last:\n${said.trim() || '(nothing)'}`,
  );
}
