// A Linux machine that is reached by SSH. It need not reach this server: what its runners say comes back through the connection.
import type { Probe } from '@stellwerk/contract/compute.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { Capacity, ComputeDriver, RunsJobs, Target } from '../../driver.ts';
import { SshJobs } from './jobs.ts';
import { Machines, type SshNeeds } from './machine.ts';
import { probed } from './probe.ts';

export class SshDriver implements ComputeDriver<'ssh'> {
  readonly kind = 'ssh';
  readonly hostsServices = false;
  readonly jobs: RunsJobs<'ssh'>;
  readonly #needs: SshNeeds;
  readonly #machines: Machines;
  /** As it was when it was last seen, by the target's queue: a machine that is off is submitted to all the same. */
  readonly #capacities = new Map<string, Capacity>();

  constructor(needs: SshNeeds) {
    this.#needs = needs;
    this.#machines = new Machines(needs);
    this.jobs = new SshJobs(this.#machines);
  }

  async capacity(target: Target<'ssh'>): Promise<Capacity> {
    const known = this.#capacities.get(this.queue(target));
    const capacity = known ?? (await this.#machines.of(target)).capacity;
    if (!known) this.#capacities.set(this.queue(target), capacity);
    return { ...capacity, gpus: target.settings.gpus ?? capacity.gpus };
  }

  async platform(target: Target<'ssh'>): Promise<EnvironmentTarget> {
    return (await this.#machines.of(target)).platform;
  }

  async probe(target: Target<'ssh'>): Promise<Probe> {
    const findings = await probed(target, this.#needs);
    return { usable: findings.every(({ ok }) => ok), findings };
  }

  /** One machine, whatever workspaces call it. */
  queue({ settings }: Target<'ssh'>): string {
    return `ssh ${settings.address.toLowerCase()}:${settings.port}`;
  }

  reach(): 'carried' {
    return 'carried';
  }
}
