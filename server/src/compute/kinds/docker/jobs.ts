// Runs on a Docker Engine: a container each, named after the job, and in it the same runner as everywhere. Its files lie on a volume of the same
// name, so that what a dead runner left is delivered by a second container before both are removed.
// Invariants: one container per job, however often it is started; after `cleanUp` no container and no volume of the job is left; the job's token
// and secrets lie in a 0600 file of that volume, never in an argument, a variable or a label.
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { joined } from '../../../exec/connected.ts';
import type { JobHandle, JobOrder, JobState, RunsJobs, StartWatch, Target } from '../../driver.ts';
import {
  type Inspected,
  inspected,
  killContainer,
  makeContainer,
  printedBy,
  programIn,
  putInto,
  removeContainer,
  removeVolume,
  runOnce,
  signalContainer,
  startContainer,
} from './containers.ts';
import { type Engine, EngineRefusal } from './engine.ts';
import { foundImage, loadedImage, requiredImage } from './images.ts';
import * as places from './places.ts';
import type { Relays } from './relays.ts';

export interface JobsNeeds {
  installation: string;
  pythonPackage: string;
  relays: Relays;
  engineOf(target: Target<'docker'>): Engine;
}

const recoversWithinMs = 110_000;
/** `docker-init` could not start the runner. */
const noProgram = 127;
/** What the engine writes down of containers that it finds ended when it starts. */
const endedWithEngine = 255;
/** By SIGKILL and SIGTERM: an engine that is stopped, or started again after it was killed, ends its containers so. */
const endedBySignals = [137, 143];

export class DockerJobs implements RunsJobs<'docker'> {
  readonly #needs: JobsNeeds;

  constructor(needs: JobsNeeds) {
    this.#needs = needs;
  }

  async start(target: Target<'docker'>, order: JobOrder, watch: StartWatch = {}): Promise<JobHandle> {
    const container = places.containerNameOf(this.#needs.installation, order.id);
    const engine = this.#needs.engineOf(target);
    await refusals(engine, 'never', async () => {
      const before = await inspected(engine, container);
      if (!before) await this.#make(engine, target, container, order, watch);
      if (!before || before.State.Status === 'created') {
        await putInto(engine, container, [
          ...(await places.bundleEntries(this.#needs.pythonPackage)),
          places.jobEntry(jobOf(order)),
        ]);
        await startContainer(engine, container);
      }
      await this.#needs.relays.ensure(engine, container);
    });
    return { container, image: wantedBy(target, order) };
  }

  async look(target: Target<'docker'>, handle: JobHandle): Promise<JobState> {
    const container = String(handle.container);
    const engine = this.#needs.engineOf(target);
    return refusals(engine, 'later', async () => {
      const seen = await inspected(engine, container);
      if (!seen) return { state: 'ended', reason: 'Its container is not on the engine any more.' };
      const facts = { id: container, image: (await foundImage(engine, seen.Image))?.digest ?? seen.Image };
      if (!seen.State.Running)
        return { ...(await whyEnded(engine, container, seen)), facts, usage: { exitCode: seen.State.ExitCode } };
      await this.#needs.relays.ensure(engine, container);
      return { state: 'running', facts };
    });
  }

  async cancel(target: Target<'docker'>, handle: JobHandle, how: 'ask' | 'kill'): Promise<void> {
    const engine = this.#needs.engineOf(target);
    const container = String(handle.container);
    await refusals(engine, 'later', () =>
      how === 'ask' ? signalContainer(engine, container, 'SIGTERM') : killContainer(engine, container),
    );
  }

  async recover(target: Target<'docker'>, handle: JobHandle): Promise<void> {
    const engine = this.#needs.engineOf(target);
    const container = String(handle.container);
    await refusals(engine, 'later', async () => {
      await killContainer(engine, container);
      const isThere = await engine.tell({ path: `/volumes/${container}`, also: [404] });
      if (isThere === 404) return;
      const seen = await inspected(engine, container);
      const image = seen?.Image ?? (await requiredImage(engine, String(handle.image))).id;
      await this.#deliver(engine, container, image);
    });
  }

  async beside(target: Target<'docker'>, handle: JobHandle, words: readonly string[]): Promise<Duplex> {
    const engine = this.#needs.engineOf(target);
    const program = [...places.python, '-m', 'stellwerk.runner.beside', places.jobFolder, ...words];
    return refusals(engine, 'never', async () => {
      const { input, output, close } = await programIn(engine, String(handle.container), program);
      const stream = joined(output, input);
      stream.on('close', close);
      return stream;
    });
  }

  async cleanUp(target: Target<'docker'>, handle: JobHandle | { id: string }): Promise<void> {
    const engine = this.#needs.engineOf(target);
    const container =
      'container' in handle
        ? String(handle.container)
        : places.containerNameOf(this.#needs.installation, String(handle.id));
    await refusals(engine, 'later', async () => {
      for (const name of [container, recoveryOf(container)]) {
        await this.#needs.relays.close(engine, name);
        await removeContainer(engine, name);
      }
      await removeVolume(engine, container);
    });
  }

  /** The environments of a target's runs. */
  async forget(target: Target<'docker'>): Promise<void> {
    const engine = this.#needs.engineOf(target);
    const cache = places.cacheNameOf(this.#needs.installation, target);
    await refusals(engine, 'later', () => removeVolume(engine, cache));
  }

  async #make(
    engine: Engine,
    target: Target<'docker'>,
    container: string,
    order: JobOrder,
    watch: StartWatch,
  ): Promise<void> {
    const { resources, gpus } = order.job;
    const image = order.image
      ? await loadedImage(engine, order.image, watch)
      : await requiredImage(engine, wantedBy(target, order), order.imageSignIn, watch);
    const { installation } = this.#needs;
    const cache = places.cacheNameOf(installation, target);
    for (const [Name, what] of [
      [container, 'run'],
      [cache, 'cache'],
    ] as const)
      await engine.tell({
        method: 'POST',
        path: '/volumes/create',
        body: { Name, Labels: places.labelsOf(installation, what) },
      });
    await makeContainer(engine, {
      name: container,
      image: image.id,
      words: [...places.python, '-m', 'stellwerk.runner', places.jobFolder],
      env: places.runnerEnvironment,
      labels: places.labelsOf(installation, 'run'),
      volumes: { [container]: places.place, [cache]: places.cachePlace },
      limits: { cpus: resources.cpus, memoryBytes: resources.memoryBytes, gpus },
    });
  }

  async #deliver(engine: Engine, container: string, image: string): Promise<void> {
    const name = recoveryOf(container);
    const { relays, installation } = this.#needs;
    const { code, stdout, stderr } = await runOnce(
      engine,
      {
        name,
        image,
        words: [...places.python, '-m', 'stellwerk', 'recover', places.jobFolder],
        env: places.runnerEnvironment,
        labels: places.labelsOf(installation, 'run'),
        volumes: { [container]: places.place },
      },
      { beside: () => relays.ensure(engine, name), timeoutMs: recoversWithinMs },
    );
    if (code === 0) return;
    const told = (stderr || stdout).trim().split('\n').at(-1);
    throw new TargetError('later', `What the runner left could not be delivered yet: ${told || `exit code ${code}`}`);
  }
}

function wantedBy({ settings }: Target<'docker'>, { job }: JobOrder): string {
  return job.configuration.container?.image ?? settings.image;
}

function jobOf({ job }: JobOrder): object {
  const { caBundle: _, ...same } = job;
  return { ...same, server: `unix:${places.relayLink}`, cacheFolder: places.cachePlace, targetTellsEnd: true };
}

const recoveryOf = (container: string) => `${container}-recovery`;

async function whyEnded(
  engine: Engine,
  container: string,
  { State }: Inspected,
): Promise<Extract<JobState, { state: 'ended' }>> {
  if (State.Status === 'created') return { state: 'ended' };
  if (State.ExitCode === noProgram) {
    const { stderr, stdout } = await printedBy(engine, container);
    const said = (stderr || stdout).trim().split('\n').at(-1);
    const reason = `Its image has no python3 that can be started (${said}): name an image with Python 3.8 or newer.`;
    return { state: 'ended', cause: 'refused', reason };
  }
  if (State.OOMKilled)
    return {
      state: 'ended',
      cause: 'out-of-memory',
      reason: 'Its container took more memory than it was given, and was killed. Ask for more with resources.memory.',
    };
  if (State.ExitCode === endedWithEngine)
    return { state: 'ended', cause: 'node-lost', reason: 'The Docker Engine was restarted while the run was on it.' };
  if (endedBySignals.includes(State.ExitCode))
    return {
      state: 'ended',
      cause: 'node-lost',
      reason:
        'Its container was stopped while the run was in it: by the Docker Engine, which was restarted, or by somebody who may use that.',
    };
  return { state: 'ended' };
}

/** What keeps a job from being started is for good; one that was started may be looked after again once it is mended. */
async function refusals<T>(engine: Engine, retry: 'never' | 'later', act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof EngineRefusal)) throw error;
    if (/no space left on device/i.test(error.message))
      throw new TargetError(retry, `The disk of the Docker Engine at ${engine.name} is full: ${error.message}`);
    throw new TargetError(retry, `The Docker Engine at ${engine.name} refuses: ${error.message}`);
  }
}
