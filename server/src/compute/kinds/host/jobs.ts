// Runs on the server's own machine: a folder per job, a runner started in it that outlives the server and is found again by its
// process id and start time. Everything a job starts carries its mark in the environment.
// Invariants: one runner per job, however often it is started; after `cleanUp` no process and no file of the job is left;
// the job's token lies in a 0600 file and never in arguments.
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { chmod, chown, copyFile, cp, lstat, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { identify, isAlive, killProcess, type ProcessIdentity, processesMarked } from '../../../exec/processes.ts';
import { output, ProgramFailed, run, startDetached } from '../../../exec/programs.ts';
import type { JobHandle, JobOrder, JobState, RunsJobs, Target } from '../../driver.ts';
import type { HostNeeds } from './host.ts';
import { findUser } from './unix-users.ts';

/** In the environment of the runner and of all it starts. */
const mark = 'STELLWERK_HOST_JOB';
const recoverWithinMs = 10 * 60_000;
const pollMs = 20;
/** The guard has this many polls to do its work. */
const guardPolls = 250;

/** A job's place: its folder, and the id it runs under if that is not the server's. */
interface Place {
  folder: string;
  uid?: number;
}

export class HostJobs implements RunsJobs<'host'> {
  readonly #needs: HostNeeds;
  /** Ids are given out one at a time. */
  #placing: Promise<unknown> = Promise.resolve();

  constructor(needs: HostNeeds) {
    this.#needs = needs;
  }

  async start(target: Target<'host'>, { id, job }: JobOrder): Promise<JobHandle> {
    const place = await this.#placeFor(target, id);
    const running = await found(place.folder);
    if (running) return handleOf(place, running);
    const pythonPackage = await this.#packageFor(place);
    const cacheFolder = place.uid === undefined ? this.#needs.cacheFolder : join(place.folder, 'cache');
    await writeOwn(join(place.folder, 'job.json'), JSON.stringify({ ...job, cacheFolder }), place);
    const log = openSync(join(place.folder, 'runner.log'), 'a', 0o600);
    try {
      const { pid } = startDetached({
        ...this.#program(place, ['-m', 'stellwerk.runner', place.folder], pythonPackage),
        outputFd: log,
      });
      const runner = identify(pid);
      if (!runner)
        throw new TargetError(
          'later',
          `The runner ended as soon as it was started. ${await endOf(join(place.folder, 'runner.log'))}`,
        );
      await writeFile(join(place.folder, 'process.json'), JSON.stringify(runner), { mode: 0o600 });
      return handleOf(place, runner);
    } catch (error) {
      if (error instanceof ProgramFailed) throw new TargetError('never', error.message);
      throw error;
    } finally {
      closeSync(log);
    }
  }

  async look(_target: Target<'host'>, handle: JobHandle): Promise<JobState> {
    return isAlive(runnerOf(handle)) ? 'running' : 'ended';
  }

  async cancel(_target: Target<'host'>, handle: JobHandle, how: 'ask' | 'kill'): Promise<void> {
    const runner = runnerOf(handle);
    if (how === 'ask') {
      if (isAlive(runner)) killProcess(runner.pid, 'SIGTERM');
      return;
    }
    await killAll(placeOf(handle), runner);
  }

  async recover(_target: Target<'host'>, handle: JobHandle): Promise<void> {
    const place = placeOf(handle);
    await killAll(place, runnerOf(handle));
    if (!(await isThere(join(place.folder, 'job.json')))) return;
    const pythonPackage = await this.#packageFor(place);
    const program = this.#program(place, ['-m', 'stellwerk', 'recover', place.folder], pythonPackage);
    try {
      await output({ ...program, timeoutMs: recoverWithinMs });
    } catch (error) {
      throw new TargetError('later', `What the runner left could not be delivered yet: ${(error as Error).message}`);
    }
  }

  async cleanUp(_target: Target<'host'>, handle: JobHandle | { id: string }): Promise<void> {
    for (const place of 'folder' in handle ? [placeOf(handle)] : await this.#placesOf(String(handle.id))) {
      await killAll(place);
      await rm(place.folder, { recursive: true, force: true, maxRetries: 3 });
    }
  }

  #program({ folder, uid }: Place, args: string[], pythonPackage: string) {
    const inherited = uid === undefined ? this.#needs.inherited : withoutOwnPlaces(this.#needs.inherited);
    const env = {
      ...inherited,
      PYTHONPATH: pythonPackage,
      PYTHONDONTWRITEBYTECODE: '1',
      [mark]: basename(folder),
    };
    if (uid === undefined) return { command: 'python3', args, cwd: folder, env };
    return {
      command: 'python3',
      args,
      cwd: folder,
      env: { ...env, HOME: folder, TMPDIR: join(folder, 'tmp') },
      user: { uid, gid: uid },
    };
  }

  /** Who cannot enter the data folder gets a copy. */
  async #packageFor({ folder, uid }: Place): Promise<string> {
    const { pythonPackage } = this.#needs;
    if (uid === undefined) return pythonPackage;
    const copy = join(folder, 'package', basename(pythonPackage));
    if (await isThere(copy)) return copy;
    await mkdir(join(folder, 'package'), { mode: 0o755, recursive: true });
    if ((await lstat(pythonPackage)).isDirectory()) await cp(pythonPackage, copy, { recursive: true });
    else await copyFile(pythonPackage, copy);
    await output({ command: 'chmod', args: ['-R', 'a+rX', join(folder, 'package')] });
    return copy;
  }

  /** The folder of a job, made if it is not there. */
  async #placeFor(target: Target<'host'>, id: string): Promise<Place> {
    const { user } = target.settings;
    if (user === undefined) {
      const folder = join(this.#needs.folder, nameOf(id));
      await mkdir(folder, { recursive: true, mode: 0o700 });
      return { folder };
    }
    const placed = this.#placing.then(() => this.#isolatedPlace(user, id));
    this.#placing = placed.catch(() => {});
    return placed;
  }

  async #isolatedPlace(user: string, id: string): Promise<Place> {
    const { ids, ...refused } = await findUser(user, this.#needs.subordinateIds);
    if (!ids) throw new TargetError('never', 'reason' in refused ? String(refused.reason) : `${user} cannot be used.`);
    const above = this.#needs.isolatedFolder;
    await mkdir(above, { recursive: true, mode: 0o711 });
    const owner = await lstat(above);
    if (owner.uid !== 0 || !owner.isDirectory() || (owner.mode & 0o022) !== 0)
      throw new TargetError('never', `The folder ${above} must belong to root and be writable by nobody else.`);
    const folder = join(above, nameOf(id));
    if (await isThere(join(folder, 'tmp'))) return { folder, uid: (await lstat(folder)).uid };
    const taken = new Set(
      await Promise.all((await readdir(above)).map(async (name) => (await lstat(join(above, name))).uid)),
    );
    // From the end: rootless containers of that user, if there are any, take theirs from the beginning.
    let uid = ids.first + ids.count - 1;
    while (taken.has(uid)) uid--;
    if (uid < ids.first) throw new TargetError('later', `All ${ids.count} ids of ${user} are in use.`);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chown(folder, uid, uid);
    await mkdir(join(folder, 'tmp'), { mode: 0o700, recursive: true });
    await chown(join(folder, 'tmp'), uid, uid);
    return { folder, uid };
  }

  async #placesOf(id: string): Promise<Place[]> {
    const isolated = join(this.#needs.isolatedFolder, nameOf(id));
    const owner = await lstat(isolated).catch(() => undefined);
    return [{ folder: join(this.#needs.folder, nameOf(id)) }, ...(owner ? [{ folder: isolated, uid: owner.uid }] : [])];
  }
}

/** Folders and files of the server's own user mean nothing to another. */
function withoutOwnPlaces(inherited: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(inherited).filter(
      ([name]) => !/^(XDG_|HOME$|TMPDIR$|NETRC$|PIP_CONFIG_FILE$|(PIP|UV)_CACHE_DIR$)/.test(name),
    ),
  );
}

/** Run ids are free text; a hash of the job's id is a safe name for a folder. */
function nameOf(id: string): string {
  return createHash('sha256').update(id).digest('hex').slice(0, 32);
}

function handleOf({ folder, uid }: Place, runner: ProcessIdentity): JobHandle {
  return { folder, ...(uid !== undefined && { uid }), ...runner };
}

function placeOf(handle: JobHandle): Place {
  return { folder: String(handle.folder), ...(handle.uid !== undefined && { uid: Number(handle.uid) }) };
}

function runnerOf(handle: JobHandle): ProcessIdentity {
  return { pid: Number(handle.pid), startTicks: Number(handle.startTicks), bootId: String(handle.bootId) };
}

/** The runner that was started in the folder, alive or not. If its start was not written down, it is the oldest process with the mark. */
async function found(folder: string): Promise<ProcessIdentity | undefined> {
  const written = await readFile(join(folder, 'process.json'), 'utf8').catch(() => undefined);
  if (written !== undefined) return JSON.parse(written) as ProcessIdentity;
  const marked = processesMarked(mark, basename(folder)).map((pid) => identify(pid));
  return marked
    .filter((process) => process !== undefined)
    .sort((a, b) => a.startTicks - b.startTicks || a.pid - b.pid)[0];
}

/**
 * The runner first: its guard, which sees it gone, ends all that descends from it, also what has cleared its environment. Then what is left
 * of those that carry the mark, again until none is: between looking and killing one may have started another.
 */
async function killAll({ folder, uid }: Place, runner?: ProcessIdentity): Promise<void> {
  const name = basename(folder);
  const marked = () => processesMarked(mark, name);
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
async function writeOwn(file: string, text: string, { uid }: Place): Promise<void> {
  await writeFile(`${file}.new`, text, { mode: 0o600 });
  await chmod(`${file}.new`, 0o600);
  if (uid !== undefined) await chown(`${file}.new`, uid, uid);
  await rename(`${file}.new`, file);
}

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

async function endOf(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.trim().split('\n').slice(-3).join(' ');
}
