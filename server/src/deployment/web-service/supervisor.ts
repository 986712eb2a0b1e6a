// Keeps web services as they should be between changes: replicas that ended are started again, more slowly each time; the
// gateway is started if it is gone; states follow what the gateway sees. After a restart it adopts all that still runs.
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

export class Supervisor {
  readonly #needs: SupervisorNeeds;
  readonly #restartAt = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #stopped = false;

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
    const services = await this.#needs.db.all(
      sql.selectFrom('web_service').selectAll().where('state', 'in', ['healthy', 'unhealthy']),
    );
    if (services.length === 0) return;
    const status = (await this.#needs.replicas.gatewayStatus()) ?? (await this.#needs.replicas.writeRoutes());
    for (const service of services) await this.#lookAfter(service, status);
  }

  async #lookAfter(service: WebServiceRow, status: GatewayStatus | undefined): Promise<void> {
    const rows = await this.#needs.replicas.of(service);
    let ready = 0;
    for (const row of rows) if (await this.#lookAt(service, row, status)) ready++;
    const to = ready > 0 ? 'healthy' : 'unhealthy';
    if (to === service.state) return;
    const reason = ready > 0 ? null : (rows.find((row) => row.reason)?.reason ?? 'No replica is ready.');
    await this.#needs.db.transact(webServiceTransactions.move, {
      service,
      activity: service.activity,
      to,
      set: { reason },
    });
  }

  /** Whether it is ready. */
  async #lookAt(service: WebServiceRow, row: ReplicaRow, status: GatewayStatus | undefined): Promise<boolean> {
    const looked = await this.#needs.replicas.look(service, row);
    if (looked?.state !== 'running') {
      await this.#restart(service, row, looked?.exitCode ?? null);
      return false;
    }
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
    const at =
      this.#restartAt.get(row.id) ?? now + Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(row.restarts, 10));
    this.#restartAt.set(row.id, at);
    const reason = `It ended with ${exitCode === null ? 'a signal' : `exit code ${exitCode}`} and is started again.`;
    if (row.state !== 'unhealthy')
      await this.#needs.db.transact(webServiceTransactions.setReplica, {
        id: row.id,
        set: { state: 'unhealthy', reason },
      });
    if (now < at) return;
    this.#restartAt.delete(row.id);
    await this.#needs.db.transact(webServiceTransactions.setReplica, {
      id: row.id,
      set: { restarts: row.restarts + 1, started_at: new Date(now).toISOString() },
    });
    await this.#needs.replicas.start(service, row);
    await this.#needs.replicas.writeRoutes();
  }
}
