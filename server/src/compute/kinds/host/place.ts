// The place of a job on this machine: a folder, and the Unix id that it belongs to if that is not the server's. Whatever is started for the job
// carries the folder in its environment, by which it is found and ended: the job of the same name of another installation has another folder.
import { createHash } from 'node:crypto';
import { chmod, chown, cp, lstat, mkdir, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { isAlive, killProcess, type ProcessIdentity, processesMarked } from '../../../exec/processes.ts';
import { output, type Program, run } from '../../../exec/programs.ts';
import type { HostNeeds } from './host.ts';
import { unpackedPackage } from './unpacked-package.ts';

/** In the environment of the runner and of all it starts: the folder of the job. */
export const mark = 'STELLWERK_HOST_JOB';
const pollMs = 20;
/** The guard has this many polls to do its work. */
const guardPolls = 250;

export interface Place {
  folder: string;
  uid?: number;
}

type Inherited = Pick<HostNeeds, 'inherited' | 'pythonPackage' | 'folder'>;

/** Our Python package with these arguments, as a program of the job. */
export async function programIn(
  place: Place,
  args: string[],
  { inherited, pythonPackage, folder: runs }: Inherited,
): Promise<Program> {
  const { folder, uid } = place;
  const env = {
    ...(uid === undefined ? inherited : withoutOwnPlaces(inherited)),
    PYTHONPATH: await packageFor(place, await unpackedPackage(pythonPackage, join(runs, '..', 'runner'))),
    PYTHONDONTWRITEBYTECODE: '1',
    [mark]: folder,
  };
  // -S: what is installed beside this machine's Python has no say in a runner, and does not delay it.
  const program = { command: 'python3', args: ['-S', ...args], cwd: folder };
  if (uid === undefined) return { ...program, env };
  return { ...program, env: { ...env, HOME: folder, TMPDIR: join(folder, 'tmp') }, user: { uid, gid: uid } };
}

/** Who cannot enter the data folder gets a copy. */
async function packageFor({ folder, uid }: Place, pythonPackage: string): Promise<string> {
  if (uid === undefined) return pythonPackage;
  const copy = join(folder, 'package', basename(pythonPackage));
  if (await isThere(copy)) return copy;
  await mkdir(join(folder, 'package'), { mode: 0o755, recursive: true });
  await cp(pythonPackage, copy, { recursive: true, preserveTimestamps: true });
  await output({ command: 'chmod', args: ['-R', 'a+rX', join(folder, 'package')] });
  return copy;
}

/** A folder that belongs to an id alone. */
export async function makeOwn({ folder, uid }: Required<Place>): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chown(folder, uid, uid);
  await mkdir(join(folder, 'tmp'), { mode: 0o700, recursive: true });
  await chown(join(folder, 'tmp'), uid, uid);
}

/** A folder of root's that others may pass through, and in which nobody else can put anything. */
export async function makePassage(folder: string): Promise<void> {
  if (await mkdir(folder, { recursive: true })) await chmod(folder, 0o711);
  const owner = await lstat(folder);
  if (owner.uid !== 0 || !owner.isDirectory() || (owner.mode & 0o022) !== 0)
    throw new TargetError('never', `The folder ${folder} must belong to root and be writable by nobody else.`);
}

/** Run ids are free text; a hash of the job's id is a safe name for a folder. */
export function nameOf(id: string): string {
  return createHash('sha256').update(id).digest('hex').slice(0, 32);
}

/**
 * The runner first: its guard, which sees it gone, ends all that descends from it, also what has cleared its environment. Then what is left
 * of those that carry the mark, again until none is: between looking and killing one may have started another.
 */
export async function killAll({ folder, uid }: Place, runner?: ProcessIdentity): Promise<void> {
  const marked = () => processesMarked(mark, folder);
  if (runner && isAlive(runner)) {
    killProcess(runner.pid, 'SIGKILL');
    for (let polls = 0; polls < guardPolls && marked().length > 0; polls++) await pause(pollMs);
  }
  for (let left = marked(); left.length > 0; left = marked()) {
    for (const pid of left) killProcess(pid, 'SIGKILL');
    await pause(pollMs);
  }
  // Whoever cleared its environment is still the only user of this id.
  if (uid !== undefined) await run({ command: 'sh', args: ['-c', 'kill -KILL -1'], user: { uid, gid: uid }, cwd: '/' });
}

/** Whole or not at all, and readable by the job alone. */
export async function writeOwn(file: string, text: string, { uid }: Place): Promise<void> {
  await writeFile(`${file}.new`, text, { mode: 0o600 });
  await chmod(`${file}.new`, 0o600);
  if (uid !== undefined) await chown(`${file}.new`, uid, uid);
  await rename(`${file}.new`, file);
}

export async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** Folders and files of the server's own user mean nothing to another. */
function withoutOwnPlaces(inherited: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(inherited).filter(
      ([name]) => !/^(XDG_|HOME$|TMPDIR$|NETRC$|PIP_CONFIG_FILE$|(PIP|UV)_CACHE_DIR$)/.test(name),
    ),
  );
}
