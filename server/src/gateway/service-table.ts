// The services and their replicas as the newest routes file has them. Replacing the routes loses no request: a replica that stays keeps its
// connections, one that leaves gets no new request and is closed when its last one has ended.
import { Latency } from './latency.ts';
import { Replica } from './replica.ts';
import type { Routes, ServiceRoute, ServiceStatus } from './routes.ts';

export interface Service {
  route: ServiceRoute;
  keyHashes: Buffer[];
  replicas: Replica[];
  inFlight: number;
  requests: number;
  failures: number;
  latency: Latency;
}

export class ServiceTable {
  generation = -1;
  readonly #now: () => number;
  #services = new Map<string, Service>();
  #draining = new Set<Replica>();

  /** `now`: milliseconds that only go up. */
  constructor(now: () => number) {
    this.#now = now;
  }

  find(workspace: string, service: string): Service | undefined {
    return this.#services.get(`${workspace}/${service}`);
  }

  replace(routes: Routes): void {
    const before = this.#services;
    const replicasBefore = this.#replicas();
    this.#services = new Map(
      routes.services.map((route) => [nameOf(route), this.#follow(route, before.get(nameOf(route)))]),
    );
    this.generation = routes.generation;
    const kept = new Set(this.#replicas());
    for (const replica of replicasBefore) if (!kept.has(replica)) this.#drain(replica);
  }

  /** The ready replica with the fewest requests; among equals the one that waited longest. */
  take(service: Service, except: ReadonlySet<Replica>): Replica | undefined {
    let best: Replica | undefined;
    for (const replica of service.replicas) {
      if (replica.ready && !except.has(replica) && replica.inFlight < (best?.inFlight ?? Number.POSITIVE_INFINITY))
        best = replica;
    }
    if (best) {
      best.inFlight++;
      service.replicas = [...service.replicas.filter((replica) => replica !== best), best];
    }
    return best;
  }

  giveBack(replica: Replica): void {
    replica.inFlight--;
    if (replica.inFlight === 0 && this.#draining.delete(replica)) void replica.close();
  }

  ended(service: Service, status: number, startedAt: number): void {
    const now = this.#now();
    service.requests++;
    if (status >= 500) service.failures++;
    service.latency.add(now - startedAt, now);
  }

  status(): { services: ServiceStatus[]; draining: { id: string; inFlight: number }[] } {
    return {
      services: [...this.#services.values()].map((service) => statusOf(service, this.#now())),
      draining: [...this.#draining].map(({ id, inFlight }) => ({ id, inFlight })),
    };
  }

  async close(): Promise<void> {
    const replicas = [...this.#draining, ...this.#replicas()];
    await Promise.all(replicas.map((replica) => replica.close()));
  }

  #replicas(): Replica[] {
    return [...this.#services.values()].flatMap((service) => service.replicas);
  }

  #follow(route: ServiceRoute, before: Service | undefined): Service {
    const known = new Map(before?.replicas.map((replica) => [replica.id, replica]));
    const replicas = route.replicas.map(({ id, address }) => known.get(id) ?? new Replica(id, address));
    const keyHashes = route.keyHashes.map((hash) => Buffer.from(hash, 'hex'));
    // The same object as before, so that requests under way go on counting where they began.
    if (before) return Object.assign(before, { route, keyHashes, replicas });
    return { route, keyHashes, replicas, inFlight: 0, requests: 0, failures: 0, latency: new Latency(this.#now()) };
  }

  #drain(replica: Replica): void {
    if (replica.inFlight === 0) void replica.close();
    else this.#draining.add(replica);
  }
}

function nameOf(route: ServiceRoute): string {
  return `${route.workspace}/${route.service}`;
}

function statusOf(service: Service, now: number): ServiceStatus {
  const p50Ms = service.latency.quantile(0.5, now);
  const p95Ms = service.latency.quantile(0.95, now);
  return {
    workspace: service.route.workspace,
    service: service.route.service,
    requests: service.requests,
    failures: service.failures,
    ...(p50Ms !== undefined && p95Ms !== undefined && { p50Ms, p95Ms }),
    inFlight: service.inFlight,
    replicas: service.replicas.map(({ id, ready, reason, inFlight }) => ({
      id,
      ready,
      inFlight,
      ...(reason !== undefined && { reason }),
    })),
  };
}
