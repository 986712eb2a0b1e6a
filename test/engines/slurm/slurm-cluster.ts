// A Slurm cluster of its own for tests: a head with sshd, controller, accounting and REST, machines that are always on and machines that are switched
// on when they are wanted, each with a network, names, processes and mounts of its own, all with one disk in memory over this machine's system.
// The head is reached by a cable; its other machines reach each other and the head, and nothing else. Needs root. By hand: `node test/engines/slurm/up.ts`.
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { longest } from '../longest.ts';
import {
  type ClusterUser,
  cgroupConf,
  gresConf,
  headAddress,
  hosts,
  nodes,
  restPort,
  slurmConf,
  slurmdbdConf,
  sshdConfig,
  users,
} from './configuration.ts';
import { databaseArchive } from './database.ts';
import { installSlurm } from './packages.ts';

interface State {
  name: string;
  folder: string;
  address: string;
  holder: number;
  machine: number;
}

const scripts = ['services.sh', 'node.sh', 'boot-node.sh', 'resume.sh', 'suspend.sh'];

/** Where nodes reach who is behind the head. */
export const leadingUrl = `http://${headAddress}:8470`;

/** Each connection is passed on to another machine. */
const leadingOn = `
import asyncio, sys
host, port, to, their_port = sys.argv[1:]
async def pass_on(reader, writer):
    while True:
        data = await reader.read(65536)
        if not data:
            break
        writer.write(data)
        await writer.drain()
    writer.close()
async def heard(reader, writer):
    there, back = await asyncio.open_connection(to, int(their_port))
    await asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(heard, host, int(port)) as server:
        await server.serve_forever()
asyncio.run(main())
`;

export class SlurmCluster implements AsyncDisposable {
  readonly port = 2222;
  readonly #state: State;

  private constructor(state: State) {
    this.#state = state;
  }

  /** With this machine's own Slurm, or the later one of another system (`newer-release.ts`), which keeps no accounts. */
  static async up({ root = '/' }: { root?: string } = {}): Promise<SlurmCluster> {
    const keepsAccounts = root === '/';
    installSlurm();
    const name = `sl${randomBytes(4).toString('hex')}`;
    const folder = mkdtempSync(join(tmpdir(), 'stellwerk-slurm-'));
    const [here, there] = freeAddresses();
    const state: State = { name, folder, address: there, holder: 0, machine: 0 };
    const cluster = new SlurmCluster(state);
    try {
      furnish(folder, keepsAccounts);
      quietly('ip', 'netns', 'add', name);
      quietly('ip', 'link', 'add', `${name}h`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
      quietly('ip', 'addr', 'add', `${here}/30`, 'dev', `${name}h`);
      quietly('ip', 'link', 'set', `${name}h`, 'up');
      quietly('ip', '-n', name, 'addr', 'add', `${there}/30`, 'dev', 'eth0');
      quietly('ip', '-n', name, 'link', 'set', 'eth0', 'up');
      const disk = ['unshare', '--mount', '--propagation', 'private', 'sh', join(import.meta.dirname, 'disk.sh')];
      state.holder = await started([...disk, folder, '6144', root], join(folder, 'disk.log'));
      if (keepsAccounts) cluster.#onDisk('tar', '-C', join(folder, 'disk', 'root'), '-xf', databaseArchive());
      await cluster.boot();
      return cluster;
    } catch (error) {
      await cluster.down();
      throw error;
    }
  }

  /** One that was brought up by hand. */
  static found(folder: string): SlurmCluster {
    return new SlurmCluster(JSON.parse(readFileSync(join(folder, 'cluster.json'), 'utf8')));
  }

  get folder(): string {
    return this.#state.folder;
  }

  get address(): string {
    return this.#state.address;
  }

  /** This machine's own, on the cable to it. */
  get near(): string {
    return this.address.replace(/\d+$/, (last) => String(Number(last) - 1));
  }

  /** From now on its nodes, which reach nobody but the head, are led on from there to a port of this machine. */
  leadTo(port: number): void {
    const { hostname, port: there } = new URL(leadingUrl);
    this.shell(
      `setsid python3 -c '${leadingOn}' ${hostname} ${there} ${this.near} ${port} >/run/leading.log 2>&1 </dev/null &`,
    );
  }

  get restUrl(): string {
    return `http://${this.address}:${restPort}`;
  }

  get hostKey(): string {
    return readFileSync(join(this.folder, 'engine', 'keys', 'host.pub'), 'utf8')
      .split(' ')
      .slice(0, 2)
      .join(' ');
  }

  /** A user's private key. */
  key(user: ClusterUser = 'trainer'): string {
    return readFileSync(join(this.folder, 'engine', 'keys', user), 'utf8');
  }

  home(user: ClusterUser = 'trainer'): string {
    return `/srv/${user}`;
  }

  /** A token for Slurm's REST interface. */
  token(user: ClusterUser = 'trainer'): string {
    return this.shell(`scontrol token lifespan=86400 username=${user}`)
      .trim()
      .replace(/^SLURM_JWT=/, '');
  }

  /** Switches all of it on. */
  async boot(): Promise<void> {
    const { folder, name, holder } = this.#state;
    const within = ['nsenter', `--mount=/proc/${holder}/ns/mnt`, `--net=/run/netns/${name}`];
    const apart = ['unshare', '--mount', '--pid', '--uts', '--ipc', '--fork', '--kill-child'];
    const head = ['bash', join(import.meta.dirname, 'head.sh'), folder];
    this.#state.machine = await started([...within, ...apart, ...head], join(folder, 'boot.log'), false);
    writeFileSync(join(folder, 'cluster.json'), JSON.stringify(this.#state), { mode: 0o600 });
    await this.#until(`sinfo -h -t idle -o %n -N -p batch | sort -u | wc -l`, String(nodes.length));
    await this.#until(`curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:${restPort}/openapi || true`, '401|200');
  }

  /** Switches all of it off, as pulling the plug does. */
  async crash(): Promise<void> {
    await end(this.#state.machine);
  }

  cutLink(): void {
    quietly('ip', 'link', 'set', `${this.#state.name}h`, 'down');
  }

  mendLink(): void {
    quietly('ip', 'link', 'set', `${this.#state.name}h`, 'up');
  }

  /** Switches one machine off, as pulling the plug does. */
  crashNode(node: string): void {
    this.shell(`/engine/node.sh down ${node}`);
  }

  /** Switches one machine on, until the cluster has it again. */
  bootNode(node: string): void {
    this.shell(`/engine/node.sh up ${node}`);
    const isIdle = `[ "$(sinfo -h -n ${node} -o %T | head -n 1)" = idle ]`;
    const resume = `scontrol update NodeName=${node} State=RESUME 2>/dev/null`;
    this.shell(`for try in $(seq 300); do ${isIdle} && exit 0; ${resume}; sleep 0.2; done; sinfo >&2; exit 1`);
  }

  /** Root's shell on the head, past sshd. */
  shell(script: string): string {
    const done = this.tried(script);
    if (done.status !== 0) throw new Error(`${script}: ${done.stderr || done.status}`);
    return done.stdout;
  }

  tried(script: string): SpawnSyncReturns<string> {
    return this.#inside(this.#first(), script);
  }

  /** Root's shell on one of the other machines. */
  nodeShell(node: string, script: string): string {
    const pid = this.shell(`cat /proc/$(cat /run/nodes/${node}/pid)/task/*/children | cut -d' ' -f1`).trim();
    return this.shell(`nsenter --target ${pid} --root --wd=/ --mount --pid --uts --ipc --net sh -c ${quoted(script)}`);
  }

  /** Command lines of what the users run anywhere on the cluster, but those of sshd and of Slurm itself. The head sees the processes of all. */
  processes(): string[] {
    const lines = this.shell(`ps -u ${users.join(',')} -o args= || true`)
      .split('\n')
      .map((line) => line.trim());
    return lines.filter((line) => line !== '' && !/^sshd:|internal-sftp|sftp-server/.test(line));
  }

  async down(): Promise<void> {
    const { name, folder, machine, holder } = this.#state;
    for (const pid of [machine, holder]) if (pid > 0) await end(pid);
    for (const args of [
      ['netns', 'del', name],
      ['link', 'del', `${name}h`],
    ])
      spawnSync('ip', args, { stdio: 'ignore' });
    rmSync(folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }

  #first(): string {
    return readFileSync(`/proc/${this.#state.machine}/task/${this.#state.machine}/children`, 'utf8').trim();
  }

  #inside(pid: string, script: string): SpawnSyncReturns<string> {
    const into = ['--target', pid, '--mount', '--pid', '--uts', '--ipc', '--net'];
    const root = ['chroot', join(this.folder, 'disk', 'root'), 'sh', '-c', script];
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
    return spawnSync('nsenter', [...into, ...root], { ...longest, encoding: 'utf8', env });
  }

  #onDisk(...words: string[]): void {
    quietly('nsenter', `--mount=/proc/${this.#state.holder}/ns/mnt`, ...words);
  }

  async #until(script: string, answer: string): Promise<void> {
    for (let tries = 0; tries < 900; tries++) {
      const { stdout } = this.#first() === '' ? { stdout: '' } : this.tried(script);
      if (new RegExp(`^(${answer})$`).test((stdout ?? '').trim())) return;
      await pause(100);
    }
    const logs = this.tried('tail -n 20 /var/log/slurm*.log /var/log/boot.*.log /var/log/mariadbd.log').stdout;
    throw new Error(`The cluster did not come up: ${readFileSync(join(this.folder, 'boot.log'), 'utf8')}\n${logs}`);
  }
}

/** All that the machines of the cluster find in /engine. */
function furnish(folder: string, keepsAccounts: boolean): void {
  const engine = join(folder, 'engine');
  chmodSync(folder, 0o711); // sshd reads the users' keys as those users
  for (const place of [engine, join(engine, 'authorized')]) mkdirSync(place, { mode: 0o755 });
  mkdirSync(join(engine, 'keys'), { mode: 0o700 });
  for (const key of ['host', ...users])
    quietly('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(engine, 'keys', key));
  for (const user of users) copyFileSync(join(engine, 'keys', `${user}.pub`), join(engine, 'authorized', user));
  const files: Record<string, string | Uint8Array> = {
    'slurm.conf': slurmConf(keepsAccounts),
    'gres.conf': gresConf,
    'cgroup.conf': cgroupConf,
    'slurmdbd.conf': slurmdbdConf,
    sshd_config: sshdConfig,
    hosts: hosts(),
    settings: `USERS="${users.join(' ')}"\nNODES="${nodes.join(' ')}"\nHEAD=${headAddress}\nREST=${restPort}\n`,
    'munge.key': randomBytes(1024),
    'jwt.key': randomBytes(32),
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(engine, name), content);
  for (const name of ['munge.key', 'jwt.key']) chmodSync(join(engine, name), 0o600);
  for (const script of scripts) {
    copyFileSync(join(import.meta.dirname, script), join(engine, script));
    chmodSync(join(engine, script), 0o755);
  }
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

/** Starts what stays, and waits until it says `ready`. */
async function started([command, ...args]: string[], log: string, isAwaited = true): Promise<number> {
  const child = spawn(command!, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  child.unref();
  let told = '';
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      told += chunk;
      writeFileSync(log, told);
      if (told.includes('ready')) resolve();
    });
  writeFileSync(log, '');
  child.on('error', reject);
  child.on('exit', () => reject(new Error(told)));
  if (isAwaited) await promise;
  else promise.catch(() => {});
  for (const stream of [child.stdout, child.stderr]) (stream as unknown as { unref(): void }).unref();
  return child.pid!;
}

async function end(pid: number): Promise<void> {
  if (!existsSync(`/proc/${pid}`)) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    return;
  }
  while (existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(statusOf(pid))) await pause(10);
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return 'State: Z';
  }
}

function quietly(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
