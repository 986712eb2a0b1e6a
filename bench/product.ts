// The product as users get it: the packed package, started on a fresh data folder in a process of its own.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Client, createClient } from '@stellwerk/client/client.ts';
import { memoryOf } from './processes.ts';

const repository = join(import.meta.dirname, '..');
const command = join(repository, 'cli', 'dist', 'package', 'bin', 'stellwerk.mjs');
export const workspace = 'bench';

/** Bundles the package anew: what is measured is what stands here. */
export function pack(): void {
  execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', join(repository, 'tools', 'pack.ts')]);
}

export class Product implements AsyncDisposable {
  readonly folder: string;
  readonly url: string;
  readonly token: string;
  /** From the start of the process to its first answer, in ms. */
  readonly readyMs: number;
  readonly #child: ChildProcess;

  private constructor(folder: string, child: ChildProcess, started: { url: string; token: string; readyMs: number }) {
    this.folder = folder;
    this.#child = child;
    this.url = started.url;
    this.token = started.token;
    this.readyMs = started.readyMs;
  }

  /** `prepare` may fill the data folder before anything is started. */
  static async start(prepare?: (data: string) => Promise<void>): Promise<Product> {
    const folder = mkdtempSync(join(tmpdir(), 'stellwerk-bench-'));
    const data = join(folder, 'data');
    await prepare?.(data);
    const begun = performance.now();
    const child = spawn(process.execPath, [command, 'up', '--json', '--data', data, '--port', '0'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: folder,
    });
    const [line] = await once(createInterface({ input: child.stdout! }), 'line');
    const { url, signIn } = JSON.parse(line) as { url: string; signIn: string };
    const answer = await fetch(`${url}/healthz`);
    if (!answer.ok) throw new Error(`The server answers ${answer.status}.`);
    const readyMs = performance.now() - begun;
    const code = new URL(signIn).hash.slice(1);
    const { token } = await createClient({ url }).signIns.redeem({ code });
    const product = new Product(folder, child, { url, token, readyMs });
    await product.client.workspaces.create({ name: workspace });
    return product;
  }

  get client(): Client {
    return createClient({ url: this.url, token: this.token });
  }

  /** Resident memory of the server and whatever it started, in MB. */
  get memoryMb(): number {
    return memoryOf(this.#child.pid!);
  }

  /** What the Python SDK needs to reach it. */
  get environment(): Record<string, string> {
    return {
      ...(process.env as Record<string, string>),
      PYTHONPATH: join(repository, 'python', 'src'),
      STELLWERK_URL: this.url,
      STELLWERK_TOKEN: this.token,
      STELLWERK_WORKSPACE: workspace,
      XDG_CONFIG_HOME: join(this.folder, 'config'),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null) {
      this.#child.kill('SIGTERM');
      await once(this.#child, 'exit');
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
