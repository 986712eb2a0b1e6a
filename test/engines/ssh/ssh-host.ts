// A Linux machine of its own for tests, with sshd: namespaces for network, mounts, processes, name and IPC, and a disk in memory over this
// machine's system. It can be cut off, switched off and on again; what it wrote is there after that. It reaches nothing but its own end
// of a cable, so not this machine's loopback either. Needs root. By hand: `node test/engines/ssh/up.ts`.
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { longest } from '../longest.ts';

/** Why this machine cannot have one, or undefined. */
export const whyNoSshHost: string | undefined =
  process.getuid?.() !== 0
    ? 'needs root'
    : !existsSync('/usr/sbin/sshd')
      ? 'needs sshd (Debian: openssh-server)'
      : undefined;

export interface SshHostOptions {
  diskMegabytes?: number;
  /** Variables that every session over there has. */
  environment?: Record<string, string>;
}

interface State {
  name: string;
  folder: string;
  address: string;
  /** This machine's end of the cable. */
  reached: string;
  password: string;
  holder: number;
  machine: number;
}

const port = 2222;
const user = 'trainer';

export class SshHost implements AsyncDisposable {
  readonly port = port;
  readonly user = user;
  readonly #state: State;

  private constructor(state: State) {
    this.#state = state;
  }

  static async up({ diskMegabytes = 2048, environment = {} }: SshHostOptions = {}): Promise<SshHost> {
    const name = `sw${randomBytes(4).toString('hex')}`;
    const folder = mkdtempSync(join(tmpdir(), 'stellwerk-ssh-host-'));
    const [here, there] = freeAddresses();
    const state: State = {
      name,
      folder,
      address: there,
      reached: here,
      password: randomBytes(9).toString('base64url'),
      holder: 0,
      machine: 0,
    };
    const host = new SshHost(state);
    try {
      chmodSync(folder, 0o711); // sshd reads the user's keys as that user
      mkdirSync(join(folder, 'keys'), { mode: 0o700 });
      for (const key of ['host', 'other', 'user'])
        quietly('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'keys', key));
      quietly('ssh-keygen', '-q', '-t', 'ed25519', '-N', host.passphrase, '-f', join(folder, 'keys', 'locked'));
      const keys = ['user', 'locked'].map((key) => readFileSync(join(folder, 'keys', `${key}.pub`), 'utf8'));
      writeFileSync(join(folder, 'authorized_keys'), keys.join(''));
      writeFileSync(join(folder, 'sshd_config'), sshdConfig(environment));
      quietly('ip', 'netns', 'add', name);
      quietly('ip', 'link', 'add', `${name}h`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
      quietly('ip', 'addr', 'add', `${here}/30`, 'dev', `${name}h`);
      quietly('ip', 'link', 'set', `${name}h`, 'up');
      quietly('ip', '-n', name, 'addr', 'add', `${there}/30`, 'dev', 'eth0');
      for (const link of ['eth0', 'lo']) quietly('ip', '-n', name, 'link', 'set', link, 'up');
      state.holder = await started(
        [
          'unshare',
          '--mount',
          '--propagation',
          'private',
          'sh',
          '-c',
          diskScript,
          'disk',
          folder,
          String(diskMegabytes),
        ],
        join(folder, 'disk.log'),
      );
      await host.boot();
      host.#save();
      return host;
    } catch (error) {
      await host.down();
      throw error;
    }
  }

  /** One that was brought up by hand. */
  static found(folder: string): SshHost {
    return new SshHost(JSON.parse(readFileSync(join(folder, 'host.json'), 'utf8')));
  }

  get folder(): string {
    return this.#state.folder;
  }

  get address(): string {
    return this.#state.address;
  }

  /** The one address that it reaches: that of this machine, where nothing answers unless a test lets it. */
  get reached(): string {
    return this.#state.reached;
  }

  get password(): string {
    return this.#state.password;
  }

  get passphrase(): string {
    return `${this.#state.name} pass phrase`;
  }

  get home(): string {
    return `/srv/${user}`;
  }

  get hostKey(): string {
    return publicKey(join(this.#state.folder, 'keys', 'host.pub'));
  }

  /** What it shows once it has been changed. */
  get otherHostKey(): string {
    return publicKey(join(this.#state.folder, 'keys', 'other.pub'));
  }

  get fingerprint(): string {
    return execFileSync('ssh-keygen', ['-lf', join(this.folder, 'keys', 'host.pub')], { encoding: 'utf8' }).split(
      ' ',
    )[1]!;
  }

  /** Private, in OpenSSH's own format: `locked` has a passphrase. */
  key(which: 'user' | 'locked' = 'user'): string {
    return readFileSync(join(this.#state.folder, 'keys', which), 'utf8');
  }

  /** Switches it on. */
  async boot(): Promise<void> {
    const { folder, name, holder } = this.#state;
    const bootId = join(folder, 'boot_id');
    writeFileSync(bootId, `${crypto.randomUUID()}\n`);
    const within = ['nsenter', `--mount=/proc/${holder}/ns/mnt`, `--net=/run/netns/${name}`];
    const apart = ['unshare', '--mount', '--pid', '--uts', '--ipc', '--fork', '--kill-child', 'bash', '-c', bootScript];
    this.#state.machine = await started(
      [...within, ...apart, 'boot', folder, name, user, this.#state.password],
      join(folder, 'boot.log'),
      false,
    );
    this.#save();
    await this.#untilAnswers();
  }

  /** Switches it off, as pulling the plug does: all its processes are gone at once, its disk stays as it is. */
  async crash(): Promise<void> {
    await end(this.#state.machine);
  }

  async reboot(): Promise<void> {
    await this.crash();
    await this.boot();
  }

  cutLink(): void {
    quietly('ip', 'link', 'set', `${this.#state.name}h`, 'down');
  }

  mendLink(): void {
    quietly('ip', 'link', 'set', `${this.#state.name}h`, 'up');
  }

  /** Ends sshd with all its connections. */
  killSshd(): void {
    // One of them may beget another while they are looked for.
    this.shell('while pgrep -r R,S,D -x sshd >/dev/null; do pkill -KILL -x sshd; sleep 0.02; done');
  }

  async startSshd(): Promise<void> {
    this.shell('/usr/sbin/sshd -f /host/sshd_config');
    await this.#untilAnswers();
  }

  /** From now on it shows another host key. */
  async changeHostKey(): Promise<void> {
    const { folder } = this.#state;
    writeFileSync(
      join(folder, 'sshd_config'),
      readFileSync(join(folder, 'sshd_config'), 'utf8').replace('/host/keys/host', '/host/keys/other'),
    );
    this.killSshd();
    await this.startSshd();
  }

  /** Root's shell over there, past sshd. */
  shell(script: string): string {
    const done = this.tried(script);
    if (done.status !== 0) throw new Error(`${script}: ${done.stderr || done.status}`);
    return done.stdout;
  }

  tried(script: string): SpawnSyncReturns<string> {
    const first = readFileSync(`/proc/${this.#state.machine}/task/${this.#state.machine}/children`, 'utf8').trim();
    const inside = ['--target', first, '--mount', '--pid', '--uts', '--ipc', '--net'];
    const root = join(this.folder, 'disk', 'root');
    return spawnSync('nsenter', [...inside, 'chroot', root, 'sh', '-c', script], {
      ...longest,
      encoding: 'utf8',
      env: { PATH: process.env.PATH },
    });
  }

  /** Command lines of what the user runs over there, but sshd's own. */
  processes(): string[] {
    const lines = this.shell(`ps -u ${user} -o args= || true`)
      .split('\n')
      .map((line) => line.trim());
    return lines.filter((line) => line !== '' && !/^sshd:|^\(?sd-pam|internal-sftp|sftp-server/.test(line));
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

  async #untilAnswers(): Promise<void> {
    for (let tries = 0; tries < 600; tries++) {
      if (await answers(this.address)) return;
      await pause(50);
    }
    throw new Error(`sshd did not answer: ${readFileSync(join(this.folder, 'boot.log'), 'utf8')}`);
  }

  #save(): void {
    writeFileSync(join(this.#state.folder, 'host.json'), JSON.stringify(this.#state), { mode: 0o600 });
  }
}

/** Mounts the disk and stays, so that it is there whether the machine is on or off. */
const diskScript = `
set -e
cd "$1"
mkdir disk
mount -t tmpfs -o size="$2"m tmpfs disk
mkdir disk/written disk/work disk/root
mount -t overlay overlay -o lowerdir=/,upperdir=disk/written,workdir=disk/work disk/root
echo ready
exec sleep infinity
`;

/** The first process of the machine. */
const bootScript = `
set -e
root="$1/disk/root"
mkdir -p "$root/host" "$root/run/sshd"
mount --bind "$1" "$root/host"
mount -t proc proc "$root/proc"
mount --bind "$1/boot_id" "$root/proc/sys/kernel/random/boot_id"
mount --rbind /dev "$root/dev"
for place in tmp dev/shm; do mount -t tmpfs tmpfs "$root/$place"; done
chmod 1777 "$root/tmp" "$root/dev/shm"
rm -rf "$root/etc/ssh/sshd_config.d"
hostname "$2"
chroot "$root" sh -c 'id "$1" >/dev/null 2>&1 || { useradd -m -b /srv -s /bin/bash "$1" && echo "$1:$2" | chpasswd; }' add "$3" "$4"
chroot "$root" /usr/sbin/sshd -f /host/sshd_config -E /host/sshd.log
while :; do sleep 3600 & wait $!; done
`;

function sshdConfig(environment: Record<string, string>): string {
  const set = Object.entries(environment).map(([name, value]) => `"${name}=${value}"`);
  return `Port ${port}
HostKey /host/keys/host
PidFile /run/sshd.pid
AuthorizedKeysFile /host/authorized_keys
StrictModes no
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin no
AllowUsers ${user}
UseDNS no
Subsystem sftp internal-sftp
${set.length > 0 ? `SetEnv ${set.join(' ')}\n` : ''}`;
}

/** Both ends of a cable. */
function freeAddresses(): [string, string] {
  const taken = new Set(Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)));
  for (;;) {
    const [third, fourth] = [randomBytes(1)[0]!, (randomBytes(1)[0]! >> 2) << 2];
    const ends: [string, string] = [`10.231.${third}.${fourth + 1}`, `10.231.${third}.${fourth + 2}`];
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

function answers(address: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host: address, port, timeout: 1_000 });
  socket.once('data', () => resolve(true));
  for (const event of ['error', 'timeout', 'close']) socket.once(event, () => resolve(false));
  return promise.finally(() => socket.destroy());
}

function quietly(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

const publicKey = (file: string) => readFileSync(file, 'utf8').split(' ').slice(0, 2).join(' ');
