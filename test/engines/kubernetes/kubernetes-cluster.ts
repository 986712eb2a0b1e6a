// A real Kubernetes cluster of one node for tests: API server, controllers, scheduler, etcd, kubelet and containerd in namespaces of their own for
// network, mounts and processes, a folder for all that they keep, and an image with Python. It is reached over its own end of a cable and
// reaches nothing but the other end, so that its pods do not reach this machine's loopback. Needs root. By hand: `node test/engines/kubernetes/up.ts`.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { registrySignIn, startRegistry } from '../docker/registry.ts';
import { longest } from '../longest.ts';
import { Administrator } from './api.ts';
import { makeCertificates } from './certificates.ts';
import { makeGroups, processesIn, removeGroups, spaceOf, statusOf, wordsOf } from './control-groups.ts';
import { baseImage, writeFirstImages, writeImageOf } from './images.ts';
import { builtBinary, debianRoot, hasGo } from './programs.ts';
import { containerdSocket, type Place, partsOf, registriesFolder, writeSettings } from './settings.ts';

const has = (command: string) => spawnSync('which', [command], { stdio: 'ignore' }).status === 0;
const missing = ['apt-get', 'mmdebstrap', 'iptables', 'ip', 'openssl'].find((command) => !has(command));

/** Why this machine cannot have one, or undefined. */
export const whyNoKubernetes: string | undefined =
  process.getuid?.() !== 0 ? 'needs root' : !hasGo() ? 'needs Go' : missing ? `needs ${missing}` : undefined;

interface State extends Place {
  /** This machine's end of the cable. */
  here: string;
  /** What starts its first process, and ends with it. */
  machine: number;
}

type Listed = { items: { metadata: { name: string; namespace?: string } }[] };

const readyWithinMs = 120_000;

export class KubernetesCluster implements AsyncDisposable {
  readonly image = baseImage;
  readonly #state: State;
  readonly api: Administrator;
  #stopRegistry = () => {};

  private constructor(state: State) {
    this.#state = state;
    this.api = new Administrator(state.address, join(state.folder, 'pki'));
  }

  static async up(): Promise<KubernetesCluster> {
    const binary = await builtBinary();
    const debian = debianRoot();
    const node = `sk${randomBytes(4).toString('hex')}`;
    // Not below /tmp: that may be in memory, and sockets need a short path.
    const folder = mkdtempSync('/var/tmp/sw-kubernetes-');
    const [here, there] = freeAddresses();
    const cluster = new KubernetesCluster({ node, folder, here, address: there, debian, machine: 0 });
    try {
      placeFile(binary, join(folder, 'kubernetes'));
      makeCertificates(join(folder, 'pki'), node, there);
      writeSettings(cluster.#state);
      mkdirSync(join(folder, 'parts'));
      for (const [part, args] of Object.entries(partsOf(cluster.#state)))
        writeFileSync(join(folder, 'parts', part), `${args.join('\n')}\n`);
      makeGroups(node);
      quietly('ip', 'netns', 'add', node);
      quietly('ip', 'link', 'add', `${node}h`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', node);
      quietly('ip', 'addr', 'add', `${here}/30`, 'dev', `${node}h`);
      quietly('ip', 'link', 'set', `${node}h`, 'up');
      quietly('ip', '-n', node, 'addr', 'add', `${there}/30`, 'dev', 'eth0');
      for (const link of ['eth0', 'lo']) quietly('ip', '-n', node, 'link', 'set', link, 'up');
      await cluster.boot();
      return cluster;
    } catch (error) {
      await cluster.down();
      throw error;
    }
  }

  /** One that was brought up by hand. */
  static found(folder: string): KubernetesCluster {
    return new KubernetesCluster(JSON.parse(readFileSync(join(folder, 'cluster.json'), 'utf8')));
  }

  get folder(): string {
    return this.#state.folder;
  }

  get node(): string {
    return this.#state.node;
  }

  get address(): string {
    return this.#state.address;
  }

  /** By which its nodes and pods reach what listens there on this machine. */
  get hostAddress(): string {
    return this.#state.here;
  }

  /** Does on the node what `stellwerk registry trust --engine containerd` prints. */
  trustRegistry(printed: string): void {
    this.shell(printed.replaceAll('/etc/containerd/certs.d', registriesFolder(this.#state)));
  }

  /** The node has it no more, and pulls it for whoever wants it next. */
  forgetImage(name: string): void {
    const done = this.#ctr('images', 'rm', '--sync', name);
    if (done.status !== 0) throw new Error(`${name} is still there: ${done.stderr}`);
  }

  /** That of its administrator. */
  get kubeconfig(): string {
    return readFileSync(join(this.folder, 'pki', 'admin.kubeconfig'), 'utf8');
  }

  /** Switches the node on. */
  async boot(): Promise<void> {
    const { folder, node, debian } = this.#state;
    const log = openSync(join(folder, 'log', 'node.log'), 'a');
    const apart = ['unshare', '--mount', '--pid', '--fork', '--kill-child', 'bash'];
    const script = join(import.meta.dirname, 'node.sh');
    const child = spawn('nsenter', [`--net=/run/netns/${node}`, ...apart, script, folder, debian], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { PATH: process.env.PATH, HOME: folder },
    });
    child.unref();
    this.#state.machine = child.pid!;
    writeFileSync(join(folder, 'cluster.json'), JSON.stringify(this.#state), { mode: 0o600 });
    await this.#until('containerd answers', async () => this.#ctr('version').status === 0);
    await this.#importFirstImages();
    await this.untilReady();
  }

  async untilReady(): Promise<void> {
    await this.#until('the API server answers', () => this.api.isReady());
    await this.#until('the node is ready', async () => (await this.#isNodeReady()) === 'True');
    await this.#until('there is an account for pods', async () => {
      const { status } = await this.api.ask('GET', '/api/v1/namespaces/default/serviceaccounts/default');
      return status === 200;
    });
  }

  async untilNodeIsGone(): Promise<void> {
    await this.#until('the node is missed', async () => (await this.#isNodeReady()) !== 'True');
  }

  /** Switches the node off, as pulling the plug does: all its processes are gone at once, those of pods too. */
  async crash(): Promise<void> {
    const { machine, node } = this.#state;
    if (machine > 0) await end(machine);
    for (let tries = 0; tries < 500 && processesIn(node).length > 0; tries++) await pause(20);
  }

  /** Ends one of its parts at once; it is started again soon. */
  kill(part: string): void {
    this.shell(`kill -KILL "$(cat '${this.folder}/${part}.pid')"`);
  }

  /** Ends one of its parts for as long as it is not switched on again. */
  switchOff(part: string): void {
    writeFileSync(join(this.folder, 'off', part), '');
    this.kill(part);
  }

  switchOn(part: string): void {
    rmSync(join(this.folder, 'off', part), { force: true });
  }

  cutLink(): void {
    quietly('ip', 'link', 'set', `${this.node}h`, 'down');
  }

  mendLink(): void {
    quietly('ip', 'link', 'set', `${this.node}h`, 'up');
  }

  /** As a device plugin would. */
  async declare(resource: string, count: number): Promise<void> {
    const capacity = { [resource]: String(count) };
    await this.api.ask('PATCH', `/api/v1/nodes/${this.node}/status`, { status: { capacity, allocatable: capacity } });
  }

  /** The node has an image of this name, with Python packages of a folder, or with nothing in it; with more variables for whoever starts in it. */
  addImage(name: string, packages?: string, variables?: Record<string, string>): Promise<void> {
    return this.#import((archive) => writeImageOf(this.folder, archive, name, packages, variables));
  }

  /** A volume on the node's disk, or of so many megabytes, for the one who asks for this class. Where it lies on the node. */
  async addVolume(storageClassName: string, megabytes?: number): Promise<string> {
    const path = join(this.folder, 'volumes', storageClassName);
    mkdirSync(path, { recursive: true });
    if (megabytes !== undefined) this.shell(`mount -t tmpfs -o size=${megabytes}m tmpfs '${path}'`);
    const spec = {
      storageClassName,
      capacity: { storage: '1Gi' },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      hostPath: { path },
    };
    await this.api.ask('POST', '/api/v1/persistentvolumes', { metadata: { name: storageClassName }, spec });
    return path;
  }

  /** The base image in a registry that wants to be signed in to (`registrySignIn`), and not on the node. Its name; gone with the cluster. */
  async addToRegistry(): Promise<string> {
    const registry = await startRegistry(this.folder, this.node);
    this.#stopRegistry = () => registry.stop();
    const name = `${registry.name}/team/base:1`;
    const { user, password } = registrySignIn;
    for (const words of [
      ['tag', baseImage, name],
      ['push', '--plain-http', '--user', `${user}:${password}`, name],
      ['rm', name],
    ]) {
      const done = this.#ctr('images', ...words);
      if (done.status !== 0) throw new Error(`${words[0]}: ${done.stderr}`);
    }
    return name;
  }

  async label(labels: Record<string, string>): Promise<void> {
    await this.api.ask('PATCH', `/api/v1/nodes/${this.node}`, { metadata: { labels } });
  }

  /** Names of what there is of a kind, such as `apis/batch/v1/jobs` or `api/v1/pods`, but the cluster's own. */
  async names(kind: string): Promise<string[]> {
    const { items } = await this.api.get<Listed>(`/${kind}`);
    return items
      .filter(({ metadata }) => !metadata.namespace?.startsWith('kube-'))
      .map(({ metadata }) => `${kind.split('/').at(-1)} ${metadata.name}`);
  }

  /** Ids, as their containers have them, of what lives in pods; if a word is given, in containers whose first process has it among its own. */
  processes(word = ''): string[] {
    const all = processesIn(this.node).filter((pid) => !/^State:\s+[ZX]/m.test(statusOf(pid)));
    const idOf = (pid: string) => /^NSpid:.*\s(\d+)$/m.exec(statusOf(pid))?.[1] ?? '';
    const firsts = all.filter((pid) => idOf(pid) === '1' && wordsOf(pid).includes(word));
    const spaces = firsts.map(spaceOf);
    return all.filter((pid) => word === '' || spaces.includes(spaceOf(pid))).map(idOf);
  }

  /** Root's shell on the node. */
  shell(script: string): string {
    const done = this.#inside('sh', '-c', script);
    if (done.status !== 0) throw new Error(`${script}: ${done.stderr || done.status}`);
    return done.stdout;
  }

  async down(): Promise<void> {
    this.#stopRegistry();
    await this.crash();
    const { node, folder } = this.#state;
    spawnSync('ip', ['netns', 'del', node], { stdio: 'ignore' });
    spawnSync('ip', ['link', 'del', `${node}h`], { stdio: 'ignore' });
    await removeGroups(node);
    rmSync(folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }

  async #isNodeReady(): Promise<string | undefined> {
    type Node = { status?: { conditions?: { type: string; status: string }[] } };
    const { body } = await this.api.ask<Node>('GET', `/api/v1/nodes/${this.node}`);
    return body.status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  }

  async #importFirstImages(): Promise<void> {
    if (this.#ctr('images', 'ls', '-q').stdout.includes(baseImage)) return;
    await this.#import((archive) => writeFirstImages(this.folder, archive));
  }

  async #import(write: (archive: string) => Promise<void>): Promise<void> {
    const archive = join(this.folder, 'images.tar');
    await write(archive);
    const done = this.#ctr('images', 'import', archive);
    if (done.status !== 0) throw new Error(`The images could not be imported: ${done.stderr}`);
    rmSync(archive);
  }

  #ctr(...args: string[]) {
    const ctr = join(this.#state.debian, 'usr', 'bin', 'ctr');
    return this.#inside(ctr, '--address', containerdSocket(this.#state), '--namespace', 'k8s.io', ...args);
  }

  #inside(...words: string[]) {
    const { machine } = this.#state;
    const first = readFileSync(`/proc/${machine}/task/${machine}/children`, 'utf8').trim();
    return spawnSync('nsenter', ['--target', first, '--mount', '--pid', '--net', ...words], {
      ...longest,
      encoding: 'utf8',
    });
  }

  async #until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    const { machine, folder } = this.#state;
    for (const began = performance.now(); performance.now() - began < readyWithinMs; await pause(100)) {
      if (await isSo().catch(() => false)) return;
      if (!existsSync(`/proc/${machine}`)) break;
    }
    const told = ['node', 'kube-apiserver', 'kubelet', 'containerd'].map((part) => {
      const file = join(folder, 'log', `${part}.log`);
      return `${part}: ${existsSync(file) ? readFileSync(file, 'utf8').slice(-1_500) : 'says nothing'}`;
    });
    throw new Error(`It did not come to be that ${what}.\n${told.join('\n')}`);
  }
}

/** Without a copy where that is possible. */
function placeFile(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
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
    const ends: [string, string] = [`10.233.${third}.${fourth + 1}`, `10.233.${third}.${fourth + 2}`];
    if (!taken.has(ends[0])) return ends;
  }
}

function quietly(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}
