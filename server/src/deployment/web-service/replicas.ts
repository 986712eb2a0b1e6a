// The replicas of all web services: started and stopped on their hosts, and told to the gateway.
// Invariants: a replica's row is written before it is started and removed after it is gone, so none is ever forgotten;
// the routes are made from the rows, so whoever writes them writes the same.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { HostsServices, ReplicaAddress } from '../../compute/services.ts';
import type { Database } from '../../db/database.ts';
import { sql } from '../../db/transactions.ts';
import type { Gateway, GatewayStatus, ServiceRoute } from '../../gateway/gateways.ts';
import type { Images } from '../../image/images.ts';
import { type ReplicaRow, type WebServiceRow, webServiceTransactions } from './store.ts';

/** What every kind's handle has: the rest is the kind's own. */
export interface ReplicaHandle {
  id: string;
  address: ReplicaAddress;
  isolation?: 'namespace' | 'none';
}

export type ServiceHost = HostsServices<ReplicaHandle>;

export interface ReplicasNeeds {
  db: Database;
  images: Images;
  gateway: Gateway;
  /** The hosting primitives of a compute target, or why it has none. `fresh`: for a service that is not there yet. */
  hostOf(workspace: string, target: string, fresh: boolean): Promise<ServiceHost | { reason: string }>;
  keyHashes(row: WebServiceRow): string[];
  /** The address of the gateway for users; `port` is what it really listens on, once that is known. */
  servicesUrl(port?: number): string;
}

/** Answers that take longer than their service allows are cut off by the gateway; a replica gets a little longer. */
const drainGraceMs = 2_000;
/** Of a replica's log, what is read for its end. */
const logBytesRead = 4 * 1024 * 1024;

export class Replicas {
  readonly #needs: ReplicasNeeds;
  #writing: Promise<unknown> = Promise.resolve();
  #port: number | undefined;

  constructor(needs: ReplicasNeeds) {
    this.#needs = needs;
  }

  async hostOf(workspace: string, target: string, fresh = false): Promise<ServiceHost> {
    const host = await this.#needs.hostOf(workspace, target, fresh);
    if ('reason' in host)
      throw new ServiceError(
        'failed-precondition',
        'compute.unusable',
        `The compute target ${target} cannot host web services: ${host.reason}`,
      );
    return host;
  }

  scoringUri({ workspace, name }: WebServiceRow): string {
    return `${this.#needs.servicesUrl(this.#port)}/services/${encodeURIComponent(workspace)}/${encodeURIComponent(name)}/score`;
  }

  async gatewayStatus(): Promise<GatewayStatus | undefined> {
    const status = await this.#needs.gateway.status();
    if (status) this.#port = status.port;
    return status;
  }

  of({ workspace, name }: Pick<WebServiceRow, 'workspace' | 'name'>): Promise<ReplicaRow[]> {
    return this.#needs.db.all(
      sql
        .selectFrom('web_replica')
        .selectAll()
        .where('workspace', '=', workspace)
        .where('service', '=', name)
        .orderBy('id'),
    );
  }

  /** Starts the replica of this row, or finds the one that runs. Undefined if the row was removed meanwhile: then nothing runs. */
  async start(service: WebServiceRow, row: ReplicaRow, signal?: AbortSignal): Promise<ReplicaHandle | undefined> {
    const host = await this.hostOf(service.workspace, service.target);
    const template = await this.#needs.images.unpack(service.workspace, row.image_name, row.image_version, signal);
    signal?.throwIfAborted();
    const env = { ...template.env, STELLWERK_SCORING_TIMEOUT_MS: String(service.timeout_ms) };
    const handle = await host.start({ id: row.id, ...template, env });
    const set = { handle: JSON.stringify(handle) };
    if (await this.#needs.db.transact(webServiceTransactions.setReplica, { id: row.id, set })) return handle;
    await host.stop(handle, 0);
    await host.cleanUp(handle);
    return undefined;
  }

  /** Undefined if it never got that far. */
  async look(
    service: WebServiceRow,
    row: ReplicaRow,
  ): Promise<{ state: 'running' } | { state: 'ended'; exitCode: number | null } | undefined> {
    if (row.handle === null) return undefined;
    return (await this.hostOf(service.workspace, service.target)).look(JSON.parse(row.handle));
  }

  /** Stops a replica that is in no route any more, and removes what it left. Safe twice. */
  async stop(service: WebServiceRow, row: ReplicaRow): Promise<void> {
    const host = await this.hostOf(service.workspace, service.target);
    const handle = row.handle === null ? undefined : (JSON.parse(row.handle) as ReplicaHandle);
    if (handle) await host.stop(handle, drainGraceMs);
    await host.cleanUp(handle ?? { id: row.id }); // it may run although it was never written down
    await this.#needs.db.transact(webServiceTransactions.removeReplica, { id: row.id });
  }

  /** Tells the gateway the replicas of all services as they are in the database, but those that are draining. One at a time. */
  writeRoutes(): Promise<GatewayStatus | undefined> {
    const written = this.#writing.then(() => this.#writeRoutes());
    this.#writing = written.catch(() => {}); // told to the one who asked
    return written;
  }

  async #writeRoutes(): Promise<GatewayStatus | undefined> {
    const services = await this.#needs.db.all(sql.selectFrom('web_service').selectAll());
    const replicas = await this.#needs.db.all(
      sql
        .selectFrom('web_replica')
        .selectAll()
        .where('handle', 'is not', null)
        .where('state', 'not in', ['draining', 'stopped']),
    );
    const routes = services.map(
      (service): ServiceRoute => ({
        workspace: service.workspace,
        service: service.name,
        replicas: replicas
          .filter((replica) => replica.workspace === service.workspace && replica.service === service.name)
          .map(({ id, handle }) => ({ id, address: (JSON.parse(handle!) as ReplicaHandle).address })),
        authentication: service.authentication,
        keyHashes: service.authentication === 'key' ? this.#needs.keyHashes(service) : [],
        limits: { bodyBytes: 64 * 1024 * 1024, timeoutMs: service.timeout_ms, inFlight: 1_000 },
      }),
    );
    this.#port = (await this.#needs.gateway.ensureRunning()).port;
    return this.#needs.gateway.writeRoutes(routes);
  }

  /** The last lines of one replica, or of each in turn. */
  async log(service: WebServiceRow, { replica, lines }: { replica?: string; lines: number }): Promise<string> {
    const host = await this.hostOf(service.workspace, service.target);
    const rows = (await this.of(service)).filter(
      ({ id, handle }) => handle !== null && (replica === undefined || id === replica),
    );
    const parts = await Promise.all(
      rows.map(async (row) => ({ row, text: await this.#tail(host, JSON.parse(row.handle!), lines) })),
    );
    if (parts.length === 1) return parts[0]!.text;
    return parts.map(({ row, text }) => `==> ${row.id} <==\n${text}`).join('\n');
  }

  async #tail(host: ServiceHost, handle: ReplicaHandle, lines: number): Promise<string> {
    let text = '';
    let offset = 0;
    for (;;) {
      const part = await host.logs(handle, offset);
      text = (text + part.text).slice(-logBytesRead);
      if (part.nextOffset <= offset || part.text === '') break;
      offset = part.nextOffset;
    }
    return `${text.trimEnd().split('\n').slice(-lines).join('\n')}\n`;
  }
}
