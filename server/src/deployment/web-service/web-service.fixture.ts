// For tests of web services: a real gateway process, images that are there, and a host whose replicas are HTTP servers of this process,
// with knobs. The host and its replicas outlive what stands for the server, as real ones do.
import { randomUUID } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { WebService } from '@stellwerk/contract/web-service.ts';
import type { Replica, ReplicaState } from '../../compute/services.ts';
import { Gateway } from '../../gateway/gateways.ts';
import { ada, type ImageRig, imageRig, workspace } from '../../image/image.fixture.ts';
import { Vault } from '../../vault/vault.ts';
import { type ReplicaHandle, Replicas, type ServiceHost } from './replicas.ts';
import { Rollout } from './rollout.ts';
import { Supervisor } from './supervisor.ts';
import { WebServices } from './web-services.ts';

/** How replicas of an image behave. */
export interface Behaviour {
  /** Ends by itself with this code instead of becoming ready. */
  exits?: number;
  neverReady?: boolean;
  answerAfterMs?: number;
  /** Refuses to be started. */
  refuses?: () => Error | undefined;
}

interface Running {
  server: Server;
  image: string;
  state: ReplicaState;
  log: string;
}

export class FakeHost implements ServiceHost {
  readonly replicas = new Map<string, Running>();
  /** By the digest of the image. */
  readonly behaviours = new Map<string, Behaviour>();
  /** In the order in which it happened: `start <id>`, `stop <id>`. */
  readonly events: string[] = [];
  onStart: (replica: Replica) => Promise<void> = async () => {};
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async start(replica: Replica): Promise<ReplicaHandle> {
    const { id } = replica;
    const image = replica.env.IMAGE!;
    const behaviour = this.behaviours.get(image) ?? {};
    const handle = { id, address: { socketPath: this.#socket(id) }, isolation: 'none' } as const;
    if (this.replicas.get(id)?.state.state === 'running') return handle;
    const refusal = behaviour.refuses?.();
    if (refusal) throw refusal;
    await this.onStart(replica);
    this.events.push(`start ${id}`);
    const log = `${this.replicas.get(id)?.log ?? ''}serving ${image}\n`;
    const server = serverOf(image, behaviour);
    rmSync(handle.address.socketPath, { force: true });
    await new Promise<void>((listening) => void server.listen(handle.address.socketPath, listening));
    this.replicas.set(id, { server, image, state: { state: 'running' }, log });
    if (behaviour.exits !== undefined) this.end(id, behaviour.exits, 'init() failed: no weights\n');
    return handle;
  }

  async look({ id }: ReplicaHandle): Promise<ReplicaState> {
    return this.replicas.get(id)?.state ?? { state: 'ended', exitCode: null };
  }

  async stop({ id }: ReplicaHandle, graceMs: number): Promise<void> {
    const replica = this.replicas.get(id);
    if (replica?.state.state !== 'running') return;
    this.events.push(`stop ${id}`);
    replica.state = { state: 'ended', exitCode: 0 };
    const closed = new Promise((resolve) => replica.server.close(resolve));
    replica.server.closeIdleConnections();
    await Promise.race([closed, pause(graceMs)]);
    replica.server.closeAllConnections();
  }

  async logs({ id }: ReplicaHandle, offset: number) {
    const log = this.replicas.get(id)?.log ?? '';
    return { text: log.slice(offset), offset, nextOffset: log.length };
  }

  async cleanUp({ id }: { id: string }): Promise<void> {
    if (this.replicas.get(id)?.state.state === 'running') await this.stop({ id } as ReplicaHandle, 0);
    this.replicas.delete(id);
  }

  /** A replica ends by itself. */
  end(id: string, exitCode: number, lastWords = ''): void {
    const replica = this.replicas.get(id)!;
    replica.log += lastWords;
    replica.state = { state: 'ended', exitCode };
    replica.server.close();
    replica.server.closeAllConnections();
    if (existsSync(this.#socket(id))) rmSync(this.#socket(id), { force: true });
  }

  running(): string[] {
    return [...this.replicas].filter(([, { state }]) => state.state === 'running').map(([id]) => id);
  }

  #socket(id: string): string {
    return join(this.#folder, `${id.replaceAll(/[^\w.-]/g, '_')}.sock`);
  }
}

function serverOf(image: string, { neverReady = false, answerAfterMs = 0 }: Behaviour): Server {
  return createServer(async (request, response) => {
    if (request.url === '/ready') {
      response.statusCode = neverReady ? 503 : 200;
      response.end(neverReady ? '{"reason":"init() still runs"}' : '{}');
      return;
    }
    request.resume();
    await pause(answerAfterMs);
    response.end(image);
  });
}

export interface WebServiceRig extends AsyncDisposable {
  images: ImageRig;
  host: FakeHost;
  gateway: Gateway;
  /** What a server builds; `restart` builds them anew on the same database. */
  server: { services: WebServices; rollout: Rollout; supervisor: Supervisor; replicas: Replicas };
  /** Starts worker and supervisor; `stop` ends them as the server's stop does. */
  run(): Promise<{ stop(): Promise<void> }>;
  restart(): void;
  deploy(input: { name?: string; image: string; replicas?: number }): Promise<WebService>;
  get(name?: string): Promise<WebService>;
  /** Asks the web service with its key. */
  score(name?: string): Promise<{ status: number; text: string }>;
}

export async function webServiceRig(): Promise<WebServiceRig> {
  const images = await imageRig();
  const { db, folder } = images.scratch;
  const vault = await Vault.open({ db, source: { from: 'file', file: join(folder, 'master.key') } });
  const host = new FakeHost(folder);
  const gateway = new Gateway({
    folder: join(folder, 'gateway'),
    settings: { host: '127.0.0.1', port: 0, version: '1', accessLog: false },
    program: { command: process.execPath, args: [join(import.meta.dirname, '../../gateway/main.ts')] },
  });
  await gateway.ensureRunning();
  const build = (): WebServiceRig['server'] => {
    const replicas: Replicas = new Replicas({
      db,
      images: images.images,
      gateway,
      hostOf: async (_workspace, target) => (target === 'host' ? host : { reason: 'it only trains.' }),
      keyHashes: (row) => services.keyHashes(row),
      servicesUrl: (port = 0) => `http://127.0.0.1:${port}`,
    });
    const services = new WebServices({
      db,
      images: images.images,
      replicas,
      vault,
      now: Date.now,
      newId: randomUUID,
    });
    const rollout = new Rollout({ db, replicas, now: Date.now });
    const incident = (error: unknown) => `i${images.incidents.push(error)}`;
    return { services, replicas, rollout, supervisor: new Supervisor({ db, replicas, now: Date.now, incident }) };
  };
  const running = new Set<() => Promise<void>>();
  const rig: WebServiceRig = {
    images,
    host,
    gateway,
    server: build(),
    restart: () => {
      rig.server = build();
    },
    run: async () => {
      const { rollout, supervisor } = rig.server;
      const apply = (work: Parameters<Rollout['apply']>[0]) => rollout.apply(work);
      const worker = await images.work({
        'web-service.deploy': apply,
        'web-service.update': apply,
        'web-service.scale': apply,
        'web-service.delete': (work) => rollout.remove(work),
      });
      supervisor.start();
      const stop = async () => {
        running.delete(stop);
        await worker.stop();
        await supervisor.stop();
      };
      running.add(stop);
      return { stop };
    },
    deploy: ({ name = 's1', replicas = 1, image }) =>
      rig.server.services.deploy(
        { workspace, name, image, replicas, target: 'host', authentication: 'key', timeoutSeconds: 10 },
        ada,
      ),
    get: (service = 's1') => rig.server.services.get({ workspace, service }),
    score: async (service = 's1') => {
      const { primary } = await rig.server.services.getKeys({ workspace, service });
      const { port } = (await gateway.status())!;
      const answer = await fetch(`http://127.0.0.1:${port}/services/${workspace}/${service}/score`, {
        method: 'POST',
        body: '{}',
        headers: { authorization: `Bearer ${primary}` },
      });
      return { status: answer.status, text: await answer.text() };
    },
    [Symbol.asyncDispose]: async () => {
      for (const stop of running) await stop();
      for (const id of host.running()) host.end(id, 0);
      await gateway.stop();
      await images[Symbol.asyncDispose]();
    },
  };
  return rig;
}
