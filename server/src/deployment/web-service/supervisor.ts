// Keeps web services as they should be between changes: replicas that ended are started again, more slowly each time; the
// gateway is started if it is gone; states follow what the gateway sees. After a restart it adopts all that still runs.
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import type { Database } from '../../db/database.ts';
import { sql } from '../../db/transactions.ts';
import type { GatewayStatus } from '../../gateway/gateways.ts';
import type { Replicas } from './replicas.ts';
import { type ReplicaRow, type WebServiceRow, webServiceTransactions } from './store.ts';

export interface SupervisorNeeds {
  db: Database;
  replicas: Replicas;
  now(): number;
  incident(error: unknown): string;
}

const lookEveryMs = 1_000;
const firstWaitMs = 500;
const longestWaitMs = 60_000;
/** Who ran this long is started again at once: what made it end before is over. */
const steadyMs = 10 * 60_000;

export class Supervisor {
  readonly #needs: SupervisorNeeds;
  readonly #restartAt = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #stopped = false;
  #hasLooked = false;

  constructor(needs: SupervisorNeeds) {
    this.#needs = needs;
  }

  start(): void {
    this.#looking = this.#look()
      .catch((error) => void this.#needs.incident(error))
      .finally(() => {
        if (!this.#stopped) this.#timer = setTimeout(() => this.start(), lookEveryMs);
      });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    await this.#needs.db.transact(webServiceTransactions.settleAbandoned, undefined);
    const services = await this.#needs.db.all(
      sql.selectFrom('web_service').selectAll().where('state', 'in', ['healthy', 'unhealthy']),
    );
    if (services.length === 0) return;
    const status = await this.#gateway();
    for (const service of services) {
      // What is wrong with one must not keep the others waiting; it shows in the state of its replicas.
      await this.#lookAfter(service, status).catch((error) => this.#note(service, error));
    }
  }

  /** The first look makes sure of the gateway: one of an earlier version is replaced. */
  async #gateway(): Promise<GatewayStatus | undefined> {
    const running = this.#hasLooked ? await this.#needs.replicas.gatewayStatus() : undefined;
    const status = running ?? (await this.#needs.replicas.writeRoutes());
    this.#hasLooked = true;
    return status;
  }

  async #note(service: WebServiceRow, error: unknown): Promise<void> {
    const isOurs = !(error instanceof TargetError || error instanceof ServiceError);
    const reason = isOurs ? `Incident ${this.#needs.incident(error)}.` : (error as Error).message;
    await this.#move(service, 'unhealthy', reason);
  }

  async #lookAfter(service: WebServiceRow, status: GatewayStatus | undefined): Promise<void> {
    let ready = 0;
    for (const row of await this.#needs.replicas.of(service)) {
      // Left by a change that could not end it then.
      if (row.state === 'draining') await this.#needs.replicas.stop(service, row);
      else if (await this.#lookAt(service, row, status)) ready++;
    }
    const to = ready > 0 ? 'healthy' : 'unhealthy';
    if (to === service.state) return;
    const reasons = (await this.#needs.replicas.of(service)).map(({ reason }) => reason);
    await this.#move(service, to, ready > 0 ? null : (reasons.find(Boolean) ?? 'No replica is ready.'));
  }

  async #move(service: WebServiceRow, to: 'healthy' | 'unhealthy', reason: string | null): Promise<void> {
    if (service.state === to && service.reason === reason) return;
    const { activity } = service;
    await this.#needs.db.transact(webServiceTransactions.move, { service, activity, to, set: { reason } });
  }

  /** Whether it is ready. */
  async #lookAt(service: WebServiceRow, row: ReplicaRow, status: GatewayStatus | undefined): Promise<boolean> {
    const looked = await this.#needs.replicas.look(service, row);
    if (looked?.state !== 'running') {
      await this.#restart(service, row, looked?.exitCode ?? null);
      return false;
    }
    this.#restartAt.delete(row.id);
    const seen = status?.services
      .find((one) => one.workspace === row.workspace && one.service === row.service)
      ?.replicas.find(({ id }) => id === row.id);
    const state = seen?.ready ? 'ready' : row.state === 'starting' ? 'starting' : 'unhealthy';
    const reason = seen?.ready ? null : (seen?.reason ?? null);
    if (state !== row.state || reason !== row.reason)
      await this.#needs.db.transact(webServiceTransactions.setReplica, { id: row.id, set: { state, reason } });
    return seen?.ready === true;
  }

  async #restart(service: WebServiceRow, row: ReplicaRow, exitCode: number | null): Promise<void> {
    const now = this.#needs.now();
    const isSteady = now - Date.parse(row.started_at) > steadyMs;
    const restarts = isSteady ? 0 : row.restarts;
    const at = this.#restartAt.get(row.id) ?? now + Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(restarts, 10));
    this.#restartAt.set(row.id, at);
    const reason = `It ended with ${exitCode === null ? 'a signal' : `exit code ${exitCode}`} and is started again.`;
    if (row.state !== 'unhealthy')
      await this.#needs.db.transact(webServiceTransactions.setReplica, {
        id: row.id,
        set: { state: 'unhealthy', reason },
      });
    if (now < at) return;
    this.#restartAt.delete(row.id);
    const set = { restarts: restarts + 1, started_at: new Date(now).toISOString() };
    const restart = { id: row.id, activity: service.activity, set };
    const current = await this.#needs.db.transact(webServiceTransactions.restartReplica, restart);
    if (!current) return; // it is being replaced
    await this.#needs.replicas.start(service, current);
    await this.#needs.replicas.writeRoutes();
  }
}
