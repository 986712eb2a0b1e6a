// Runs on a Spark cluster: jobs of its head node, as of any machine that is reached by SSH, whose runner starts the script by spark-submit. Where
// the target has a Livy, that starts the runner instead, as the driver of a batch that carries the job's name; the rest is the same. In YARN's cluster mode
// what is started there hands the job to YARN, and is there until the application has ended.
// Invariants: one batch per job, however often it is started; after `kill` and `cleanUp` neither the batch nor a process of the job is left.
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { JobHandle, JobOrder, JobState, RunsJobs, Target } from '../../driver.ts';
import { SshJobs } from '../ssh/jobs.ts';
import type { Machines, SshNeeds } from '../ssh/machine.ts';
import { askedOf } from './asked.ts';
import { Livy } from './livy.ts';

export class SparkJobs implements RunsJobs<'spark'> {
  readonly #machines: Pick<Machines, 'of'>;
  readonly #secret: SshNeeds['secret'];
  readonly #jobs: SshJobs;

  constructor(machines: Pick<Machines, 'of'>, { secret }: Pick<SshNeeds, 'secret'>) {
    this.#machines = machines;
    this.#secret = secret;
    this.#jobs = new SshJobs(machines);
  }

  async start(target: Target<'spark'>, order: JobOrder): Promise<JobHandle> {
    const { configuration } = order.job;
    if (configuration.framework !== 'PySpark') return this.#jobs.start(target, order);
    const spark = askedOf(target.settings, configuration);
    const asked = { ...order, job: { ...order.job, spark } };
    if (target.settings.livy === undefined) {
      const handle = await this.#jobs.start(target, asked);
      return spark.deployMode === 'cluster' ? { ...handle, mode: 'cluster' } : handle;
    }
    const { folder } = await this.#jobs.place(target, asked);
    const livy = await this.#livy(target);
    const name = batchName(folder);
    const batch = (await livy.find(name)) ?? (await livy.start(name, folder, spark));
    return { folder, batch };
  }

  async look(target: Target<'spark'>, handle: JobHandle): Promise<JobState> {
    const seen = await this.#jobs.look(target, handle);
    if (handle.batch === undefined) return seen;
    const facts = { id: `batch ${handle.batch}` };
    if (seen.state !== 'waiting') return { ...seen, facts };
    const stands = await (await this.#livy(target)).look(Number(handle.batch));
    if (stands.state === 'open') return { state: 'waiting', reason: 'Livy starts it.', facts };
    const again = await this.#jobs.look(target, handle); // its runner may have begun meanwhile
    if (again.state !== 'waiting') return { ...again, facts };
    if (stands.state === 'gone') return { state: 'ended', cause: 'canceled', facts };
    return { state: 'ended', cause: 'refused', reason: `Livy could not start it: ${stands.said}`, facts };
  }

  async cancel(target: Target<'spark'>, handle: JobHandle, how: 'ask' | 'kill'): Promise<void> {
    await this.#jobs.cancel(target, handle, how);
    if (handle.batch === undefined) return;
    const isStarting = how === 'ask' && (await this.#jobs.look(target, handle)).state === 'waiting';
    if (how === 'kill' || isStarting) await (await this.#livy(target)).remove(Number(handle.batch));
  }

  recover(target: Target<'spark'>, handle: JobHandle): Promise<void> {
    return this.#jobs.recover(target, handle);
  }

  /** The script runs on the head node, whoever started it, unless it is in cluster mode. */
  async beside(target: Target<'spark'>, handle: JobHandle, words: readonly string[]): Promise<Duplex> {
    if (handle.mode === 'cluster')
      throw new TargetError(
        'never',
        'It runs in a container of YARN, where nobody can look in; in client mode one can.',
      );
    return this.#jobs.beside(target, handle, words);
  }

  /** The batch first: what it would still start finds no job then. */
  async cleanUp(target: Target<'spark'>, handle: JobHandle | { id: string }): Promise<void> {
    const folder = await this.#jobs.folder(target, handle);
    if (target.settings.livy !== undefined) {
      const livy = await this.#livy(target);
      const batch = 'batch' in handle ? Number(handle.batch) : await livy.find(batchName(folder));
      if (batch !== undefined) await livy.remove(batch);
    }
    await this.#jobs.cleanUp(target, { folder });
  }

  async #livy(target: Target<'spark'>): Promise<Livy> {
    const { livyPassword } = target.settings;
    const password = livyPassword === undefined ? undefined : await this.#secret(target, livyPassword);
    const { connection, bundle } = await this.#machines.of(target);
    return new Livy(connection, target.settings, { bundle, ...(password !== undefined && { password }) });
  }
}

/** The folder has the installation's own word in it, so that two of them never meet. */
function batchName(folder: string): string {
  return `stellwerk-${createHash('sha256').update(folder).digest('hex').slice(0, 32)}`;
}
