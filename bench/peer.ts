// The peer: the newest MLflow from PyPI, its server on SQLite as its documentation has it, beside ours on this machine.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { memoryOf } from './processes.ts';

const startMs = 120_000;
const quiet = { MLFLOW_DISABLE_TELEMETRY: 'true', DO_NOT_TRACK: 'true', MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: 'false' };

/** A Python environment with the newest MLflow that PyPI gives, kept between runs outside the checkout. */
export function environment(): string {
  const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stellwerk', 'bench', 'mlflow');
  const python = join(folder, 'bin', 'python');
  const run = (...args: string[]) => execFileSync(args[0]!, args.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] });
  if (!existsSync(python)) run('python3', '-m', 'venv', folder);
  run(python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--upgrade', 'mlflow');
  return folder;
}

export class Peer implements AsyncDisposable {
  readonly url: string;
  readonly readyMs: number;
  readonly #folder: string;
  readonly #child: ChildProcess;
  readonly #python: string;

  private constructor(url: string, readyMs: number, folder: string, child: ChildProcess, python: string) {
    this.url = url;
    this.readyMs = readyMs;
    this.#folder = folder;
    this.#child = child;
    this.#python = python;
  }

  /** `prepare` may fill the folder, its database `mlflow.db` say, before anything is started. */
  static async start(prepare?: (folder: string) => void): Promise<Peer> {
    const python = join(environment(), 'bin', 'python');
    const folder = mkdtempSync(join(tmpdir(), 'stellwerk-bench-peer-'));
    prepare?.(folder);
    const port = await freePort();
    const begun = performance.now();
    const args = ['-m', 'mlflow', 'server', '--host', '127.0.0.1', '--port', `${port}`];
    args.push('--backend-store-uri', `sqlite:///${join(folder, 'mlflow.db')}`);
    args.push('--artifacts-destination', join(folder, 'artifacts'));
    const child = spawn(python, args, {
      cwd: folder,
      stdio: 'ignore',
      detached: true, // its workers end with it
      env: { ...process.env, ...quiet },
    });
    const url = `http://127.0.0.1:${port}`;
    while (!(await answers(`${url}/health`))) {
      if (child.exitCode !== null || performance.now() - begun > startMs)
        throw new Error(`MLflow did not start (exit code ${child.exitCode}).`);
      await pause(20);
    }
    return new Peer(url, performance.now() - begun, folder, child, python);
  }

  /** A call of its REST API. */
  async call<T>(verb: string, body: object): Promise<T> {
    const response = await fetch(`${this.url}/api/2.0/mlflow/${verb}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`MLflow answers ${verb} with ${response.status}: ${await response.text()}`);
    return (await response.json()) as T;
  }

  async createExperiment(name: string): Promise<string> {
    return (await this.call<{ experiment_id: string }>('experiments/create', { name })).experiment_id;
  }

  async createRun(experiment: string, name?: string): Promise<string> {
    const body = { experiment_id: experiment, start_time: Date.now(), ...(name !== undefined && { run_name: name }) };
    return (await this.call<{ run: { info: { run_id: string } } }>('runs/create', body)).run.info.run_id;
  }

  get memoryMb(): number {
    return memoryOf(this.#child.pid!);
  }

  /** A Python that has its client. */
  get python(): string {
    return this.#python;
  }

  /** What its client needs to reach it. */
  get environment(): Record<string, string> {
    return { ...(process.env as Record<string, string>), ...quiet, MLFLOW_TRACKING_URI: this.url };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null) {
      process.kill(-this.#child.pid!, 'SIGTERM');
      await once(this.#child, 'exit');
    }
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}
