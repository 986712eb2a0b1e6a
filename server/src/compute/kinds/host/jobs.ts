// Runs on the server's own machine: a folder per job, a runner started in it that outlives the server and is found again by its
// process id and start time. Everything a job starts carries its mark in the environment.
// Invariants: one runner per job, however often it is started; after `cleanUp` no process and no file of the job is left;
// the job's token lies in a 0600 file and never in arguments.
import { closeSync, openSync } from 'node:fs';
import { lstat, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { connected } from '../../../exec/connected.ts';
import { identify, isAlive, killProcess, type ProcessIdentity, processesMarked } from '../../../exec/processes.ts';
import { output, ProgramFailed, startDetached } from '../../../exec/programs.ts';
import type { JobHandle, JobOrder, JobState, RunsJobs, StartWatch, Target } from '../../driver.ts';
import type { HostNeeds } from './host.ts';
import { isThere, killAll, makeOwn, makePassage, mark, nameOf, type Place, programIn, writeOwn } from './place.ts';
import { preparationOf, SharedEnvironments, type SharingIds } from './shared-environments.ts';
import { findUser } from './unix-users.ts';

const recoverWithinMs = 10 * 60_000;

export class HostJobs implements RunsJobs<'host'> {
  readonly #needs: HostNeeds;
  readonly #shared: SharedEnvironments;
  /** Ids are given out one at a time. */
  #placing: Promise<unknown> = Promise.resolve();

  constructor(needs: HostNeeds) {
    this.#needs = needs;
    this.#shared = new SharedEnvironments(needs);
  }

  async start(target: Target<'host'>, order: JobOrder, watch: StartWatch = {}): Promise<JobHandle> {
    const place = await this.#placeFor(target, order.id);
    const running = await found(place.folder);
    if (running) return handleOf(place, running);
    const cacheFolder = place.shared ? join(place.folder, 'cache') : this.#needs.cacheFolder;
    const own = { id: order.id, job: { ...order.job, cacheFolder } };
    const job = place.shared ? await this.#shared.prepare(own, place.shared, watch) : own.job;
    await writeOwn(join(place.folder, 'job.json'), JSON.stringify(job), place);
    const program = await programIn(place, ['-m', 'stellwerk.runner', place.folder], this.#needs);
    const log = openSync(join(place.folder, 'runner.log'), 'a', 0o600);
    try {
      const { pid } = startDetached({ ...program, outputFd: log });
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
    return { state: isAlive(runnerOf(handle)) ? 'running' : 'ended' };
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
    const program = await programIn(place, ['-m', 'stellwerk', 'recover', place.folder], this.#needs);
    try {
      await output({ ...program, timeoutMs: recoverWithinMs });
    } catch (error) {
      throw new TargetError('later', `What the runner left could not be delivered yet: ${(error as Error).message}`);
    }
  }

  async beside(_target: Target<'host'>, handle: JobHandle, words: readonly string[]): Promise<Duplex> {
    const place = placeOf(handle);
    return connected(await programIn(place, ['-m', 'stellwerk.runner.beside', place.folder, ...words], this.#needs));
  }

  async cleanUp(_target: Target<'host'>, handle: JobHandle | { id: string }): Promise<void> {
    for (const place of 'folder' in handle ? [placeOf(handle)] : await this.#placesOf(String(handle.id))) {
      await killAll(place);
      await rm(place.folder, { recursive: true, force: true, maxRetries: 3 });
    }
  }

  /** The folder of a job, made if it is not there. */
  async #placeFor(target: Target<'host'>, id: string): Promise<Place & { shared?: SharingIds }> {
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

  async #isolatedPlace(user: string, id: string): Promise<Place & { shared: SharingIds }> {
    const { ids, ...refused } = await findUser(user, this.#needs.subordinateIds);
    if (!ids) throw new TargetError('never', 'reason' in refused ? String(refused.reason) : `${user} cannot be used.`);
    const above = this.#needs.isolatedFolder;
    await makePassage(above);
    const { builder } = ids;
    const folder = join(above, nameOf(id));
    const placeOfId = (uid: number) => ({ folder, uid, shared: { uid, builder } });
    if (await isThere(join(folder, 'tmp'))) return placeOfId((await lstat(folder)).uid);
    const places = (await readdir(above)).map(async (name) => (await lstat(join(above, name))).uid);
    const taken = new Set([...(await Promise.all(places)), ...(await this.#shared.builders())]);
    // From the end: rootless containers of that user, if there are any, take theirs from the beginning.
    let uid = ids.first + ids.count - 1;
    while (taken.has(uid)) uid--;
    if (uid < ids.first) throw new TargetError('later', `All ${ids.count} ids of ${user} are in use.`);
    await makeOwn({ folder, uid });
    return placeOfId(uid);
  }

  async #placesOf(id: string): Promise<Place[]> {
    const isolated = join(this.#needs.isolatedFolder, nameOf(id));
    const owner = await lstat(isolated).catch(() => undefined);
    const unowned = [join(this.#needs.folder, nameOf(id)), preparationOf(this.#needs.isolatedFolder, id)];
    return [...unowned.map((folder) => ({ folder })), ...(owner ? [{ folder: isolated, uid: owner.uid }] : [])];
  }
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
  const marked = processesMarked(mark, folder).map((pid) => identify(pid));
  return marked
    .filter((process) => process !== undefined)
    .sort((a, b) => a.startTicks - b.startTicks || a.pid - b.pid)[0];
}

async function endOf(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.trim().split('\n').slice(-3).join(' ');
}
