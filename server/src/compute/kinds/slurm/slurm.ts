// A Slurm cluster. Its login node is reached by SSH; jobs are submitted there by Slurm's commands, or by its REST interface where that is set. Neither
// login node nor compute nodes need to reach this server: what runners say comes back through the connection. Where there is only the REST interface,
// they do.
import type { NodeCounts, Probe } from '@stellwerk/contract/compute.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { SshConnection } from '../../../exec/ssh/connection.ts';
import type { ComputeDriver, Flaw, Reach, Target } from '../../driver.ts';
import { Commands } from './commands.ts';
import type { Ground } from './ground.ts';
import { SlurmJobs } from './jobs.ts';
import { bySsh, LoginNodes, OnLoginNode, signedInAs } from './login-node.ts';
import { countsOf, flawsOf, groupsFor, type NodeGroup, nodeGroups } from './nodes.ts';
import { Partitions } from './partition.ts';
import { probed, type SlurmNeeds } from './probe.ts';
import { Rest } from './rest.ts';
import { RestGround } from './rest-ground.ts';
import type { Scheduler } from './scheduler.ts';

const groupsKeptForMs = 30_000;

export class SlurmDriver implements ComputeDriver<'slurm'> {
  readonly kind = 'slurm';
  readonly hostsServices = false;
  readonly frameworks = ['MPI'] as const;
  readonly severalNodes = true;
  readonly jobs: SlurmJobs;
  readonly lifetime: Partitions;
  readonly #needs: SlurmNeeds;
  readonly #nodes: LoginNodes;
  readonly #schedulers = new WeakMap<SshConnection, Scheduler>();
  readonly #rests = new Map<string, Rest>();
  readonly #byRests = new WeakMap<Rest, Ground>();
  readonly #groups = new Map<string, Promise<NodeGroup[]>>();

  constructor(needs: SlurmNeeds) {
    this.#needs = needs;
    this.#nodes = new LoginNodes(needs);
    this.lifetime = new Partitions(this.#nodes, needs.installation);
    this.jobs = new SlurmJobs(this);
  }

  async platform(target: Target<'slurm'>): Promise<EnvironmentTarget> {
    return (await (await this.of(target)).described()).platform;
  }

  async probe(target: Target<'slurm'>): Promise<Probe> {
    const findings = await probed(target, this.#needs, (of) => this.#rest(of));
    return { usable: findings.every(({ ok }) => ok), findings };
  }

  queue({ settings }: Target<'slurm'>): string {
    const { address, port, restUrl } = settings;
    return address === undefined ? `slurm ${restUrl!.toLowerCase()}` : `slurm ${address.toLowerCase()}:${port}`;
  }

  reach({ settings }: Target<'slurm'>): Reach {
    return settings.address === undefined ? 'elsewhere' : 'carried';
  }

  /** A cluster that cannot be asked now is submitted to all the same. */
  async flaws(target: Target<'slurm'>, configuration: RunConfiguration): Promise<Flaw[]> {
    const { partition } = target.settings;
    let groups = await this.#groupsOf(target).catch(() => undefined);
    if (groups && groupsFor(groups, partition).length === 0) {
      this.#groups.delete(this.queue(target)); // it may have been made since
      groups = await this.#groupsOf(target).catch(() => undefined);
    }
    return groups ? flawsOf(groups, target.settings, configuration) : [];
  }

  async nodes(target: Target<'slurm'>): Promise<NodeCounts> {
    const { down: _, ...counts } = countsOf(groupsFor(await this.#listed(target), target.settings.partition));
    return counts;
  }

  async of(target: Target<'slurm'>, user?: string): Promise<Ground> {
    const own = signedInAs(target, user);
    if (own.settings.address === undefined) return this.#byRest(own);
    const node = await this.#nodes.of(target, user);
    return new OnLoginNode(node, bySsh(own), this.#schedulerOf(own, node.connection));
  }

  /** One for each, which remembers what it has asked of the nodes. */
  #byRest(target: Target<'slurm'>): Ground {
    const rest = this.#need(target);
    const known = this.#byRests.get(rest) ?? new RestGround(target, rest, this.#needs);
    this.#byRests.set(rest, known);
    return known;
  }

  /** One for each connection, so that those who ask at the same time share an answer. */
  #schedulerOf(own: Target<'slurm'>, connection: SshConnection): Scheduler {
    const known = this.#schedulers.get(connection);
    if (known) return known;
    const made = this.#rest(own) ?? new Commands(connection, own.settings.user);
    this.#schedulers.set(connection, made);
    return made;
  }

  /** One for each, which remembers the version that is spoken. */
  #rest(target: Target<'slurm'>): Rest | undefined {
    const { restUrl, restVersion, token, user } = target.settings;
    if (restUrl === undefined || token === undefined) return undefined;
    const key = JSON.stringify([target.workspace, target.name, target.settings]);
    const known = this.#rests.get(key) ?? new Rest(restUrl, restVersion, user, () => this.#needs.secret(target, token));
    this.#rests.set(key, known);
    return known;
  }

  #need(target: Target<'slurm'>): Rest {
    const rest = this.#rest(target);
    if (rest) return rest;
    throw new TargetError(
      'never',
      `The user has no token for the REST interface of the compute target ${target.name}.`,
    );
  }

  #groupsOf(target: Target<'slurm'>): Promise<NodeGroup[]> {
    const queue = this.queue(target);
    const known = this.#groups.get(queue);
    if (known) return known;
    const asked = this.#listed(target);
    this.#groups.set(queue, asked);
    const forget = () => this.#groups.delete(queue);
    asked.then(() => setTimeout(forget, groupsKeptForMs).unref(), forget);
    return asked;
  }

  async #listed(target: Target<'slurm'>): Promise<NodeGroup[]> {
    if (target.settings.address === undefined) return this.#need(target).groups();
    return nodeGroups((await this.#nodes.of(target)).connection);
  }
}
