// An installation for a story: a real server in a process of its own on a fresh data folder, its administrator signed in,
// and the means to kill and restart it. All of it is gone when the story ends.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Client, createClient } from '@stellwerk/client/client.ts';
import { endStates } from '@stellwerk/contract/run-state.ts';

export const repository = join(import.meta.dirname, '..');
/** As published; of the sources where nobody has packed it. */
export const cli = process.env.STORY_COMMAND ?? join(repository, 'cli', 'src', 'main.ts');
export const node = [process.execPath, '--disable-warning=ExperimentalWarning'] as const;

export interface Printed {
  code: number;
  stdout: string;
  stderr: string;
}

export class Installation implements AsyncDisposable {
  readonly folder: string;
  readonly #env: Record<string, string>;
  readonly #options: readonly string[];
  readonly #within: readonly string[];
  #server: ChildProcess | undefined;
  #ports: [string, string] = ['0', '0'];
  #token = '';
  url = '';
  readonly workspace = 'story';

  private constructor(options: readonly string[], env: Record<string, string>, within: readonly string[]) {
    this.folder = mkdtempSync(join(tmpdir(), 'stellwerk-story-'));
    this.#options = options;
    this.#within = within;
    // Everything a user has at home, but caches, which are the machine's: a story must not download the world again.
    this.#env = {
      ...(process.env as Record<string, string>),
      XDG_CONFIG_HOME: join(this.folder, 'config'),
      XDG_DATA_HOME: join(this.folder, 'share'),
      NO_COLOR: '1',
      ...env,
    };
    for (const name of ['STELLWERK_URL', 'STELLWERK_TOKEN', 'STELLWERK_WORKSPACE']) delete this.#env[name];
  }

  static async start(
    options: readonly string[] = [],
    env: Record<string, string> = {},
    within: readonly string[] = [],
  ): Promise<Installation> {
    const installation = Installation.prepare(options, env, within);
    try {
      const { signIn } = await installation.up();
      await installation.signIn(signIn!);
      await installation.client.workspaces.create({ name: installation.workspace });
      return installation;
    } catch (error) {
      await installation[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Nothing of it is running yet. Its server is started by the command `within`, which becomes what it is told to start. */
  static prepare(
    options: readonly string[] = [],
    env: Record<string, string> = {},
    within: readonly string[] = [],
  ): Installation {
    return new Installation(options, env, within);
  }

  /** Another one, made of a backup: whoever was signed in there is here. */
  static async restored(archive: string, from: Installation): Promise<Installation> {
    const installation = Installation.prepare();
    const restored = await installation.cli(['restore', archive, '--data', join(installation.folder, 'data')]);
    if (restored.code !== 0) throw new Error(`It could not be restored: ${restored.stderr}`);
    installation.#token = from.token;
    await installation.up();
    return installation;
  }

  async signIn(link: string): Promise<void> {
    const login = await this.cli(['login', link]);
    if (login.code !== 0) throw new Error(`The sign-in failed: ${login.stderr}`);
    const kept = join(this.folder, 'config', 'stellwerk', 'credentials.json');
    const { servers, current } = JSON.parse(readFileSync(kept, 'utf8'));
    this.#token = servers[current].token;
  }

  /** Starts the server on its folder, on the ports it had before; `env` is for this life of it. */
  async up(env: Record<string, string> = {}): Promise<{ url: string; signIn?: string }> {
    const [port, servicesPort] = this.#ports;
    const args = [
      cli,
      'up',
      '--json',
      '--data',
      join(this.folder, 'data'),
      '--port',
      port,
      '--services-port',
      servicesPort,
      ...this.#options,
    ];
    const [command, ...rest] = [...this.#within, ...node, ...args];
    const server = spawn(command!, rest, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...this.#env, ...env },
      cwd: this.folder,
    });
    this.#server = server;
    let text = '';
    for await (const line of createInterface({ input: server.stdout! })) {
      text += line;
      if (line.startsWith('}') || (line.startsWith('{') && line.endsWith('}'))) break;
    }
    if (text === '') throw new Error(`The server ended with ${server.exitCode ?? (await once(server, 'exit'))[0]}.`);
    const started = JSON.parse(text) as { url: string; signIn?: string };
    this.url = started.url;
    this.#ports = [new URL(started.url).port, servicesPort];
    return started;
  }

  get client(): Client {
    return this.clientWith(this.#token);
  }

  clientWith(token: string | undefined): Client {
    const bundle = this.#env.STELLWERK_CA_BUNDLE;
    return createClient({ url: this.url, token, ...(bundle && { caBundle: readFileSync(bundle, 'utf8') }) });
  }

  get token(): string {
    return this.#token;
  }

  get pid(): number {
    return this.#server!.pid!;
  }

  /** Where a run that was started on this machine for its user lies. */
  filesOf(run: string): string[] {
    const above = join(this.folder, 'share', 'stellwerk-runs');
    const files = readdirSync(above, { recursive: true, encoding: 'utf8' }).map((name) => join(above, name));
    const job = files.find((file) => file.endsWith('job.json') && readFileSync(file, 'utf8').includes(run));
    return job === undefined ? [] : files.filter((file) => file.startsWith(dirname(job)));
  }

  /** What scripts of this story find in their environment. */
  get environment(): Record<string, string> {
    return { ...this.#env, STELLWERK_URL: this.url, STELLWERK_TOKEN: this.#token, STELLWERK_WORKSPACE: this.workspace };
  }

  /** The command line as a user types it. */
  cli(
    args: readonly string[],
    options: { cwd?: string; env?: Record<string, string>; input?: string } = {},
  ): Promise<Printed> {
    return execute(node[0], [node[1], cli, ...args], {
      env: { ...this.#env, STELLWERK_WORKSPACE: this.workspace, ...options.env },
      cwd: options.cwd ?? this.folder,
      ...(options.input !== undefined && { input: options.input }),
    });
  }

  /** A Python script with our package on its path. */
  python(
    args: readonly string[],
    options: { cwd?: string; env?: Record<string, string>; input?: string } = {},
  ): Promise<Printed> {
    const env = { ...this.environment, PYTHONPATH: join(repository, 'python', 'src'), ...options.env };
    return execute('python3', args, {
      env,
      cwd: options.cwd ?? this.folder,
      ...(options.input !== undefined && { input: options.input }),
    });
  }

  get isUp(): boolean {
    return this.#server !== undefined && this.#server.exitCode === null && this.#server.signalCode === null;
  }

  /** Gives the exit code, null after a kill. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<number | null> {
    const server = this.#server;
    if (!server || !this.isUp) return server?.exitCode ?? null;
    const ended = once(server, 'exit');
    server.kill(signal);
    return (await ended)[0];
  }

  /** Once the server has ended by itself. */
  async ended(): Promise<void> {
    if (this.isUp) await once(this.#server!, 'exit');
  }

  async restart(signal: 'SIGTERM' | 'SIGKILL' = 'SIGKILL'): Promise<void> {
    await this.stop(signal);
    await this.up();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.isUp && this.#token !== '') await this.up();
    if (this.isUp) await this.#endEverything().catch(() => {}); // the story has failed already if this does
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Runners and replicas outlive the server by design. */
  async #endEverything(): Promise<void> {
    const client = this.client;
    for (const { name: workspace } of (await client.workspaces.list({})).items) {
      const runs = async () =>
        (await client.runs.query({ workspace, pageSize: 1_000 })).items.filter(
          ({ state }) => !endStates.includes(state),
        );
      for (const { id } of await runs()) await client.runs.cancel({ workspace, run: id });
      for (const { name: service } of (await client.services.list({ workspace })).items)
        await client.services.delete({ workspace, service });
      const busy = async () => (await client.services.list({ workspace })).items.length + (await runs()).length;
      while ((await busy()) > 0) await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

export async function execute(
  command: string,
  args: readonly string[],
  { input, ...options }: { cwd: string; env: Record<string, string>; input?: string },
): Promise<Printed> {
  const child = spawn(command, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
  const printed: Printed = { code: -1, stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    printed.stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    printed.stderr += chunk;
  });
  child.stdin.on('error', () => {}); // it may end without reading
  child.stdin.end(input);
  const [code] = await once(child, 'close');
  printed.code = code ?? -1;
  return printed;
}
