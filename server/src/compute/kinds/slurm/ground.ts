// What jobs of a cluster stand on: a login node that is reached by SSH, or, where there is none, Slurm's REST interface alone.
import type { Duplex } from 'node:stream';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import type { Target } from '../../driver.ts';
import type { Accounted } from './accounting.ts';
import type { Scheduler } from './scheduler.ts';

/** How the folder of a job stands. */
export interface FolderState {
  there: boolean;
  /** The number of the job that took it up, if one has and that is known. */
  job: string | null;
  /** The last that was said there before or by the runner. */
  tail: string[];
}

export interface Placed {
  /** The number of the job that has taken the folder up already. */
  job: string | null;
  script: string;
  /** Where what the script prints goes. */
  output: string;
}

export interface Described {
  /** What environments are resolved for. */
  platform: EnvironmentTarget;
  /** Whether Slurm has a plugin by which Open MPI's ranks find each other. */
  hasPmix: boolean;
}

export interface Ground {
  scheduler: Scheduler;
  /** This installation's own folder, the same on all nodes; below the user's home if it does not begin with a slash. */
  folder: string;
  described(): Promise<Described>;
  /** Makes the folder of a job ready, and tells what is to be submitted for it. */
  place(folder: string, job: Job): Promise<Placed>;
  look(folder: string): Promise<FolderState>;
  /** Delivers what a dead runner left there; `name` is that of its job. */
  recover(folder: string, name: string): Promise<void>;
  /** `wasStarted`: the job is known to have been submitted. */
  clean(folder: string, name: string, wasStarted: boolean): Promise<void>;
  beside(folder: string, words: readonly string[]): Promise<Duplex>;
  accounted(id: string): Promise<Accounted>;
}

export interface Grounds {
  of(target: Target<'slurm'>, user?: string): Promise<Ground>;
}
