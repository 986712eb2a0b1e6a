// What a kind of compute target can do: capability by presence. Whoever writes a kind writes this, and runs `driver.suite.ts` on it.
// A driver never touches the database, never retries and never reads the clock. It throws a TargetError for what the world did.
import type { Duplex, Readable } from 'node:stream';
import type { NodeCounts, Probe } from '@stellwerk/contract/compute.ts';
import type { ProvisioningOf } from '@stellwerk/contract/compute-kinds/provisioning.ts';
import type { ComputeKind, SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { Job, JobFacts, Usage } from '@stellwerk/contract/job.ts';
import type { Gpu } from '@stellwerk/contract/resources.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';

export interface Target<K extends ComputeKind = ComputeKind> {
  workspace: string;
  name: string;
  settings: SettingsOf<K>;
}

export interface JobOrder {
  /** Unique for ever: the job carries it as its name over there, so that a second start finds the first. */
  id: string;
  job: Job;
  /** Who submitted it, for targets where each has a sign-in of his own. */
  user?: string;
  /** To sign in to the registry of the image that the run configuration names, where it has secrets for it. */
  imageSignIn?: { user: string; password: string };
  /** An image that was made here for it, with its environment in it; in place of the one that the run configuration names. */
  image?: MadeImage;
}

export interface MadeImage {
  /** `sha256:…` of its manifest. */
  digest: string;
  /** As what an engine loads, under a name. */
  archive(name: string, signal?: AbortSignal): Promise<Readable>;
  /** For engines that reach this server: its name in the registry here, and a sign-in for it alone that ends with the attempt of the run. */
  pull?: { name: string; signIn: NonNullable<JobOrder['imageSignIn']> };
}

/** The container image that a run configuration names. */
export interface WantedImage {
  name?: string;
  signIn?: JobOrder['imageSignIn'];
}

/** Plain JSON, and all that is kept of a started job: everything works with it after this service was restarted. */
export type JobHandle = Readonly<Record<string, string | number>>;

/** `ended`: its runner is gone, however it went. What came of the run is what the runner reported; if it could not, the cause counts. */
export type JobState =
  /** In a queue of the target's own, with the reason in words that its users know. */
  | { state: 'waiting'; reason: string; position?: number; facts?: JobFacts }
  | { state: 'running'; facts?: JobFacts }
  /** `usage`: as the target accounts for it. */
  | { state: 'ended'; cause?: EndCause; reason?: string; facts?: JobFacts; usage?: Usage };

/** Why a job ended without its runner having said anything, where the target knows. */
export type EndCause = 'preempted' | 'node-lost' | 'time-limit' | 'out-of-memory' | 'canceled' | 'refused';

/** What one machine has for runs: each takes its share of it, and waits until there is one. */
export interface Capacity {
  cpus: number;
  memoryBytes: number;
  gpus: readonly Gpu[];
}

/** What a target cannot give, with the field of the run configuration that asks for it. The reason goes on after "the compute target x". */
export interface Flaw {
  field: string;
  why: string;
}

/** How what runs on a target reaches this server: from the same machine, by the server's public address, or only by what the driver lays for it. */
export type Reach = 'here' | 'elsewhere' | 'carried';

/** For what runs elsewhere: the address of this server, and the certificate that it is trusted by, where it has one of its own. */
export interface PublicAddress {
  publicUrl(): string;
  caBundle?: string;
}

/** What has to be made ready before a job is started is told, and left when the signal says so. */
export interface StartWatch {
  log?: (line: string) => void;
  signal?: AbortSignal;
}

export interface RunsJobs<K extends ComputeKind> {
  /** Places the job and starts its runner. Idempotent by `order.id`. */
  start(target: Target<K>, order: JobOrder, watch?: StartWatch): Promise<JobHandle>;
  look(target: Target<K>, handle: JobHandle): Promise<JobState>;
  /** `ask`: the runner is to stop its script, deliver and end. `kill`: at once, and all that the job ever started. Safe at any time. */
  cancel(target: Target<K>, handle: JobHandle, how: 'ask' | 'kill'): Promise<void>;
  /** Ships what a dead runner left in its journal; only after it may `cleanUp` delete that. */
  recover(target: Target<K>, handle: JobHandle): Promise<void>;
  /** Starts `stellwerk.runner.beside` with these words where the job's script runs, as its user: its input and output. Absent: nobody looks in. */
  beside?(target: Target<K>, handle: JobHandle, words: readonly string[]): Promise<Duplex>;
  /** Removes all that the job left, processes included. Safe twice, safe if the start failed half-way (by the order's id). */
  cleanUp(target: Target<K>, handle: JobHandle | { id: string; user?: string }): Promise<void>;
}

/** Targets of this kind that are made on an attached one. */
export interface IsProvisioned<K extends ComputeKind> {
  /** The kind of target that it is made on. */
  readonly on: ComputeKind;
  /** Makes what is wanted, or changes what is there to it; idempotent by workspace and name. Returns how it is used. */
  provide(
    place: Pick<Target, 'workspace' | 'name'>,
    wanted: ProvisioningOf<K>,
    on: Target,
    watch?: StartWatch,
  ): Promise<SettingsOf<K>>;
  /** Removes all of it. Safe twice, and if it was made half-way. */
  remove(place: Pick<Target, 'workspace' | 'name'>, wanted: ProvisioningOf<K>, on: Target): Promise<void>;
  /** Asked every few seconds: brings what was made back to how it was wanted, and is quick. */
  tend?(place: Pick<Target, 'workspace' | 'name'>, wanted: ProvisioningOf<K>, on: Target): Promise<void>;
}

export interface ComputeDriver<K extends ComputeKind> {
  readonly kind: K;
  readonly hostsServices: boolean;
  /** Can we reach it and use it? Changes nothing. */
  probe(target: Target<K>): Promise<Probe>;
  /** Runs that share a machine wait in one queue: its name. */
  queue(target: Target<K>): string;
  /** Where it is `carried`, the driver writes the address into the job. */
  reach(target: Target<K>): Reach;
  /** What its machine has, where shares of it are given out here. Absent: the target has a queue of its own, or belongs to somebody else. */
  capacity?(target: Target<K>): Promise<Capacity>;
  /** What it runs beside `Python`; a run configuration with another framework is refused. */
  readonly frameworks?: readonly RunConfiguration['framework'][];
  /** Whether a run may have several machines there; elsewhere it is refused. */
  readonly severalNodes?: true;
  /** Whether the script may run in a container of an image that the run configuration names; elsewhere it is refused. */
  readonly containers?: true;
  /** Whether it takes images that are made here. */
  readonly takesImages?: true;
  /** What a run asks for and this target can never give, beyond what its `capacity` tells. Asked at submit. */
  flaws?(target: Target<K>, configuration: RunConfiguration): Promise<Flaw[]>;
  /** What environments of its runs are resolved for. Absent: for the server's own machine, or for that of whoever takes the run up. */
  platform?(target: Target<K>, image?: WantedImage): Promise<EnvironmentTarget | undefined>;
  /** What can train by itself. Absent: runs are taken up by whoever submitted them. */
  readonly jobs?: RunsJobs<K>;
  /** What can be created, and not only attached. */
  readonly lifetime?: IsProvisioned<K>;
  /** Removes what is kept there for later runs of the target, of which none is left. What others use stays. */
  forget?(target: Target<K>): Promise<void>;
  /** Of a cluster: how its nodes are just now. */
  nodes?(target: Target<K>): Promise<NodeCounts>;
}
