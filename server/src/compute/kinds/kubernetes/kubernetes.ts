// A namespace of a Kubernetes cluster; each run is a Job in it. Its pods need not reach this server, nor this server them: all goes through the
// connection to the cluster, unless the target says that they reach it by themselves.
import type { Duplex } from 'node:stream';
import type { Probe } from '@stellwerk/contract/compute.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { readOf } from '@stellwerk/contract/resources.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { ComputeDriver, Flaw, PublicAddress, Reach, Target, WantedImage } from '../../driver.ts';
import { packed } from '../../packed-package.ts';
import { Api, Refusal } from './api.ts';
import { KubernetesJobs } from './jobs.ts';
import { readKubeconfig } from './kubeconfig.ts';
import { lookInto, platformFrom } from './looking.ts';
import { flawsOfMade } from './made-images.ts';
import { Namespaces } from './namespaces.ts';
import { flawsOf, nodesFor, quotaFlaws } from './nodes.ts';
import { probed } from './probe.ts';
import { type SecretOf, SignIns } from './pull-secrets.ts';
import { Relays } from './relays.ts';

export interface KubernetesNeeds extends PublicAddress {
  /** A word that no other installation has. */
  installation: string;
  /** Our Python package, a wheel. */
  pythonPackage: string;
  secret: SecretOf;
  /** A connection to this server, for what a job over there says to it. */
  connectHere(): Duplex;
}

const remembersNamesMs = 600_000;

export class KubernetesDriver implements ComputeDriver<'kubernetes'> {
  readonly kind = 'kubernetes';
  readonly hostsServices = false;
  readonly containers = true;
  readonly takesImages = true;
  readonly severalNodes = true;
  readonly jobs: KubernetesJobs;
  readonly lifetime: Namespaces;
  readonly #secret: SecretOf;
  readonly #jobsNeeds: ConstructorParameters<typeof KubernetesJobs>[0];
  readonly #apis = new Map<string, Promise<Api>>();
  readonly #platforms = new Map<string, EnvironmentTarget>();

  constructor(
    { installation, pythonPackage, secret, publicUrl, caBundle, connectHere }: KubernetesNeeds,
    relays = new Relays(connectHere),
  ) {
    this.#secret = secret;
    this.#jobsNeeds = {
      installation,
      package: packed(pythonPackage),
      relays,
      publicUrl,
      ...(caBundle !== undefined && { caBundle }),
      signIns: new SignIns(installation, secret),
      apiOf: (target) => this.#apiOf(target),
    };
    this.jobs = new KubernetesJobs(this.#jobsNeeds);
    this.lifetime = new Namespaces(this.#jobsNeeds);
  }

  async probe(target: Target<'kubernetes'>): Promise<Probe> {
    const findings = await probed(target, this.#jobsNeeds);
    return { usable: findings.every(({ ok }) => ok), findings };
  }

  /** The cluster has its own; this one is for the order of those that wait for it here. */
  queue({ workspace, name }: Target<'kubernetes'>): string {
    return `kubernetes ${workspace}/${name}`;
  }

  reach({ settings }: Target<'kubernetes'>): Reach {
    return settings.reach === 'direct' ? 'elsewhere' : 'carried';
  }

  /** What none of its nodes has. A cluster that does not answer is submitted to all the same. */
  async flaws(target: Target<'kubernetes'>, configuration: RunConfiguration): Promise<Flaw[]> {
    const ofMade = flawsOfMade(target.settings, configuration, this.#jobsNeeds.publicUrl());
    if (ofMade.length > 0) return ofMade;
    if (target.settings.volumeClaimSize !== undefined && readOf(configuration.resources).nodes > 1)
      return [
        {
          field: 'resources.nodes',
          why: 'gives each run a volume, which its nodes cannot share; take one without volumeClaimSize',
        },
      ];
    try {
      const api = await this.#apiOf(target);
      const nodes = await nodesFor(api, target.settings);
      const flaws = nodes ? flawsOf(nodes, target.settings, configuration) : [];
      return flaws.length > 0 ? flaws : await quotaFlaws(api, target.settings, configuration);
    } catch (error) {
      if (error instanceof TargetError || error instanceof Refusal) return [];
      throw error;
    }
  }

  async platform(target: Target<'kubernetes'>, { name, signIn }: WantedImage = {}): Promise<EnvironmentTarget> {
    const image = name ?? target.settings.image;
    const key = JSON.stringify([target.workspace, target.name, target.settings, image]);
    const known = this.#platforms.get(key);
    if (known) return known;
    const asked = { image: name, ...(signIn && { signIn }) };
    const platform = await lookInto(this.#jobsNeeds, target, asked, (look) => platformFrom(look, image)).catch(
      (error) => {
        if (error instanceof Refusal)
          throw new TargetError('never', `The Kubernetes cluster refuses: ${error.message}`);
        throw error;
      },
    );
    this.#platforms.set(key, platform);
    // A name may mean another image some time later, unless it says which.
    if (!image.includes('@sha256:')) setTimeout(() => this.#platforms.delete(key), remembersNamesMs).unref();
    return platform;
  }

  /** Signed in to with what the vault had when it was first asked for, until the cluster takes that no more. */
  #apiOf(target: Target<'kubernetes'>): Promise<Api> {
    const { kubeconfig, context } = target.settings;
    const key = JSON.stringify([target.workspace, target.name, kubeconfig, context]);
    const known = this.#apis.get(key);
    if (known) return known;
    const forget = () => this.#apis.delete(key);
    const made = this.#secret(target, kubeconfig).then((text) => new Api(readKubeconfig(text, context), forget));
    this.#apis.set(key, made);
    made.catch(forget);
    return made;
  }
}
