// The Pythons of this machine: what `python3` is, what else lies on the path, and what pyenv and uv have installed.
// A name that does not start (a shim without a version behind it) is not a Python.
import { access, constants, readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { output, plainEnvironment } from '../exec/programs.ts';
import { minorNumber } from './specification.ts';

export interface Python {
  /** Where it was found; starting it there gives this Python. */
  path: string;
  minor: string;
  version: string;
}

type Environment = Readonly<Record<string, string>>;

const oldest = 8;
const newest = 30;
const question =
  'import json,sys,sysconfig;print(json.dumps([sys.implementation.name,list(sys.version_info[:3]),sys.executable,bool(sysconfig.get_config_var("Py_GIL_DISABLED"))]))';

/** The one behind `python3` first, then by minor; of one minor, the newest patch, and of equal ones the first found. */
export async function findPythons(inherited: Environment): Promise<Python[]> {
  const paths = await candidates(inherited);
  const found = (await Promise.all(paths.map(ask))).filter((python) => python !== undefined);
  const [first] = found;
  if (!first) return [];
  const rest = found.sort((a, b) => minorNumber(a.minor) - minorNumber(b.minor) || patch(b) - patch(a));
  return [first, ...rest.filter((python) => python !== first)];
}

function patch({ version }: Python): number {
  return Number(version.split('.')[2]);
}

/** Existing files, each real file once, in the order in which a shell would find them. */
async function candidates(inherited: Environment): Promise<string[]> {
  const home = inherited.HOME ?? '';
  const onPath = (plainEnvironment().PATH ?? '').split(':').filter((folder) => folder.startsWith('/'));
  const names = (folder: string) =>
    folder.endsWith('/shims')
      ? ['python3']
      : ['python3', ...Array.from({ length: newest - oldest + 1 }, (_, at) => `python3.${at + oldest}`)];
  const pyenv = await versionsBelow(join(inherited.PYENV_ROOT ?? join(home, '.pyenv'), 'versions'));
  const managed = await versionsBelow(
    inherited.UV_PYTHON_INSTALL_DIR ?? join(inherited.XDG_DATA_HOME ?? join(home, '.local', 'share'), 'uv', 'python'),
  );
  const all = [
    ...onPath.map((folder) => join(folder, 'python3')),
    ...onPath.flatMap((folder) => names(folder).map((name) => join(folder, name))),
    ...pyenv,
    ...managed,
  ];
  const real = new Map<string, string>();
  for (const path of all) {
    const file = await realpath(path).catch(() => undefined);
    if (file && !real.has(file) && (await stat(file)).isFile()) real.set(file, path);
  }
  return [...real.values()];
}

/** Whether one of the programs that install conda's packages is on the path, as the runner looks for it. */
export async function hasConda(): Promise<boolean> {
  const folders = (plainEnvironment().PATH ?? '').split(':').filter((folder) => folder.startsWith('/'));
  const programs = folders.flatMap((folder) => ['micromamba', 'mamba', 'conda'].map((name) => join(folder, name)));
  const found = programs.map((program) =>
    access(program, constants.X_OK)
      .then(() => true)
      .catch(() => false),
  );
  return (await Promise.all(found)).includes(true);
}

async function versionsBelow(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.sort().map((name) => join(folder, name, 'bin', 'python3'));
}

async function ask(path: string): Promise<Python | undefined> {
  try {
    const [implementation, parts, executable, freeThreaded] = JSON.parse(
      await output({ command: path, args: ['-I', '-c', question], timeoutMs: 20_000 }),
    ) as [string, number[], string, boolean];
    const [major, minor] = parts;
    if (implementation !== 'cpython' || freeThreaded || major !== 3 || minor === undefined || minor < oldest)
      return undefined;
    // A shim is left behind for what it starts, so that it means the same in every folder.
    return { path: path.includes('/shims/') ? executable : path, minor: `3.${minor}`, version: parts.join('.') };
  } catch {
    return undefined;
  }
}
