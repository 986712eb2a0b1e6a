// Runs on a Slurm cluster: a folder per job on the disk that the cluster shares, and a batch job that starts the same runner as everywhere in it.
// Invariants: one runner per job, however often it is submitted; the job carries a hash of the order's id as its name, by which it is found; after
// `cleanUp` neither a job of that name nor the folder is left; token and secrets are in a 0600 file there, never in the script or its environment, unless
// nothing but the script can bring them there.
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import type { JobHandle, JobOrder, JobState, RunsJobs, Target } from '../../driver.ts';
import { launcherOf, wantedOf } from './batch.ts';
import type { FolderState, Ground, Grounds } from './ground.ts';
import { isActive, type SeenJob, stateOf } from './scheduler.ts';

type Slurm = Target<'slurm'>;

const killedWithinPolls = 240;
const pollMs = 250;

export class SlurmJobs implements RunsJobs<'slurm'> {
  readonly #grounds: Pick<Grounds, 'of'>;

  constructor(grounds: Pick<Grounds, 'of'>) {
    this.#grounds = grounds;
  }

  async start(target: Slurm, order: JobOrder): Promise<JobHandle> {
    const ground = await this.#grounds.of(target, order.user);
    const handle = handleOf(ground, order);
    const { folder, name } = handle;
    if ((await ground.scheduler.find(name)).length > 0) return handle;
    const launcher = await launcherOf(order.job, target.settings, () => ground.described());
    const job: Job = { ...order.job, targetTellsEnd: true, ...(launcher && { launcher }) };
    const { job: taken, ...placed } = await ground.place(folder, job);
    if (taken === null) await ground.scheduler.submit(wantedOf({ name, folder, ...placed }, job, target.settings));
    return handle;
  }

  look(target: Slurm, handle: JobHandle): Promise<JobState> {
    return later(this.#look(target, handle));
  }

  cancel(target: Slurm, handle: JobHandle, how: 'ask' | 'kill'): Promise<void> {
    return later(this.#cancel(target, handle, how));
  }

  recover(target: Slurm, handle: JobHandle): Promise<void> {
    return later(this.#recover(target, handle));
  }

  /** On the first of its nodes, as a step of the job: it ends with it. */
  async beside(target: Slurm, handle: JobHandle, words: readonly string[]): Promise<Duplex> {
    const ground = await this.#ground(target, handle);
    return ground.beside(String(handle.folder), words);
  }

  cleanUp(target: Slurm, of: JobHandle | { id: string; user?: string }): Promise<void> {
    return later(this.#cleanUp(target, of));
  }

  async #look(target: Slurm, handle: JobHandle): Promise<JobState> {
    const ground = await this.#ground(target, handle);
    const job = await newest(ground, handle);
    if (job && isActive(job)) return stateOf(job);
    const folder = await ground.look(String(handle.folder));
    const id = job?.id ?? folder.job;
    if (id === null) return { state: 'ended', reason: 'Slurm knows nothing of its job any more.' };
    const { state = job?.state, usage } = await ground.accounted(id);
    const ended = stateOf({
      id,
      name: '',
      reason: '',
      nodes: job?.nodes ?? [],
      state: job?.state ?? state ?? 'COMPLETED',
    });
    return {
      ...(ended.state === 'ended' ? withTail(ended, folder, target) : { state: 'ended' as const }),
      ...(usage && { usage }),
    };
  }

  async #cancel(target: Slurm, handle: JobHandle, how: 'ask' | 'kill'): Promise<void> {
    const { scheduler } = await this.#ground(target, handle);
    const active = async () => (await scheduler.find(String(handle.name))).filter(isActive);
    if (how === 'ask') {
      for (const job of await active()) await scheduler.cancel(job, 'ask');
      return;
    }
    for (let polls = 0; polls < killedWithinPolls; polls++) {
      const left = await active();
      if (left.length === 0) return;
      if (polls % 40 === 0) for (const job of left) await scheduler.cancel(job, 'kill');
      await pause(pollMs);
    }
    throw new TargetError('later', 'Slurm has not ended the job yet.');
  }

  async #recover(target: Slurm, handle: JobHandle): Promise<void> {
    await this.#cancel(target, handle, 'kill');
    const ground = await this.#ground(target, handle);
    await ground.recover(String(handle.folder), String(handle.name)).catch((error: Error) => {
      throw new TargetError('later', `What the runner left could not be delivered yet: ${error.message}`);
    });
  }

  async #cleanUp(target: Slurm, of: JobHandle | { id: string; user?: string }): Promise<void> {
    const { user } = of as { user?: string };
    const ground = await this.#grounds.of(target, user);
    const wasStarted = 'folder' in of;
    const handle = wasStarted ? (of as JobHandle) : handleOf(ground, of as { id: string; user?: string });
    await this.#cancel(target, handle, 'kill');
    await ground.clean(String(handle.folder), String(handle.name), wasStarted);
  }

  #ground(target: Slurm, { user }: JobHandle): Promise<Ground> {
    return this.#grounds.of(target, user === undefined ? undefined : String(user));
  }
}

/** Of several, which a cut connection may have made, the one that took the folder up is the oldest that was started. */
async function newest({ scheduler }: Ground, { name }: JobHandle): Promise<SeenJob | undefined> {
  const jobs = await scheduler.find(String(name));
  return jobs.find(isActive) ?? jobs[0];
}

/** Run ids are free text; a hash of the job's id is a safe name. */
function handleOf({ folder }: Ground, { id, user }: { id: string; user?: string }) {
  const name = createHash('sha256').update(`${folder}\0${id}`).digest('hex').slice(0, 32);
  return { folder: `${folder}/jobs/${name}`, name, ...(user !== undefined && { user }) };
}

/** What keeps a job from being started is for good; one that was started may be looked after again once it is mended. */
function later<T>(done: Promise<T>): Promise<T> {
  return done.catch((error: Error) => {
    throw error instanceof TargetError ? new TargetError('later', error.message) : error;
  });
}

/** Where Slurm itself looks after memory, it says so in what the job printed only. */
const overMemory = /exceeded (job |step )?memory limit|oom[-_]kill/i;

/** How bash says that what the batch script ends with is not there. */
const noPython =
  /: line \d+: (exec: .*: (cannot execute|not found)|\S+: (No such file|Permission denied|cannot execute))/;

/** What the node said, where a job came to its end without any cause that Slurm names. */
function withTail(
  ended: Extract<JobState, { state: 'ended' }>,
  { there, tail }: FolderState,
  { settings: { python } }: Slurm,
): JobState {
  if (ended.reason !== undefined || !there || tail.length === 0) return ended;
  if (noPython.test(tail.join('\n'))) {
    const where = ended.facts?.nodes?.join(', ') || 'its nodes';
    const toDo = 'install Python 3.8 or newer with venv there, or name where it is';
    return { ...ended, reason: `${python} cannot be started on ${where}: ${toDo}.` };
  }
  if (overMemory.test(tail.join('\n')))
    return { ...ended, cause: 'out-of-memory', reason: 'It took more memory than it was given, and Slurm ended it.' };
  return {
    ...ended,
    reason: `Its runner ended without saying how the run went. The last of its log: ${tail.join(' / ').slice(0, 500)}`,
  };
}
