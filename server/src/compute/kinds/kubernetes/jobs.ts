// Runs on a cluster: a Job each, named after the job, and in its pod the same runner as everywhere.
// Invariants: one Job for each order, however often it is started; it makes no pod before its Secret is there, which belongs to it; the job's token
// and secrets are in that Secret and then in a 0600 file of the pod, never in an argument, a variable or a label; after `cleanUp` neither Job,
// Secret nor pod is left.
import type { Duplex } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { joined } from '../../../exec/connected.ts';
import type { JobHandle, JobOrder, JobState, PublicAddress, RunsJobs, Target } from '../../driver.ts';
import { type Api, Refusal } from './api.ts';
import { outputOf, programIn } from './exec.ts';
import { Followers } from './followers.ts';
import {
  type At,
  found,
  isNodeReady,
  keeperOf,
  release,
  removeJob,
  removePods,
  removeVolume,
  until,
  volumeOf,
  withdraw,
} from './lifecycle.ts';
import { lookInto, type Said } from './looking.ts';
import { claimManifest, jobManifest, secretManifest } from './manifest.ts';
import { canceledMark, containers, jobFolder, jobNameOf, place } from './places.ts';
import {
  isBeginning,
  isRunning,
  type JobThere,
  lostPlace,
  othersOf,
  type Pod,
  podOf,
  podsOf,
  stateOf,
  statusOf,
} from './pods.ts';
import type { AskedImage, SignIns } from './pull-secrets.ts';
import type { Relays } from './relays.ts';
import { onceUnpacked } from './unpacking.ts';

export interface JobsNeeds extends PublicAddress {
  installation: string;
  /** Our Python package, packed. */
  package: () => Promise<Buffer>;
  relays: Relays;
  signIns: SignIns;
  apiOf(target: Target<'kubernetes'>): Promise<Api>;
}

const recoversWithinMs = 110_000;
/** Ever more rarely: images may have to be pulled. A volume that is being bound, say, keeps a pod waiting for a moment; others wait for longer. */
const looksAtStart = { firstAfterMs: 50, times: 1.1, mostMs: 1_000, othersUntilMs: 1_500, untilMs: 20_000 };

export class KubernetesJobs implements RunsJobs<'kubernetes'> {
  readonly #needs: JobsNeeds;
  readonly #followers = new Followers();

  constructor(needs: JobsNeeds) {
    this.#needs = needs;
  }

  async start(target: Target<'kubernetes'>, order: JobOrder): Promise<JobHandle> {
    const job = jobNameOf(this.#needs.installation, order.id);
    const { namespace } = target.settings;
    const at = { api: await this.#needs.apiOf(target), namespace, job };
    await refusals(at.api, 'never', async () => {
      const made = (await this.#make(at, target, order)) ?? (await this.#need(at));
      if (!made.spec.suspend || made.metadata.annotations?.[canceledMark] !== undefined) return;
      const { installation, signIns } = this.#needs;
      const content = { job: order.job, package: await this.#needs.package() };
      const pull = await signIns.manifest(target, askedBy(order), job, made.metadata.uid);
      const own = { name: job, installation, settings: target.settings };
      await release(at, [secretManifest(own, made.metadata, content), pull, claimManifest(own, made.metadata)]);
    });
    await this.#layWaySoon(target, at, order.job.resources.nodes > 1);
    return { namespace, job, ...(target.settings.volumeClaimSize !== undefined && { volume: job }) };
  }

  async look(target: Target<'kubernetes'>, handle: JobHandle): Promise<JobState> {
    const at = await this.#at(target, handle);
    return refusals(at.api, 'later', async () => {
      const job = await found(at);
      if (!job) return { state: 'ended', reason: 'Its Job is not on the cluster any more.' };
      const pod = await podOf(at.api, at.namespace, at.job);
      const facts = await factsOf(at, job, pod);
      const isOver = pod && isRunning(pod, containers.runner) && !(await runnerLives(at, pod));
      const still = isOver ? lostPlace(pod) : await stateOf(at.api, at.namespace, job, pod);
      if (still) return { ...still, facts };
      await this.#layWay(target, at, pod!);
      const held = await this.#followers.heldBy(at, job, pod!);
      return held ? { ...held, facts } : { state: 'running', facts };
    });
  }

  async cancel(target: Target<'kubernetes'>, handle: JobHandle, how: 'ask' | 'kill'): Promise<void> {
    const at = await this.#at(target, handle);
    await refusals(at.api, 'later', async () => {
      const pod = await podOf(at.api, at.namespace, at.job);
      if (pod && isRunning(pod, containers.runner)) await this.#say(at, pod, how);
      else if (!pod || !statusOf(pod, containers.runner)?.state?.terminated) await withdraw(at);
      if (how === 'kill') await this.#killOthers(at);
    });
  }

  async recover(target: Target<'kubernetes'>, handle: JobHandle): Promise<void> {
    const at = await this.#at(target, handle);
    await refusals(at.api, 'later', async () => {
      const pod = await podOf(at.api, at.namespace, at.job);
      if (pod && (await isReachable(at, pod))) {
        if (await runnerLives(at, pod)) await this.#say(at, pod, 'kill');
        await this.#layWay(target, at, pod);
        await deliver((words) => outputOf(at.api, keeperOf(at, pod), onceUnpacked(...words), recoversWithinMs));
      } else if ('volume' in handle && (await volumeOf(at))) await this.#deliverFromVolume(target, at);
    });
  }

  async beside(target: Target<'kubernetes'>, handle: JobHandle, words: readonly string[]): Promise<Duplex> {
    const at = await this.#at(target, handle);
    const program = onceUnpacked('-m', 'stellwerk.runner.beside', jobFolder, ...words);
    return refusals(at.api, 'never', async () => {
      const pod = await podOf(at.api, at.namespace, at.job);
      if (!pod || !isRunning(pod, containers.runner)) throw new TargetError('never', 'Its pod does not run.');
      const where = { ...keeperOf(at, pod), container: containers.runner };
      const { input, output, close } = await programIn(at.api, where, program);
      const stream = joined(output, input);
      stream.on('close', close);
      return stream;
    });
  }

  async cleanUp(target: Target<'kubernetes'>, handle: JobHandle | { id: string }): Promise<void> {
    const at =
      'job' in handle
        ? await this.#at(target, handle)
        : await this.#at(target, {
            namespace: target.settings.namespace,
            job: jobNameOf(this.#needs.installation, String(handle.id)),
          });
    const { api, namespace, job } = at;
    await refusals(api, 'later', async () => {
      for (const pod of await podsOf(api, namespace, job)) await this.#needs.relays.close(api, keeperOf(at, pod));
      await removeJob(at);
      if ('volume' in handle || target.settings.volumeClaimSize !== undefined) await removeVolume(at);
    });
  }

  /** With a pod of its own, once the one that had it is gone. */
  async #deliverFromVolume(target: Target<'kubernetes'>, at: At): Promise<void> {
    await removePods(at);
    await lookInto(this.#needs, target, { volume: at.job }, async (look) => {
      if (target.settings.reach === 'carried') await look.layWay();
      await deliver((words) => look.ask(words, recoversWithinMs));
    });
  }

  async #make(at: At, target: Target<'kubernetes'>, order: JobOrder): Promise<JobThere | undefined> {
    const { configuration, resources } = order.job;
    const asked = askedBy(order);
    const manifest = jobManifest({
      name: at.job,
      installation: this.#needs.installation,
      settings: target.settings,
      image: asked.image ?? target.settings.image,
      resources,
      ...(configuration.warning && { warningSeconds: configuration.warning.seconds }),
      pullSecrets: this.#needs.signIns.names(target, asked, at.job),
      volume: target.settings.volumeClaimSize && at.job,
    });
    return at.api.make<JobThere>(`/apis/batch/v1/namespaces/${at.namespace}/jobs`, manifest);
  }

  async #need(at: At): Promise<JobThere> {
    const job = await found(at);
    if (job) return job;
    throw new TargetError('later', `The Job ${at.job} of the cluster ${at.api.name} is being taken away.`);
  }

  /** Said to the first process of the runner's container. */
  async #say(at: At, pod: Pod, how: 'ask' | 'kill'): Promise<void> {
    const where = { ...keeperOf(at, pod), container: containers.runner };
    const words = onceUnpacked('-m', 'stellwerk.runner.container', how, place);
    const hasEnded = async () => {
      const now = await podOf(at.api, at.namespace, at.job);
      return now === undefined || !(await runnerLives(at, now));
    };
    const { code, stderr } = await outputOf(at.api, where, words).catch(async (error) => {
      if (isNotThere(error) || (await hasEnded())) return { code: 0, stderr: '' };
      throw error;
    });
    if (how === 'kill') await until(hasEnded, `Its runner was not ended: ${stderr || `exit code ${code}`}.`);
  }

  /** Those that the first pod has never met would go on waiting for it. */
  async #killOthers(at: At): Promise<void> {
    const others = await othersOf(at.api, at.namespace, at.job);
    const words = onceUnpacked('-m', 'stellwerk.runner.container', 'kill', place);
    for (const pod of others.filter((one) => isRunning(one, containers.runner)))
      await outputOf(at.api, { ...keeperOf(at, pod), container: containers.runner }, words).catch(() => {}); // it ends meanwhile
  }

  /** Most pods begin in a moment; who waits for longer is looked after later. */
  async #layWaySoon(target: Target<'kubernetes'>, at: At, hasFollowers: boolean): Promise<void> {
    const { namespace, job } = at;
    const { firstAfterMs, times, mostMs, othersUntilMs, untilMs } = looksAtStart;
    for (let [waited, next] = [0, firstAfterMs]; waited < untilMs; next = Math.min(mostMs, next * times)) {
      if ((await this.#layWayEarly(target, at)) && !hasFollowers) return;
      const seen = await this.look(target, { namespace, job }).catch(() => undefined); // it has been started
      if (seen?.state !== 'waiting' || (waited > othersUntilMs && !isBeginning(seen))) return;
      await pause(next);
      waited += next;
    }
  }

  /** A node knows that a container runs up to a second before its cluster does. */
  async #layWayEarly({ settings }: Target<'kubernetes'>, at: At): Promise<boolean> {
    if (settings.reach === 'direct') return false;
    try {
      const pod = await podOf(at.api, at.namespace, at.job);
      if (pod?.spec.nodeName === undefined) return false;
      await this.#needs.relays.ensure(at.api, keeperOf(at, pod));
      return true;
    } catch {
      return false; // what keeps it from running is told to whoever looks
    }
  }

  async #layWay({ settings }: Target<'kubernetes'>, at: At, pod: Pod): Promise<void> {
    if (settings.reach === 'direct' || !isRunning(pod, containers.keeper)) return;
    await this.#needs.relays.ensure(at.api, keeperOf(at, pod)).catch((error) => {
      if (!isNotThere(error)) throw error; // the cluster will know, too, in a moment
    });
  }

  async #at(target: Target<'kubernetes'>, handle: JobHandle): Promise<At> {
    return { api: await this.#needs.apiOf(target), namespace: String(handle.namespace), job: String(handle.job) };
  }
}

/** Its node knows that a container has ended before the cluster does. */
const isNotThere = (error: unknown) => error instanceof Refusal && /container not found/i.test(error.message);

/** Of a pod that is being taken away nothing is told until it is gone: its second container is asked. */
async function runnerLives(at: At, pod: Pod): Promise<boolean> {
  if (!isRunning(pod, containers.runner)) return false;
  if (pod.metadata.deletionTimestamp === undefined || !(await isReachable(at, pod))) return true;
  const words = onceUnpacked('-m', 'stellwerk.runner.container', 'lives', place);
  return (await outputOf(at.api, keeperOf(at, pod), words)).code === 0;
}

async function deliver(ask: (words: readonly string[]) => Promise<Said>): Promise<void> {
  const { code, stdout, stderr } = await ask(['-m', 'stellwerk', 'recover', jobFolder]);
  if (code === 0) return;
  const told = (stderr || stdout).trim().split('\n').at(-1);
  throw new TargetError('later', `What the runner left could not be delivered yet: ${told || `exit code ${code}`}`);
}

/** Whether its second container can be spoken to. The folder of a pod that is taken from a node that does not answer goes with it. */
async function isReachable(at: At, pod: Pod): Promise<boolean> {
  if (!isRunning(pod, containers.keeper)) return false;
  return pod.metadata.deletionTimestamp === undefined || isNodeReady(at.api, pod);
}

function askedBy({ job, image, imageSignIn }: JobOrder): AskedImage {
  if (image) {
    if (!image.pull)
      throw new TargetError('never', 'The public address of this server has a path: it has no registry.');
    return { image: image.pull.name, signIn: image.pull.signIn };
  }
  const { container } = job.configuration;
  return {
    ...(container?.image !== undefined && { image: container.image }),
    ...(imageSignIn && { signIn: imageSignIn }),
  };
}

async function factsOf({ api, namespace, job: id }: At, job: JobThere, pod: Pod | undefined) {
  const image = pod && statusOf(pod, containers.runner)?.imageID;
  const others = (job.spec.completions ?? 1) > 1 ? await othersOf(api, namespace, id) : [];
  const nodes = [pod, ...others].flatMap((one) => one?.spec.nodeName ?? []);
  return {
    id,
    ...(nodes.length > 0 && { nodes }),
    ...(image && { image }),
  };
}

/** What keeps a job from being started is for good; one that was started may be looked after again once it is mended. */
async function refusals<T>(api: Api, retry: 'never' | 'later', act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const isPassing = error.status === 429 || error.status >= 500;
    throw new TargetError(isPassing ? 'later' : retry, `The Kubernetes cluster ${api.name} refuses: ${error.message}`);
  }
}
