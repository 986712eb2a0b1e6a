// A Spark cluster, reached by SSH on its head node: a run is a script that drives an application there, under the same runner as everywhere. It is
// started by spark-submit, or by Livy where the target has one. What works for the application is the cluster's own business, and ends with it.
import type { Probe } from '@stellwerk/contract/compute.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { ComputeDriver, Flaw, Target } from '../../driver.ts';
import { Machines, type SshNeeds } from '../ssh/machine.ts';
import { flawsOf } from './asked.ts';
import { SparkJobs } from './jobs.ts';
import { probed } from './probe.ts';

export class SparkDriver implements ComputeDriver<'spark'> {
  readonly kind = 'spark';
  readonly hostsServices = false;
  readonly frameworks = ['PySpark'] as const;
  readonly jobs: SparkJobs;
  readonly #needs: SshNeeds;
  readonly #machines: Machines;

  constructor(needs: SshNeeds) {
    this.#needs = needs;
    this.#machines = new Machines(needs, { othersPass: true }); // executors have another user, and the script's Python
    this.jobs = new SparkJobs(this.#machines, needs);
  }

  async platform(target: Target<'spark'>): Promise<EnvironmentTarget> {
    return (await this.#machines.of(target)).platform;
  }

  async flaws(target: Target<'spark'>, configuration: RunConfiguration): Promise<Flaw[]> {
    return flawsOf(target.settings, configuration);
  }

  async probe(target: Target<'spark'>): Promise<Probe> {
    const findings = await probed(target, this.#needs);
    return { usable: findings.every(({ ok }) => ok), findings };
  }

  forget(target: Target<'spark'>): Promise<void> {
    return this.#machines.forget(target);
  }

  /** One cluster, whatever workspaces call it. */
  queue({ settings }: Target<'spark'>): string {
    return `spark ${settings.address.toLowerCase()}:${settings.port}`;
  }

  reach(): 'carried' {
    return 'carried';
  }
}
