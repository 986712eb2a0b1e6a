// A Docker Engine of its own for tests: namespaces for network, mounts and processes, a folder for all that it keeps, and a base image with Python.
// It is reached by a socket in that folder, and by TCP with TLS over its own end of a cable; it reaches nothing else. It can be switched off,
// as pulling the plug does, and on again; or only its daemon is killed, and containers stay. Needs root. By hand: `node test/engines/docker/up.ts`.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { clockLibrary, clockOffBy } from '../../wrong-clock/wrong-clock.ts';
import { longest } from '../longest.ts';
import { baseArchive } from './base-archive.ts';
import { type Certificates, makeCertificates } from './certificates.ts';
import { type Registry, registrySignIn, startRegistry } from './registry.ts';

const has = (command: string) => spawnSync('which', [command], { stdio: 'ignore' }).status === 0;

/** Why this machine cannot have one, or undefined. */
export const whyNoDocker: string | undefined =
  process.getuid?.() !== 0
    ? 'needs root'
    : !has('dockerd') || !has('iptables')
      ? 'needs dockerd (Debian: docker.io, iptables)'
      : !has('mmdebstrap')
        ? 'needs mmdebstrap'
        : undefined;

export interface DockerEngineOptions {
  /** A disk in memory, of that size, for all that it keeps; gone when it is switched off. */
  diskMegabytes?: number;
  /** `machine`: containers have this machine's network, and no other; nothing of it is changed. */
  network?: 'own' | 'machine';
}

interface State extends DockerEngineOptions {
  name: string;
  folder: string;
  network: 'own' | 'machine';
  address: string;
  /** The first process of its namespaces. */
  machine: number;
}

const port = 2376;

export class DockerEngine implements AsyncDisposable {
  readonly image = 'base:1';
  readonly #state: State;
  #registry: Registry | undefined;

  private constructor(state: State) {
    this.#state = state;
  }

  static async up({ network = 'own', ...options }: DockerEngineOptions = {}): Promise<DockerEngine> {
    const name = `sd${randomBytes(4).toString('hex')}`;
    const base = baseArchive();
    // Not below /tmp: that may be in memory, and sockets need a short path.
    const folder = mkdtempSync('/var/tmp/sw-docker-');
    const [here, there] = freeAddresses();
    const engine = new DockerEngine({ ...options, name, folder, network, address: there, machine: 0 });
    try {
      makeCertificates(join(folder, 'tls'), there);
      if (network === 'own') layCable(name, here, there);
      await engine.start();
      engine.docker('import', base, engine.image);
      return engine;
    } catch (error) {
      await engine.down();
      throw error;
    }
  }

  /** One that was brought up by hand. */
  static found(folder: string): DockerEngine {
    return new DockerEngine(JSON.parse(readFileSync(join(folder, 'engine.json'), 'utf8')));
  }

  get folder(): string {
    return this.#state.folder;
  }

  get socket(): string {
    return join(this.#state.folder, 'docker.sock');
  }

  get tcpAddress(): string {
    return `tcp://${this.#state.address}:${port}`;
  }

  /** What a client signs in with. */
  get certificates(): Certificates {
    return this.certificatesIn('tls');
  }

  certificatesIn(folder: string): Certificates {
    const of = (name: string) => readFileSync(join(this.folder, folder, `${name}.pem`), 'utf8');
    return { ca: of('ca'), certificate: of('client'), key: of('client-key') };
  }

  /** An image with nothing in it. */
  emptyImage(name: string): void {
    const archive = join(this.folder, 'empty.tar');
    writeFileSync(archive, Buffer.alloc(10_240));
    this.docker('import', archive, name);
  }

  /** Switches it on. */
  async start(): Promise<void> {
    const { folder, name, diskMegabytes = 0 } = this.#state;
    rmSync(join(folder, 'exec'), { recursive: true, force: true });
    const apart = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private'];
    const within = this.#state.network === 'own' ? ['nsenter', `--net=/run/netns/${name}`] : [];
    const words = ['sh', '-c', machineScript, 'machine', join(folder, 'data'), String(diskMegabytes)];
    const [command, ...args] = [...within, ...apart, ...words];
    const child = spawn(command!, args, { detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
    child.unref();
    this.#state.machine = child.pid!;
    writeFileSync(join(folder, 'engine.json'), JSON.stringify(this.#state), { mode: 0o600 });
    await once(child.stdout, 'data');
    child.stdout.destroy();
    await this.startDaemon();
  }

  /** `isKeeping`: containers that a killed one left go on; otherwise it ends them. */
  async startDaemon({ isKeeping = false } = {}): Promise<void> {
    const { folder } = this.#state;
    rmSync(join(folder, 'pid'), { force: true });
    const log = openSync(join(folder, 'dockerd.log'), 'a');
    const flags = [...dockerdFlags(this.#state), ...(isKeeping ? ['--live-restore'] : [])];
    const [command, ...args] = this.#inside('dockerd', ...flags);
    const child = spawn(command!, args, { detached: true, stdio: ['ignore', log, log] });
    child.unref();
    for (let tries = 0; tries < 600; tries++) {
      if (this.tried('version').status === 0) return;
      if (child.exitCode !== null) break;
      await pause(100);
    }
    throw new Error(`dockerd did not start: ${readFileSync(join(folder, 'dockerd.log'), 'utf8').slice(-2_000)}`);
  }

  /** Only the daemon and what looks after containers for it: these stay. */
  killDaemon(): void {
    const kill = 'kill -KILL "$(cat "$1")"; while pgrep -x "dockerd|containerd" >/dev/null; do sleep 0.05; done';
    quietly(...this.#inside('sh', '-c', kill, 'kill', join(this.folder, 'pid')));
  }

  #inside(...words: string[]): [string, ...string[]] {
    const { machine } = this.#state;
    const first = readFileSync(`/proc/${machine}/task/${machine}/children`, 'utf8').trim();
    return ['nsenter', '--target', first, '--mount', '--pid', '--net', ...words];
  }

  /** Switches it off: all its processes are gone at once, those of containers too. */
  async crash(): Promise<void> {
    const { machine, name } = this.#state;
    if (machine > 0) await end(machine);
    for (let tries = 0; tries < 500 && processesIn(cgroupOf(name)).length > 0; tries++) await pause(20);
  }

  /** The client of the engine. */
  docker(...args: string[]): string {
    const { status, stdout, stderr } = this.tried(...args);
    if (status !== 0) throw new Error(`docker ${args.join(' ')}: ${stderr}`);
    return stdout.trim();
  }

  tried(...args: string[]) {
    return spawnSync('docker', ['-H', `unix://${this.socket}`, ...args], {
      ...longest,
      encoding: 'utf8',
      env: { PATH: process.env.PATH, HOME: this.folder },
    });
  }

  /** Names of all containers, and of volumes. */
  left(): string[] {
    const names = (...args: string[]) =>
      this.docker(...args)
        .split('\n')
        .filter((line) => line !== '');
    return [
      ...names('ps', '-a', '--format', '{{.Names}} {{.Status}}'),
      ...names('volume', 'ls', '--format', '{{.Name}}'),
    ];
  }

  /** Ids, as their containers have them, of what lives in containers. */
  processes(): string[] {
    return processesIn(cgroupOf(this.#state.name)).flatMap((pid) => {
      const status = statusOf(pid);
      return /^State:\s+[ZX]/m.test(status) ? [] : (/^NSpid:.*\s(\d+)$/m.exec(status)?.slice(1, 2) ?? []);
    });
  }

  /** The base image with what is installed in a folder of Python packages. */
  imageWith(packages: string, name: string): void {
    this.docker('create', '--name', 'making', this.image, 'true');
    this.docker('cp', `${packages}/.`, 'making:/usr/local/lib/python3.11/dist-packages/');
    this.docker('commit', 'making', name);
    this.docker('rm', 'making');
  }

  /** The base image, where all that runs has a clock that is off by so many hours. */
  imageWithClock(hours: number, name: string): void {
    this.docker('create', '--name', 'making', this.image, 'true');
    this.docker('cp', clockLibrary(), 'making:/opt/clock.so');
    const set = Object.entries(clockOffBy(hours, '/opt/clock.so')).map((one) => one.join('='));
    this.docker('commit', '--change', `ENV ${set.join(' ')}`, 'making', name);
    this.docker('rm', 'making');
  }

  /** One that is signed in to, in which the base image is under its name. */
  async registry(): Promise<string> {
    this.#registry ??= await startRegistry(this.folder, this.#state.name);
    const { user, password } = registrySignIn;
    const image = `${this.#registry.name}/team/base:1`;
    this.docker('login', '--username', user, '--password', password, this.#registry.name);
    this.docker('tag', this.image, image);
    this.docker('push', '--quiet', image);
    this.docker('rmi', image);
    this.docker('logout', this.#registry.name);
    return image;
  }

  async down(): Promise<void> {
    const { name, folder } = this.#state;
    this.#registry?.stop();
    await this.crash();
    spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
    spawnSync('ip', ['link', 'del', `${name}h`], { stdio: 'ignore' });
    for (const group of cgroupsOf(name))
      spawnSync('find', [group, '-depth', '-type', 'd', '-delete'], { stdio: 'ignore' });
    rmSync(folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }
}

/** The first process of its namespaces: it looks after orphans for as long as it is on. */
const machineScript = `
mkdir -p "$1"
[ "$2" = 0 ] || mount -t tmpfs -o size="$2"m tmpfs "$1"
echo ready
while :; do sleep 3600 & wait $!; done
`;

function dockerdFlags({ folder, network, address, name }: State): string[] {
  const tls = (file: string) => join(folder, 'tls', `${file}.pem`);
  return [
    ...['--data-root', join(folder, 'data'), '--exec-root', join(folder, 'exec'), '--pidfile', join(folder, 'pid')],
    ...['-H', `unix://${join(folder, 'docker.sock')}`],
    ...(network === 'machine'
      ? ['--bridge=none', '--iptables=false', '--ip6tables=false']
      : ['-H', `tcp://${address}:${port}`, '--tlsverify', '--tlscacert', tls('ca')]),
    ...(network === 'machine' ? [] : ['--tlscert', tls('server'), '--tlskey', tls('server-key')]),
    ...['--cgroup-parent', cgroupOf(name), '--default-ulimit', 'nofile=20000:20000'],
  ];
}

const cgroupOf = (name: string) => `/stellwerk-${name}`;

function cgroupsOf(name: string): string[] {
  const above = '/sys/fs/cgroup';
  const found = spawnSync('find', [above, '-maxdepth', '2', '-type', 'd', '-name', `stellwerk-${name}`], {
    encoding: 'utf8',
  });
  return found.stdout.split('\n').filter((line) => line !== '');
}

/** Whatever the version of cgroups is: a process says itself where it is. */
function processesIn(cgroup: string): string[] {
  const { stdout } = spawnSync('sh', ['-c', `grep -l -F '${cgroup}/' /proc/[0-9]*/cgroup 2>/dev/null`], {
    encoding: 'utf8',
  });
  return stdout.split('\n').flatMap((line) => line.split('/')[2] ?? []);
}

function statusOf(pid: number | string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return 'State: Z';
  }
}

async function end(pid: number): Promise<void> {
  // It hands the signal on to what it started (`--kill-child`), the first process of the namespace; with that one all others go.
  if (/^State:\s+Z/m.test(statusOf(pid))) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    return;
  }
  while (existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(statusOf(pid))) await pause(10);
}

/** Both ends of a cable. */
function freeAddresses(): [string, string] {
  const taken = new Set(Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)));
  for (;;) {
    const [third, fourth] = [randomBytes(1)[0]!, (randomBytes(1)[0]! >> 2) << 2];
    const ends: [string, string] = [`10.232.${third}.${fourth + 1}`, `10.232.${third}.${fourth + 2}`];
    if (!taken.has(ends[0])) return ends;
  }
}

function layCable(name: string, here: string, there: string): void {
  quietly('ip', 'netns', 'add', name);
  quietly('ip', 'link', 'add', `${name}h`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  quietly('ip', 'addr', 'add', `${here}/30`, 'dev', `${name}h`);
  quietly('ip', 'link', 'set', `${name}h`, 'up');
  quietly('ip', '-n', name, 'addr', 'add', `${there}/30`, 'dev', 'eth0');
  for (const link of ['eth0', 'lo']) quietly('ip', '-n', name, 'link', 'set', link, 'up');
}

function quietly(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}
