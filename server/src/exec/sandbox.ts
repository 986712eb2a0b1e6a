// Runs a program of an unpacked image with the image's own files and Python, apart from the machine.
// In namespaces it sees the image (read-only), its own processes, a /tmp of its own and the folders it was given, and nothing
// else of the machine; it holds no privilege and can gain none; when the program that is started here dies, all it started dies too.
// Where the machine refuses namespaces the image's loader runs the image's Python as an ordinary process, and no isolation is claimed.
// No given text is ever part of a shell script: paths, commands and environment are passed as arguments or variables.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findInRoot, ImageRootError, prepareMountPoints, pythonInRoot, resolveInRoot } from './image-root.ts';
import { type Program, run } from './programs.ts';

export type Isolation = 'namespace' | 'none';

export interface Boxed {
  /** The unpacked image on this machine. Shared by all who run it: nothing in it can be changed. */
  rootPath: string;
  /** As in the image: the program (absolute, or found on the image's PATH) and its arguments. */
  command: readonly string[];
  /** The program's whole environment. */
  env: Readonly<Record<string, string>>;
  workdir?: string;
  /** Folders of the machine that the program sees, below /run. */
  folders?: readonly SharedFolder[];
  /** `host`: the machine's network. `none`: no network at all; Unix sockets in shared folders work. */
  network?: 'host' | 'none';
  limits?: { memoryBytes?: number; openFiles?: number; tmpBytes?: number };
}

export interface SharedFolder {
  from: string;
  /** An absolute path in the image, below /run. */
  to: string;
  writable: boolean;
}

/** Whom a program in a box is, if the server is root: nobody, in a process and file tree of its own. */
export const boxedUser = { uid: 65534, gid: 65534 };

const defaultTmpBytes = 1024 ** 3;
const envPrefix = 'STELLWERK_BOX_';
const mounted = ['/proc', '/dev', '/tmp', '/run'];

/**
 * Inside the namespaces, still with the right to mount: builds what the program will see, then runs the last step.
 * Every mount gets all the restrictions it can bear: what the machine has restricted already may not be loosened here.
 * Arguments: root, size of /tmp, pairs of (file, place) up to `--`, triples (folder, place, ro or rw) up to `--`, the last step.
 */
const mountScript = `
set -eu
root=$1 tmp=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro,nosuid,nodev "$root"
mount -t tmpfs -o size=1m,mode=755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o size="$tmp",mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t tmpfs -o size="$tmp",mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t tmpfs -o size=1m,mode=755,nosuid,nodev tmpfs "$root/run"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
while [ "$1" != -- ]; do
  mount --bind "$1" "$root$2"
  mount -o remount,bind,ro,nosuid,nodev,noexec "$root$2"
  shift 2
done
shift
while [ "$1" != -- ]; do
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o remount,bind,"$3",nosuid,nodev,noexec "$root$2"
  shift 3
done
shift
for place in dev run; do mount -o remount,bind,ro "$root/$place"; done
cd /
"$@" &&:
exit $?
`;

/**
 * Run by the image's Python inside: the program's own environment appears only here, where it can do no harm to the tools that
 * built the box. Arguments: bytes of memory and number of open files (0: no limit), working directory, the program.
 */
const launchScript = `
import os, resource, sys
p = b'${envPrefix}'
env = {k[len(p):]: v for k, v in os.environb.items() if k.startswith(p)}
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for limit, value in ((resource.RLIMIT_DATA, int(sys.argv[1])), (resource.RLIMIT_NOFILE, int(sys.argv[2]))):
    if value:
        resource.setrlimit(limit, (value, value))
os.chdir(sys.argv[3])
os.execve(sys.argv[4], sys.argv[4:], env)
`;

/** Starts inside are prepared by this; the result is started with `run` or `startDetached`. Throws ImageRootError. */
export function boxed(box: Boxed, isolation: Isolation): Pick<Program, 'command' | 'args' | 'env'> {
  const [name] = box.command;
  if (name === undefined) throw new ImageRootError('The image has no command to start.');
  const program = findInRoot(box.rootPath, name, box.env.PATH);
  if (program === undefined) throw new ImageRootError(`The image's program ${name} is not in the image.`);
  const command = [program, ...box.command.slice(1)];
  return isolation === 'namespace' ? inNamespaces(box, command) : withImagesLoader(box, command);
}

function inNamespaces(box: Boxed, command: readonly string[]): Pick<Program, 'command' | 'args' | 'env'> {
  const asRoot = process.getuid?.() === 0;
  const files =
    box.network === 'none' ? [] : ['/etc/resolv.conf', '/etc/hosts'].filter((file) => resolveInRoot('/', file));
  prepareMountPoints(box.rootPath, mounted, files);
  if (asRoot) chmodSync(box.rootPath, 0o755); // nobody has to be able to enter it
  for (const { to } of box.folders ?? [])
    if (!/^\/run(\/[\w.-]+)+$/.test(to) || to.includes('/..')) throw new ImageRootError(`${to} is not below /run.`);
  const python = pythonInRoot(box.rootPath, command[0]!, box.env.PATH);
  const args = [
    ...(asRoot ? [] : ['--user', '--map-root-user']),
    ...['--mount', '--pid', '--ipc', '--uts', '--fork', '--kill-child'],
    ...(box.network === 'none' ? ['--net'] : []),
    ...['sh', '-c', mountScript, 'box', box.rootPath, String(box.limits?.tmpBytes ?? defaultTmpBytes)],
    ...files.flatMap((file) => [resolveInRoot('/', file)!, file]),
    '--',
    ...(box.folders ?? []).flatMap(({ from, to, writable }) => [from, to, writable ? 'rw' : 'ro']),
    '--',
    ...(asRoot ? dropFromRoot(box.rootPath) : dropFromUser(box.rootPath)),
    ...[python, ...launch(box.limits, box.workdir ?? '/'), ...command],
  ];
  return { command: 'unshare', args, env: prefixed(box.env) };
}

function launch(limits: Boxed['limits'], workdir: string): string[] {
  return ['-I', '-S', '-c', launchScript, String(limits?.memoryBytes ?? 0), String(limits?.openFiles ?? 0), workdir];
}

function prefixed(env: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).map(([key, value]) => [envPrefix + key, value]));
}

/** Real root becomes nobody, with no way back: no capability left in the bounding set that a program inside could use. */
function dropFromRoot(root: string): string[] {
  const kept = '-all,+sys_chroot,+setuid,+setgid';
  const setpriv = ['setpriv', `--bounding-set=${kept}`, '--inh-caps=-all', '--ambient-caps=-all', '--no-new-privs'];
  return [...setpriv, 'chroot', `--userspec=${boxedUser.uid}:${boxedUser.gid}`, '--groups=', root];
}

/** The namespace's root becomes nobody in a second user namespace; from within a changed root no further one can be made. */
function dropFromUser(root: string): string[] {
  const maps = [`--map-user=${boxedUser.uid}`, `--map-group=${boxedUser.gid}`];
  return ['setpriv', '--no-new-privs', 'unshare', '--user', ...maps, `--root=${root}`, '--wd=/'];
}

const loaders = [
  '/lib64/ld-linux-x86-64.so.2',
  '/lib/ld-linux-aarch64.so.1',
  '/lib/ld-musl-x86_64.so.1',
  '/lib/ld-musl-aarch64.so.1',
];
const libraryFolders = [
  '/usr/local/lib',
  '/lib/x86_64-linux-gnu',
  '/usr/lib/x86_64-linux-gnu',
  '/lib/aarch64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/lib64',
  '/usr/lib64',
  '/lib',
  '/usr/lib',
];

function withImagesLoader(box: Boxed, command: readonly string[]): Pick<Program, 'command' | 'args' | 'env'> {
  const onHost = (path: string) => {
    if (!path.startsWith('/') || ['/proc', '/dev', '/tmp'].includes(path)) return path;
    return sharedOnHost(box, path) ?? resolveInRoot(box.rootPath, path) ?? path;
  };
  const loader = loaders.map((path) => resolveInRoot(box.rootPath, path)).find((path) => path !== undefined);
  if (!loader)
    throw new ImageRootError(
      'The image has no program loader known here, so it needs namespaces, which this machine refuses.',
    );
  const python = onHost(pythonInRoot(box.rootPath, command[0]!, box.env.PATH));
  const libraries = libraryFolders
    .map((folder) => resolveInRoot(box.rootPath, folder))
    .filter((folder) => folder !== undefined);
  const start = [loader, '--library-path', [...new Set(libraries)].join(':')];
  const env = Object.fromEntries(
    Object.entries(box.env).map(([key, value]) => [key, value.split(':').map(onHost).join(':')]),
  );
  const args = [
    ...start.slice(1),
    python,
    ...launch(box.limits, onHost(box.workdir ?? '/')),
    ...start,
    onHost(command[0]!),
    ...command.slice(1).map(onHost),
  ];
  const path = [virtualPackages(box.rootPath, command[0]!), env.PYTHONPATH].filter((entry) => entry).join(':');
  return {
    command: loader,
    args,
    env: prefixed({ ...env, PYTHONHOME: join(python, '../..'), ...(path && { PYTHONPATH: path }) }),
  };
}

/** A virtual environment's Python is a link, which the loader follows; its packages have to be named then. */
function virtualPackages(root: string, program: string): string | undefined {
  const library = join(root, program, '../../lib');
  if (!existsSync(join(root, program, '../../pyvenv.cfg'))) return undefined;
  const version = readdirSync(library).find((name) => name.startsWith('python'));
  return version && join(library, version, 'site-packages');
}

function sharedOnHost(box: Boxed, path: string): string | undefined {
  const folder = box.folders?.find(({ to }) => path === to || path.startsWith(`${to}/`));
  return folder && folder.from + path.slice(folder.to.length);
}

let probed: Promise<Isolation> | undefined;

/** What this machine allows, found out once by really building a box. */
export function isolationHere(): Promise<Isolation> {
  probed ??= probe();
  return probed;
}

async function probe(): Promise<Isolation> {
  const root = mkdtempSync(join(tmpdir(), 'stellwerk-probe-'));
  try {
    for (const folder of mounted) mkdirSync(join(root, folder));
    const asRoot = process.getuid?.() === 0;
    const user = asRoot ? [] : ['--user', '--map-root-user'];
    const namespaces = ['--mount', '--pid', '--ipc', '--uts', '--fork', '--kill-child'];
    const last = asRoot ? dropFromRoot('/') : dropFromUser('/');
    const args = [...user, ...namespaces, 'sh', '-c', mountScript, 'box', root, '65536', '--', '--', ...last, 'true'];
    const ended = await run({ command: 'unshare', args, timeoutMs: 10_000 });
    return ended.code === 0 ? 'namespace' : 'none';
  } catch {
    return 'none';
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
