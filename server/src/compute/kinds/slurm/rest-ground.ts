// A cluster that is spoken to by its REST interface alone. What a job needs is in the script that is submitted for it, and its node reaches this server by
// itself; its folder is removed by the script once all is delivered. What is to be done in a folder afterwards is a small job of its own, and what such
// a job finds out it writes into its own comment, which the interface tells.
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import type { PublicAddress, Target } from '../../driver.ts';
import { packed } from '../../packed-package.ts';
import type { Accounted } from './accounting.ts';
import { carriedScript, type Wanted } from './batch.ts';
import type { Described, FolderState, Ground, Placed } from './ground.ts';
import type { Rest } from './rest.ts';
import { isActive, type SeenJob } from './scheduler.ts';

const helperPolls = 400;
const pollMs = 250;
const nothing = '/dev/null';

export interface RestNeeds extends PublicAddress {
  installation: string;
  /** Our Python package, a wheel. */
  pythonPackage: string;
}

export class RestGround implements Ground {
  readonly scheduler: Rest;
  readonly folder: string;
  readonly #needs: RestNeeds;
  readonly #helpers: Helpers;
  #described: Promise<Described> | undefined;

  constructor(target: Target<'slurm'>, scheduler: Rest, needs: RestNeeds) {
    this.scheduler = scheduler;
    this.folder = `${target.settings.folder.replace(/^~\//, '')}/${needs.installation}`;
    this.#needs = needs;
    this.#helpers = new Helpers(target, scheduler, packed(needs.pythonPackage));
  }

  /** Asked of a node, once; who looks after jobs need not wait for that. */
  described(): Promise<Described> {
    if (!this.#described) {
      const name = `stellwerk-describe-${randomBytes(6).toString('hex')}`;
      const described = this.#helpers.ask(name, 'describe').then((told) => JSON.parse(told) as Described);
      described.catch(() => {
        this.#described = undefined;
      });
      this.#described = described;
    }
    return this.#described;
  }

  /** Asks this server from a node, as a run would. */
  async tryWayBack(): Promise<void> {
    const { publicUrl, caBundle } = this.#needs;
    const server = [publicUrl(), ...(caBundle === undefined ? [] : [caBundle])];
    await this.#helpers.ask(`stellwerk-reach-${randomBytes(6).toString('hex')}`, 'reach', '', server);
  }

  async place(folder: string, job: Job): Promise<Placed> {
    return { job: null, script: await this.#helpers.script('run', folder, job), output: nothing };
  }

  async look(): Promise<FolderState> {
    return { there: true, job: null, tail: [] };
  }

  async recover(folder: string, name: string): Promise<void> {
    if (!(await this.#hasLeft(name, true))) return;
    await this.#helpers.ask(`${name}-recover`, 'recover', folder);
  }

  async clean(folder: string, name: string, wasStarted: boolean): Promise<void> {
    if (!(await this.#hasLeft(name, wasStarted))) return;
    await this.#helpers.ask(`${name}-clean`, 'clean', folder);
  }

  beside(): Promise<Duplex> {
    throw new TargetError(
      'never',
      'Nobody can look in by the REST interface of Slurm: that needs a login node by SSH.',
    );
  }

  accounted(id: string): Promise<Accounted> {
    return this.scheduler.accounted(id);
  }

  /** Whether its folder may be there: of one that began, and whose runner did not come to remove it; or that Slurm has forgotten since. */
  async #hasLeft(name: string, wasStarted: boolean): Promise<boolean> {
    const jobs = await this.scheduler.find(name);
    const helped = (await this.scheduler.find(`${name}-clean`)).some(({ state }) => state === 'COMPLETED');
    if (helped) return false;
    if (jobs.length === 0) return wasStarted;
    return jobs.some(({ state, nodes }) => nodes.length > 0 && state !== 'COMPLETED');
  }
}

type Help = 'describe' | 'reach' | 'recover' | 'clean';

/** Small jobs that do something, and are waited for. */
class Helpers {
  readonly #target: Target<'slurm'>;
  readonly #scheduler: Rest;
  readonly #package: () => Promise<Buffer>;

  constructor(target: Target<'slurm'>, scheduler: Rest, pythonPackage: () => Promise<Buffer>) {
    this.#target = target;
    this.#scheduler = scheduler;
    this.#package = pythonPackage;
  }

  async script(what: string, folder: string, job?: Job, more: readonly string[] = []): Promise<string> {
    const bytes = await this.#package();
    const carried = JSON.stringify({ ...(job && { job }), package: bytes.toString('base64') });
    return carriedScript([what, folder, ...more], carried, this.#target.settings);
  }

  /** What it wrote into its comment. One that is under way already is waited for. */
  async ask(name: string, what: Help, folder = '', more: readonly string[] = []): Promise<string> {
    const known = (await this.#scheduler.find(name)).find(isActive);
    const submitted = async () =>
      this.#scheduler.submit(this.#wanted(name, await this.script(what, folder, undefined, more)));
    const id = known?.id ?? (await submitted());
    for (let polls = 0; polls < helperPolls; polls++) {
      const job = (await this.#scheduler.find(name)).find((one) => one.id === id);
      if (!job) throw new TargetError('later', 'Slurm knows a job no more that was to look after a run.');
      if (!isActive(job)) return ended(job, what);
      await pause(pollMs);
    }
    throw new TargetError('later', 'A job that is to look after a run waits in the queue of the cluster.');
  }

  #wanted(name: string, script: string): Wanted {
    const { settings } = this.#target;
    return { name, folder: '', output: nothing, script, nodes: 1, tasksPerNode: 1, minutes: 10, settings };
  }
}

function ended({ state, comment = '', exitCode }: SeenJob, what: Help): string {
  if (state === 'COMPLETED') return comment;
  const why = (comment || (exitCode === undefined ? state : `${state}, exit code ${exitCode}`)).replace(/[.\s]+$/, '');
  if (what === 'reach') throw new TargetError('never', `A node does not reach this server: ${why}.`);
  const isPython = what === 'describe' && (exitCode === 126 || exitCode === 127);
  if (isPython)
    throw new TargetError(
      'never',
      'Python cannot be started on its nodes: install Python 3.8 or newer with venv there, or name where it is.',
    );
  throw new TargetError(
    what === 'describe' ? 'never' : 'later',
    `A job that was to look after runs has failed: ${why}.`,
  );
}
