// The server's side of the gateway: finds the one that runs or starts it, tells it the routes, asks how it is, stops it.
// Invariants: one gateway per folder; it outlives this process; after `writeRoutes` no new request goes to a replica that is not in the routes.
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { identify, isAlive, killProcess, type ProcessIdentity } from '../exec/processes.ts';
import { startDetached } from '../exec/programs.ts';
import { files, type GatewaySettings, type GatewayStatus, type Routes, type ServiceRoute } from './routes.ts';
import { connectTo } from './socket-path.ts';

export type { GatewayStatus, ServiceRoute, ServiceStatus } from './routes.ts';

export interface GatewayNeeds {
  /** The gateway's own, holding its files and sockets. */
  folder: string;
  settings: GatewaySettings;
  /** Starts `main.ts` of this room, or what it was bundled into; the folder is added as the last argument. */
  program: { command: string; args: readonly string[] };
}

const startMs = 20_000;
const stopMs = 75_000;
const pollMs = 20;

export class Gateway {
  readonly #needs: GatewayNeeds;
  #generation: number | undefined;

  constructor(needs: GatewayNeeds) {
    this.#needs = needs;
  }

  /** Adopts the gateway that runs, if it is of this version and listens where it should; else starts one. */
  async ensureRunning(): Promise<GatewayStatus> {
    const running = await this.status();
    if (running && this.#isWanted(running)) return running;
    if (running) await this.stop();
    return this.#start();
  }

  /** Returns when the gateway follows these routes, or has none running that could. */
  async writeRoutes(services: readonly ServiceRoute[]): Promise<GatewayStatus | undefined> {
    const generation = (this.#generation ?? this.#writtenGeneration()) + 1;
    this.#generation = generation;
    this.#write(files.routes, { format: 1, generation, services: [...services] } satisfies Routes);
    const status = (await this.#ask('POST', '/reload')) as GatewayStatus | undefined;
    if (status && status.generation < generation)
      throw new Error(`The gateway does not follow its new routes: ${status.routesError ?? 'it did not read them'}`);
    return status;
  }

  /** Undefined if no gateway runs. */
  async status(): Promise<GatewayStatus | undefined> {
    return (await this.#ask('GET', '/status')) as GatewayStatus | undefined;
  }

  /** Lets requests in flight end. Nothing listens afterwards. Safe if none runs. */
  async stop(): Promise<void> {
    const status = await this.status();
    const gateway = status && identify(status.pid);
    if (!gateway) return;
    await this.#ask('POST', '/stop');
    for (let waitedMs = 0; waitedMs < stopMs && isAlive(gateway); waitedMs += pollMs) await pause(pollMs);
    if (isAlive(gateway)) killProcess(gateway.pid, 'SIGKILL');
  }

  #isWanted(running: GatewayStatus): boolean {
    const { host, port, version } = this.#needs.settings;
    return (
      running.version === version &&
      running.host === host &&
      (port === 0 || running.port === port) &&
      this.#written(files.settings) === JSON.stringify(this.#needs.settings)
    );
  }

  async #start(): Promise<GatewayStatus> {
    const { folder, program, settings } = this.#needs;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#write(files.settings, settings);
    const log = openSync(join(folder, files.log), 'w', 0o600);
    const { pid } = startDetached({
      command: program.command,
      args: [...program.args, folder],
      cwd: '/',
      outputFd: log,
    });
    closeSync(log);
    const started = identify(pid);
    for (let waitedMs = 0; waitedMs < startMs && started && isAlive(started); waitedMs += pollMs) {
      const status = await this.status();
      if (status) return status;
      await pause(pollMs);
    }
    throw new Error(this.#startFailure(started));
  }

  #startFailure(started: ProcessIdentity | undefined): string {
    const { host, port } = this.#needs.settings;
    if (started && isAlive(started)) killProcess(started.pid, 'SIGKILL');
    const said = this.#written(files.log)?.trim() || 'It printed nothing.';
    const hint = said.includes('EADDRINUSE')
      ? ` Another program listens on ${host}:${port}; choose another port for web services.`
      : '';
    return `The gateway for web services does not run. ${said}${hint}`;
  }

  #writtenGeneration(): number {
    const text = this.#written(files.routes);
    return text === undefined ? 0 : (JSON.parse(text) as Routes).generation;
  }

  #written(name: string): string | undefined {
    try {
      return readFileSync(join(this.#needs.folder, name), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Whole or not at all. It holds no key, only hashes; still nobody else's business. */
  #write(name: string, content: unknown): void {
    mkdirSync(this.#needs.folder, { recursive: true, mode: 0o700 });
    const path = join(this.#needs.folder, name);
    writeFileSync(`${path}.new`, JSON.stringify(content), { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
  }

  #ask(method: string, path: string): Promise<unknown> {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const createConnection = () => connectTo(join(this.#needs.folder, files.control));
    try {
      const asked = request({ method, path, createConnection, timeout: 10_000 }, async (answer) => {
        const chunks: Buffer[] = [];
        for await (const chunk of answer) chunks.push(chunk as Buffer);
        resolve(JSON.parse(Buffer.concat(chunks).toString()));
      });
      asked
        .on('error', () => resolve(undefined))
        .on('timeout', () => asked.destroy())
        .end();
    } catch {
      resolve(undefined); // no socket: none runs
    }
    return promise;
  }
}
