// The other pods of a job that has several: the runner is in the first, which is told where the others are once all of them are there.
import type { JobState } from '../../driver.ts';
import { outputOf } from './exec.ts';
import { type At, keeperOf } from './lifecycle.ts';
import { containers, place, python } from './places.ts';
import { isRunning, type JobThere, othersOf, type Pod, stateOf } from './pods.ts';

type Held = Exclude<JobState, { state: 'running' }>;

const write = `
import os, sys
with open(sys.argv[1] + ".new", "w") as file:
    file.write(sys.argv[2])
os.replace(sys.argv[1] + ".new", sys.argv[1])
`;

export class Followers {
  /** Jobs whose first pod was told by this life of the service. */
  readonly #told = new Set<string>();

  /** What keeps the script from running everywhere; undefined if nothing does. */
  async heldBy(at: At, job: JobThere, first: Pod): Promise<Held | undefined> {
    const count = job.spec.completions ?? 1;
    if (count === 1 || this.#told.has(job.metadata.uid)) return undefined;
    const others = await othersOf(at.api, at.namespace, at.job);
    for (const pod of others) {
      const state = await stateOf(at.api, at.namespace, job, pod);
      if (state)
        return state.state === 'waiting' ? { ...state, reason: `Another of its pods: ${state.reason}` } : state;
    }
    if (others.length < count - 1) return { state: 'waiting', reason: 'Waits for the cluster to make its other pods.' };
    const hosts = [first, ...others].map(({ status }) => status.podIP);
    if (hosts.some((host) => host === undefined) || !isRunning(first, containers.keeper))
      return { state: 'waiting', reason: 'Waits for its other pods.' };
    const words = [...python, '-c', write, `${place}/hosts`, JSON.stringify(hosts)];
    const { code, stderr } = await outputOf(at.api, keeperOf(at, first), words);
    if (code !== 0) return { state: 'waiting', reason: `Its pods could not be told of each other yet: ${stderr}` };
    this.#told.add(job.metadata.uid);
    return undefined;
  }
}
