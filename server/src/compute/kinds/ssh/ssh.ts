// A Linux machine that is reached by SSH. It need not reach this server: what its runners say comes back through the connection.
import type { Probe } from '@stellwerk/contract/compute.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { Capacity, ComputeDriver, Flaw, RunsJobs, Target, WantedImage } from '../../driver.ts';
import { Contained, usualSocket } from '../docker/contained.ts';
import type { DockerDriver } from '../docker/docker.ts';
import { type MachineNeeds, MadeMachines } from './created.ts';
import { SshJobs } from './jobs.ts';
import { Machines, type SshNeeds } from './machine.ts';
import { probed } from './probe.ts';

export class SshDriver implements ComputeDriver<'ssh'> {
  readonly kind = 'ssh';
  readonly hostsServices = false;
  readonly containers = true;
  readonly takesImages = true;
  readonly jobs: RunsJobs<'ssh'>;
  readonly lifetime: MadeMachines;
  readonly #contained: Contained<'ssh'>;
  readonly #needs: SshNeeds;
  readonly #machines: Machines;
  /** As it was when it was last seen, by the target's queue: a machine that is off is submitted to all the same. */
  readonly #capacities = new Map<string, Capacity>();

  /** `docker`: what executes runs in containers, with the engine over there, and machines that are made. */
  constructor(needs: SshNeeds & MachineNeeds, docker: DockerDriver) {
    this.lifetime = new MadeMachines(needs, docker);
    this.#needs = needs;
    this.#machines = new Machines(needs);
    this.#contained = new Contained(docker, engineThere);
    this.jobs = this.#contained.jobs(new SshJobs(this.#machines));
  }

  flaws(target: Target<'ssh'>, configuration: RunConfiguration): Promise<Flaw[]> {
    return this.#contained.flaws(target, configuration);
  }

  async capacity(target: Target<'ssh'>): Promise<Capacity> {
    const known = this.#capacities.get(this.queue(target));
    const capacity = known ?? (await this.#machines.of(target)).capacity;
    if (!known) this.#capacities.set(this.queue(target), capacity);
    return { ...capacity, gpus: target.settings.gpus ?? capacity.gpus };
  }

  async platform(target: Target<'ssh'>, image: WantedImage = {}): Promise<EnvironmentTarget> {
    if (image.name !== undefined) return this.#contained.platform(target, image);
    return (await this.#machines.of(target)).platform;
  }

  async probe(target: Target<'ssh'>): Promise<Probe> {
    const findings = await probed(target, this.#needs);
    return { usable: findings.every(({ ok }) => ok), findings };
  }

  async forget(target: Target<'ssh'>): Promise<void> {
    await this.#contained.forget(target);
    await this.#machines.forget(target);
  }

  /** One machine, whatever workspaces call it. */
  queue({ settings }: Target<'ssh'>): string {
    return `ssh ${settings.address.toLowerCase()}:${settings.port}`;
  }

  reach(): 'carried' {
    return 'carried';
  }
}

/** Reached by a connection of its own, signed in to in the same way. */
function engineThere({ settings, ...same }: Target<'ssh'>): Target<'docker'> {
  const { address, port, user, dockerSocket = usualSocket, key, passphrase, password, hostKey } = settings;
  const shown = address.includes(':') ? `[${address}]` : address;
  const signIn = { key, passphrase, password, hostKey };
  const engine = `ssh://${user}@${shown}:${port}${dockerSocket}`;
  return { ...same, settings: { kind: 'docker', address: engine, image: 'none', ...signIn } };
}
