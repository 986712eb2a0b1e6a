// Runs in containers on machines of other kinds: where a run names an image, the Docker Engine that is there executes it as it does for a target
// of its own; all other runs are as ever. Which of both it was is seen by the handle.
import type { ComputeKind } from '@stellwerk/contract/compute-settings.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { Flaw, JobHandle, RunsJobs, Target, WantedImage } from '../../driver.ts';
import type { DockerDriver } from './docker.ts';

export const usualSocket = '/var/run/docker.sock';

export class Contained<K extends ComputeKind> {
  readonly #docker: DockerDriver;
  readonly #engineOn: (target: Target<K>) => Target<'docker'>;

  constructor(docker: DockerDriver, engineOn: (target: Target<K>) => Target<'docker'>) {
    this.#docker = docker;
    this.#engineOn = engineOn;
  }

  /** Where no engine answers, a run that wants one is refused. */
  async flaws(target: Target<K>, { container }: RunConfiguration): Promise<Flaw[]> {
    if (!container) return [];
    if (container.image === undefined && container.environment === 'at-start')
      return [{ field: 'container.image', why: 'has no image of its own: name one' }];
    const flaw = await this.#docker.flawOfEngine(this.#engineOn(target));
    if (flaw === undefined) return [];
    return [{ field: 'container', why: `runs containers only where a Docker Engine answers on its machine: ${flaw}` }];
  }

  platform(target: Target<K>, image: WantedImage): Promise<EnvironmentTarget> {
    return this.#docker.platform(this.#engineOn(target), image);
  }

  async forget(target: Target<K>): Promise<void> {
    await this.#docker.forget(this.#engineOn(target)).catch(isUnreachable);
  }

  jobs(plain: RunsJobs<K>): RunsJobs<K> {
    const { jobs } = this.#docker;
    const on = this.#engineOn;
    const isContained = (handle: JobHandle) => 'container' in handle;
    return {
      start: (target, order, watch) =>
        order.job.configuration.container ? jobs.start(on(target), order, watch) : plain.start(target, order, watch),
      look: (target, handle) => (isContained(handle) ? jobs.look(on(target), handle) : plain.look(target, handle)),
      cancel: (target, handle, how) =>
        isContained(handle) ? jobs.cancel(on(target), handle, how) : plain.cancel(target, handle, how),
      recover: (target, handle) =>
        isContained(handle) ? jobs.recover(on(target), handle) : plain.recover(target, handle),
      beside: async (target, handle, words) => {
        if (isContained(handle)) return jobs.beside(on(target), handle, words);
        return plain.beside!(target, handle, words);
      },
      async cleanUp(target, handle) {
        if (isContained(handle)) return jobs.cleanUp(on(target), handle);
        await plain.cleanUp(target, handle);
        if ('id' in handle) await jobs.cleanUp(on(target), handle).catch(isUnreachable); // it may have been either
      },
    };
  }
}

/** Most machines have no engine, and nothing was left on it then. */
function isUnreachable(error: unknown): void {
  if (!(error instanceof TargetError)) throw error;
}
