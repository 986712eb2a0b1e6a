// Turns Debian packages into the files of a small root filesystem with Python, without root and without running any
// package's scripts. What those scripts would have made is written here. Same packages, same files, bit for bit.
import { lstat, mkdir, readdir, readFile, readlink, rename, rmdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { output, run } from '../../../exec/programs.ts';
import type { LayerEntry } from '../../../oci/oci-images.ts';
import { folderEntries } from './folder-layer.ts';

/** `/bin` and its like are links into `/usr`, as on every Debian of today. */
const merged = ['bin', 'sbin', 'lib', 'lib64'];

/** Not needed to run anything. Licences stay. */
const leftOut = [
  /^usr\/share\/(man|info|locale|lintian|bug|doc-base|menu|applications|pixmaps|binfmts|debconf|initramfs-tools|perl5)(\/|$)/,
  /^usr\/share\/doc\/[^/]+\/(?!copyright$)/,
  /^usr\/lib\/python3[.\d]*\/(test|idlelib|turtledemo)(\/|$)/,
  /(^|\/)__pycache__(\/|$)/,
  /^(etc\/(init\.d|cron\.\w+|update-motd\.d)|var\/cache\/debconf|lib\/systemd)(\/|$)/,
];

const bytecodeScript = `import compileall, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
sys.exit(not compileall.compile_dir(sys.argv[1], quiet=2, force=True, stripdir=sys.argv[2], prependdir="/", invalidation_mode=mode))`;

const passwd = `root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`;
const group = `root:x:0:
tty:x:5:
staff:x:50:
users:x:100:
nogroup:x:65534:
`;

/** Unpacks the packages' files into the folder. */
export async function unpackPackages(debs: readonly string[], root: string, signal?: AbortSignal): Promise<void> {
  const waiting = [...debs];
  const unpackOneAfterAnother = async () => {
    for (let deb = waiting.shift(); deb; deb = waiting.shift()) {
      await output({ command: 'dpkg-deb', args: ['-x', deb, root], timeoutMs: 120_000, ...(signal ? { signal } : {}) });
    }
  };
  await Promise.all([unpackOneAfterAnother(), unpackOneAfterAnother()]);
  for (const name of merged) {
    await moveInto(join(root, name), join(root, 'usr', name));
    await symlink(`usr/${name}`, join(root, name));
  }
}

/** Moves all that is in a folder into another, which may have some of the same folders. */
async function moveInto(from: string, to: string): Promise<void> {
  await mkdir(from, { recursive: true });
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    const both = entry.isDirectory() && (await lstat(target).catch(() => undefined))?.isDirectory();
    await (both ? moveInto(source, target) : rename(source, target));
  }
  await rmdir(from).catch(() => {}); // gone already where it was renamed as a whole
}

/** `3.11`, from the link that Debian's `python3` is. */
export async function pythonMinorOf(root: string): Promise<string> {
  const target = await readlink(join(root, 'usr/bin/python3'));
  return target.replace(/^python/, '');
}

/**
 * Compiles the standard library with the packages' own Python, for its final path and without a look at the sources later.
 * False where that Python does not run on this machine.
 */
export async function compileStandardLibrary(root: string, minor: string, signal?: AbortSignal): Promise<boolean> {
  const library = `usr/lib/python${minor}`;
  const folders = (await readdir(join(root, 'usr/lib'))).filter((name) => name.includes('-linux-gnu'));
  const paths = folders.map((name) => join(root, 'usr/lib', name));
  const loader = (await filesIn(paths)).find((path) => /\/ld-linux[^/]*$/.test(path));
  if (!loader) return false;
  const python = [join(root, `usr/bin/python${minor}`), '-S', '-c', bytecodeScript, join(root, library), root];
  const ended = await run({
    command: loader,
    args: ['--library-path', paths.join(':'), ...python],
    env: { PYTHONHASHSEED: '0', PYTHONHOME: join(root, 'usr'), LC_ALL: 'C.UTF-8' },
    timeoutMs: 120_000,
    ...(signal ? { signal } : {}),
  }).catch(() => undefined);
  return ended?.code === 0;
}

async function filesIn(dirs: readonly string[]): Promise<string[]> {
  return (await Promise.all(dirs.map(async (dir) => (await readdir(dir)).map((name) => join(dir, name))))).flat();
}

/** The files of the finished root filesystem. */
export async function rootEntries(root: string, bytecode: boolean): Promise<LayerEntry[]> {
  const kept = (path: string) =>
    !leftOut.some((pattern) => pattern.test(path) && !(bytecode && pattern.source.includes('pycache')));
  const entries = new Map<string, LayerEntry>();
  for (const entry of await folderEntries(root)) if (kept(entry.path)) entries.set(entry.path, entry);
  for (const entry of await writtenHere(root)) entries.set(entry.path, entry);
  return [...entries.values()];
}

/** What the packages' scripts would have made. */
async function writtenHere(root: string): Promise<LayerEntry[]> {
  const folder = (path: string, mode = 0o755): LayerEntry => ({ path, mode, source: { directory: true } });
  const file = (path: string, text: string | Uint8Array): LayerEntry => ({
    path,
    mode: 0o644,
    source: { bytes: Buffer.from(text) },
  });
  const link = (path: string, target: string): LayerEntry => ({ path, mode: 0o777, source: { symlink: target } });
  return [
    ...['dev', 'proc', 'sys', 'run', 'root', 'home', 'etc', 'var', 'etc/ssl', 'etc/ssl/certs', 'usr/lib/ssl'].map(
      (path) => folder(path),
    ),
    folder('tmp', 0o1777),
    folder('var/tmp', 0o1777),
    file('etc/passwd', passwd),
    file('etc/group', group),
    file('etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n'),
    file('etc/hosts', '127.0.0.1 localhost\n::1 localhost\n'),
    file('etc/resolv.conf', ''),
    file('etc/ld.so.conf', 'include /etc/ld.so.conf.d/*.conf\n'),
    file('etc/ssl/certs/ca-certificates.crt', await certificates(root)),
    link('usr/lib/ssl/cert.pem', '/etc/ssl/certs/ca-certificates.crt'),
    link('usr/lib/ssl/certs', '/etc/ssl/certs'),
    link('usr/bin/sh', 'dash'),
    link('usr/bin/python', 'python3'),
  ];
}

async function certificates(root: string): Promise<Buffer> {
  const dir = join(root, 'usr/share/ca-certificates/mozilla');
  const names = (await readdir(dir)).sort();
  return Buffer.concat(await Promise.all(names.map((name) => readFile(join(dir, name)))));
}
