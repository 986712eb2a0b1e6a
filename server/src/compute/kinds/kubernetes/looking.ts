// What a cluster's nodes and images are like, asked in a pod that is there for that only and gone after it.
import { randomBytes } from 'node:crypto';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { JobOrder, Target } from '../../driver.ts';
import { outputOf } from './exec.ts';
import type { JobsNeeds } from './jobs.ts';
import { type At, found, keeperOf, release, removeJob, until } from './lifecycle.ts';
import { jobManifest, secretManifest } from './manifest.ts';
import { containers } from './places.ts';
import { isRunning, type JobThere, type Pod, podOf, stateOf } from './pods.ts';
import { onceUnpacked } from './unpacking.ts';

export interface Said {
  code: number | undefined;
  stdout: string;
  stderr: string;
}

/** A pod of the image, for as long as something is asked of it. */
export interface Look {
  /** A program of our package. */
  ask(args: readonly string[], timeoutMs?: number): Promise<Said>;
  layWay(): Promise<void>;
}

export async function lookInto<T>(
  needs: JobsNeeds,
  target: Target<'kubernetes'>,
  { image, signIn, volume }: { image?: string | undefined; signIn?: JobOrder['imageSignIn']; volume?: string },
  use: (look: Look) => Promise<T>,
): Promise<T> {
  const { installation, relays, signIns } = needs;
  const api = await needs.apiOf(target);
  const job = `stellwerk-${installation}-look-${randomBytes(6).toString('hex')}`;
  const at: At = { api, namespace: target.settings.namespace, job };
  const asked = { ...(image !== undefined && { image }), ...(signIn && { signIn }) };
  const wanted = {
    name: job,
    installation,
    settings: target.settings,
    image: image ?? target.settings.image,
    pullSecrets: signIns.names(target, asked, job),
    volume,
  };
  try {
    const made = await api.make<JobThere>(`/apis/batch/v1/namespaces/${at.namespace}/jobs`, jobManifest(wanted));
    const { uid } = made!.metadata;
    const pull = await signIns.manifest(target, asked, job, uid);
    const secret = secretManifest(wanted, { uid }, { package: await needs.package() });
    await release(at, [secret, pull]);
    const where = keeperOf(at, await begun(at));
    const look: Look = {
      ask: (args, timeoutMs) => outputOf(api, where, onceUnpacked(...args), timeoutMs),
      layWay: () => relays.ensure(api, where),
    };
    return await use(look).finally(() => relays.close(api, where));
  } finally {
    await removeJob(at).catch(() => {}); // it goes by itself some time later
  }
}

async function begun(at: At): Promise<Pod> {
  let pod: Pod | undefined;
  let reason = '';
  await until(async () => {
    pod = await podOf(at.api, at.namespace, at.job);
    if (isRunning(pod, containers.keeper)) return true;
    const state = await stateOf(at.api, at.namespace, (await found(at))!, pod);
    if (state) reason = state.reason ?? reason;
    if (state?.state === 'ended') throw new TargetError('never', reason);
    return false;
  }, 'No pod began in time.').catch((error) => {
    if (error instanceof TargetError && error.retry === 'later' && reason !== '')
      throw new TargetError('later', `No pod began in time. ${reason}`);
    throw error;
  });
  return pod!;
}

export async function platformFrom(look: Look, image: string): Promise<EnvironmentTarget> {
  const said = await look.ask(['-m', 'stellwerk.runner.remote', 'describe']);
  if (said.code !== 0)
    throw new TargetError('never', `python3 cannot be used in the image ${image}: ${wordsOf(said)}.`);
  return (JSON.parse(said.stdout) as { platform: EnvironmentTarget }).platform;
}

/** Whether this server is reached, as a run would reach it. */
export function askedServer(look: Look, ...server: [address: string, authority?: string]): Promise<Said> {
  return look.ask(['-m', 'stellwerk.runner.way_back', ...server.filter((part) => part !== undefined)]);
}

export function wordsOf({ code, stdout, stderr }: Said): string {
  const said = (stderr || stdout).trim().split('\n').at(-1) || `it ended with exit code ${code}`;
  return said.replace(/[.\s]+$/, '');
}
