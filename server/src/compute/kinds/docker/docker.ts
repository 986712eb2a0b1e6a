// A Docker Engine, attached once; each run is a container on it. Its containers need not reach this server, nor this server them: all goes through
// the connection to the engine.
import type { Duplex } from 'node:stream';
import type { Probe } from '@stellwerk/contract/compute.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Capacity, ComputeDriver, Target, WantedImage } from '../../driver.ts';
import { Engine } from './engine.ts';
import { requiredImage } from './images.ts';
import { DockerJobs } from './jobs.ts';
import { describedBy, infoOf, platformFrom, saidBy } from './looking.ts';
import { probed } from './probe.ts';
import { Relays } from './relays.ts';
import { type SecretOf, Ways } from './way.ts';

export interface DockerNeeds {
  /** A word that no other installation has. */
  installation: string;
  /** Our Python package, a wheel. */
  pythonPackage: string;
  secret: SecretOf;
  /** A connection to this server, for what a job over there says to it. */
  connectHere(): Duplex;
}

export class DockerDriver implements ComputeDriver<'docker'> {
  readonly kind = 'docker';
  readonly hostsServices = false;
  readonly containers = true;
  readonly takesImages = true;
  readonly jobs: DockerJobs;
  readonly #needs: DockerNeeds & { relays: Relays };
  readonly #ways: Ways;
  /** As it was when it was last seen, by its address: an engine that is off is submitted to all the same. */
  readonly #known = new Map<string, { id: string; capacity: Capacity }>();
  readonly #platforms = new Map<string, EnvironmentTarget>();

  constructor(needs: DockerNeeds, relays = new Relays(needs.connectHere)) {
    this.#needs = { ...needs, relays };
    this.#ways = new Ways(needs.secret);
    this.jobs = new DockerJobs({ ...this.#needs, engineOf: (target) => this.engineOf(target) });
  }

  async capacity(target: Target<'docker'>): Promise<Capacity> {
    const { address, gpus = [] } = target.settings;
    let known = this.#known.get(address);
    if (!known) {
      const { ID, NCPU, MemTotal } = await infoOf(this.engineOf(target));
      known = { id: ID, capacity: { cpus: NCPU, memoryBytes: MemTotal, gpus: [] } };
      this.#known.set(address, known);
    }
    return { ...known.capacity, gpus };
  }

  /** One engine, whatever workspaces call it and however they reach it. Until it has been seen, its address stands for it. */
  queue({ settings }: Target<'docker'>): string {
    return `docker ${this.#known.get(settings.address)?.id ?? settings.address}`;
  }

  async platform(target: Target<'docker'>, { name, signIn }: WantedImage = {}): Promise<EnvironmentTarget> {
    const engine = this.engineOf(target);
    const image = name ?? target.settings.image;
    const { id } = await requiredImage(engine, image, signIn);
    const known = this.#platforms.get(id);
    if (known) return known;
    const ended = await describedBy(engine, id, this.#needs);
    if (ended.code !== 0)
      throw new TargetError('never', `python3 cannot be used in the image ${image}: ${saidBy(ended)}.`);
    const platform = platformFrom(ended);
    this.#platforms.set(id, platform);
    return platform;
  }

  async probe(target: Target<'docker'>): Promise<Probe> {
    const findings = await probed(target, this.engineOf(target), this.#needs);
    return { usable: findings.every(({ ok }) => ok), findings };
  }

  /** Why it cannot be used, if it does not even answer. */
  async flawOfEngine(target: Target<'docker'>): Promise<string | undefined> {
    return infoOf(this.engineOf(target)).then(
      () => undefined,
      (error: Error) => error.message,
    );
  }

  forget(target: Target<'docker'>): Promise<void> {
    return this.jobs.forget(target);
  }

  reach(): 'carried' {
    return 'carried';
  }

  engineOf(target: Target<'docker'>): Engine {
    return new Engine(target.settings.address, this.#ways.of(target));
  }
}
