// The programs of a cluster: all parts of Kubernetes in one, compiled from the Go module proxy once on a machine (10 to 20 minutes), and Debian's
// containerd, runc and network plugins, unpacked and not installed. Kept outside the checkout, named after what they are made from. Only one
// process compiles at a time; whoever comes meanwhile waits for it.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { keptPath } from '../kept.ts';

const source = join(import.meta.dirname, 'binary');
const debian = [
  'containerd',
  'runc',
  'containernetworking-plugins',
  'conntrack',
  'libnetfilter-conntrack3',
  'libseccomp2',
];

/** On a machine of two cores that has other things to do. */
export const buildsWithinMs = 45 * 60_000;

/** The folder of Go's own installation is not on every PATH. */
const environment = () => ({ ...process.env, PATH: `${process.env.PATH}:/usr/local/go/bin`, GOTOOLCHAIN: 'local' });
const answerOf = (command: string, ...args: string[]) =>
  spawnSync(command, args, { encoding: 'utf8', env: environment() }).stdout?.trim() ?? '';

export const hasGo = (): boolean => answerOf('go', 'env', 'GOVERSION') !== '';

/** Where the finished program is, or will be. */
export function binaryPath(): string {
  const parts = ['main.go', 'go.mod', 'go.sum'].map((name) => readFileSync(join(source, name)));
  return join(keptPath('kubernetes', [answerOf('go', 'env', 'GOVERSION', 'GOARCH'), ...parts]), 'kubernetes');
}

/** Compiles it, unless that is done; waits for another process that does. */
export async function builtBinary(): Promise<string> {
  const binary = binaryPath();
  const lock = `${binary}.pid`;
  mkdirSync(join(binary, '..'), { recursive: true, mode: 0o755 });
  for (;;) {
    if (existsSync(binary)) return binary;
    if (taken(lock)) break;
    await pause(1_000);
  }
  const work = `${binary}.work`;
  try {
    rmSync(work, { recursive: true, force: true });
    await compile(binary, work);
  } finally {
    rmSync(work, { recursive: true, force: true });
    rmSync(lock, { force: true });
  }
  return binary;
}

/** Whether it is ours to build now: nobody builds, or whoever did has died. */
function taken(lock: string): boolean {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch {
    const pid = existsSync(lock) ? readFileSync(lock, 'utf8') : '';
    if (pid !== '' && !existsSync(`/proc/${pid}`)) rmSync(lock, { force: true });
    return false;
  }
}

async function compile(binary: string, work: string): Promise<void> {
  cpSync(source, join(work, 'source'), { recursive: true });
  const log = openSync(`${binary}.log`, 'w');
  const args = [
    'build',
    '-p',
    '2',
    '-trimpath',
    '-modcacherw',
    '-ldflags',
    `-s -w ${versionFlags()}`,
    '-o',
    'kubernetes',
    '.',
  ];
  const child = spawn('nice', ['-n', '10', 'go', ...args], {
    cwd: join(work, 'source'),
    stdio: ['ignore', log, log],
    env: {
      ...environment(),
      CGO_ENABLED: '0',
      GOFLAGS: '-buildvcs=false',
      GOMODCACHE: join(work, 'modules'),
      GOCACHE: join(work, 'objects'),
    },
  });
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.on('exit', resolve);
  child.on('error', reject);
  if ((await promise) !== 0)
    throw new Error(`Kubernetes could not be compiled: ${readFileSync(`${binary}.log`, 'utf8').slice(-2_000)}`);
  renameSync(join(work, 'source', 'kubernetes'), binary);
}

/** Without it the parts call themselves v0.0.0, and the kubelet does not match its server. */
function versionFlags(): string {
  const version = /k8s\.io\/kubernetes (v1\.(\d+)\.\d+)/.exec(readFileSync(join(source, 'go.mod'), 'utf8'))!;
  const set = { gitVersion: version[1]!, gitMajor: '1', gitMinor: version[2]!, gitTreeState: 'clean' };
  return Object.entries(set)
    .map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`)
    .join(' ');
}

/** A folder with `usr/bin`, `usr/sbin` and `usr/lib`. */
export function debianRoot(): string {
  const root = keptPath('kubernetes-debian', debian);
  if (existsSync(root)) return root;
  const work = `${root}.${process.pid}`;
  mkdirSync(join(work, 'packages'), { recursive: true });
  try {
    const quietly = { cwd: join(work, 'packages'), stdio: ['ignore', 'ignore', 'pipe'] as const };
    if (spawnSync('apt-get', ['download', ...debian], { cwd: quietly.cwd, stdio: 'ignore' }).status !== 0) {
      execFileSync('apt-get', ['update', '-q'], { ...quietly, stdio: ['ignore', 'ignore', 'pipe'] });
      execFileSync('apt-get', ['download', ...debian], { ...quietly, stdio: ['ignore', 'ignore', 'pipe'] });
    }
    for (const name of readdirSync(quietly.cwd))
      execFileSync('dpkg', ['-x', name, join(work, 'root')], { cwd: quietly.cwd });
    if (!existsSync(root)) renameSync(join(work, 'root'), root);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return root;
}
