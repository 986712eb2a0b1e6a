// Runs on a machine that is reached by SSH: a folder per job, and in it the same runner as everywhere, started in a session of its own, so that it
// goes on when the connection is cut. It reaches this server by the socket that the newest connection brought; each question that is asked about a
// job leads its own name for the socket there.
// Invariants: one runner per job, however often it is started; after `cleanUp` no process and no file of the job is left; the job's token and
// secrets go through the connection into a 0600 file, never onto a command line.
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { JobHandle, JobOrder, JobState, RunsJobs } from '../../driver.ts';
import { failureOf, type Machine, type Machines, programOf, type SshTarget } from './machine.ts';

type Question = 'start' | 'place' | 'look' | 'ask' | 'kill' | 'recover' | 'clean';

const answersWithinMs = 60_000;
const recoversWithinMs = 110_000;

export class SshJobs implements RunsJobs<'ssh'> {
  readonly #machines: Pick<Machines, 'of'>;

  constructor(machines: Pick<Machines, 'of'>) {
    this.#machines = machines;
  }

  start(target: SshTarget, order: JobOrder): Promise<JobHandle> {
    return this.#begin('start', target, order);
  }

  /** Only puts the job there; somebody else starts its runner, and until then it waits. */
  place(target: SshTarget, order: JobOrder): Promise<JobHandle & { folder: string }> {
    return this.#begin('place', target, order);
  }

  async #begin(
    question: 'start' | 'place',
    target: SshTarget,
    order: JobOrder,
  ): Promise<JobHandle & { folder: string }> {
    const machine = await this.#machines.of(target);
    const folder = folderOf(machine, order.id);
    const job = { ...order.job, server: `unix:${folder}/relay`, cacheFolder: `${machine.folder}/cache` };
    delete job.caBundle;
    await this.#ask(target, question, folder, JSON.stringify(job));
    return { folder };
  }

  look(target: SshTarget, handle: JobHandle): Promise<JobState> {
    return this.#ask(target, 'look', String(handle.folder));
  }

  async cancel(target: SshTarget, handle: JobHandle, how: 'ask' | 'kill'): Promise<void> {
    await this.#ask(target, how, String(handle.folder));
  }

  async recover(target: SshTarget, handle: JobHandle): Promise<void> {
    await this.#ask(target, 'recover', String(handle.folder)).catch((error: TargetError) => {
      throw new TargetError('later', `What the runner left could not be delivered yet: ${error.message}`);
    });
  }

  async beside(target: SshTarget, handle: JobHandle, words: readonly string[]): Promise<Duplex> {
    const { connection, bundle } = await this.#machines.of(target);
    const args = ['-m', 'stellwerk.runner.beside', String(handle.folder), ...words];
    return connection.stream(programOf(target, bundle, args));
  }

  async cleanUp(target: SshTarget, handle: JobHandle | { id: string }): Promise<void> {
    await this.#ask(target, 'clean', await this.folder(target, handle));
  }

  /** Where a job lies over there, by its handle or its order's id. */
  async folder(target: SshTarget, handle: JobHandle | { id: string }): Promise<string> {
    return 'folder' in handle ? String(handle.folder) : folderOf(await this.#machines.of(target), String(handle.id));
  }

  /** What keeps a job from being started is for good; one that was started may be looked after again once it is mended. */
  async #ask(target: SshTarget, question: Question, folder: string, input?: string): Promise<JobState> {
    const answer = this.#answer(target, question, folder, input);
    if (question === 'start' || question === 'place') return answer;
    return answer.catch((error: Error) => {
      throw error instanceof TargetError ? new TargetError('later', error.message) : error;
    });
  }

  async #answer(target: SshTarget, question: Question, folder: string, input?: string): Promise<JobState> {
    const { connection, bundle, relay } = await this.#machines.of(target);
    const ended = await connection.run({
      ...programOf(target, bundle, ['-m', 'stellwerk.runner.remote', question, folder, '--relay', relay]),
      ...(input !== undefined && { input }),
      takesLong: question === 'recover',
      timeoutMs: question === 'recover' ? recoversWithinMs : answersWithinMs,
    });
    if (ended.code !== 0) throw failureOf(target, ended);
    return JSON.parse(ended.stdout) as JobState;
  }
}

/** Run ids are free text; a hash of the job's id is a safe name for a folder. */
function folderOf({ folder }: Machine, id: string): string {
  return `${folder}/jobs/${createHash('sha256').update(id).digest('hex').slice(0, 32)}`;
}
