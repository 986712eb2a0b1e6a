// A target that is made: a namespace of its own on an attached cluster, with a quota for all of its runs together.
// Invariants: its name is made from those of workspace and target unless one is given, so that making it again finds it; one that was not made for
// the target is neither used nor removed.
import { createHash } from 'node:crypto';
import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { readOf } from '@stellwerk/contract/resources.ts';
import type { IsProvisioned, StartWatch, Target } from '../../driver.ts';
import { type Api, Refusal } from './api.ts';
import { until } from './lifecycle.ts';
import { installationLabel, madeForLabel, managed } from './places.ts';

type Place = Pick<Target, 'workspace' | 'name'>;
type Wanted = Parameters<IsProvisioned<'kubernetes'>['provide']>[1];

interface Needs {
  installation: string;
  apiOf(target: Target<'kubernetes'>): Promise<Api>;
}

/** What a run gets that says nothing, until it asks for more. */
const little = { cpu: '100m', memory: '128Mi' };
const quotaName = 'stellwerk';

export class Namespaces implements IsProvisioned<'kubernetes'> {
  readonly on = 'kubernetes';
  readonly #needs: Needs;

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  async provide(place: Place, wanted: Wanted, on: Target, watch: StartWatch = {}): Promise<SettingsOf<'kubernetes'>> {
    const base = on as Target<'kubernetes'>;
    const api = await this.#needs.apiOf(base);
    const namespace = this.#nameOf(place, wanted);
    await refusals(api, async () => {
      const labels = this.#labelsOf(place);
      const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels } };
      if (!(await api.make('/api/v1/namespaces', body))) await this.#requireOwn(api, place, namespace);
      await apply(api, namespace, 'resourcequotas', quotaOf(wanted, base.settings.gpuResource));
      await apply(api, namespace, 'limitranges', limitsOf(wanted));
    });
    watch.log?.(`The namespace ${namespace} is there, with its quota.`);
    return { ...base.settings, namespace };
  }

  async remove(place: Place, wanted: Wanted, on: Target): Promise<void> {
    const api = await this.#needs.apiOf(on as Target<'kubernetes'>);
    const path = `/api/v1/namespaces/${this.#nameOf(place, wanted)}`;
    await refusals(api, async () => {
      if (!(await this.#isOwn(api, place, path))) return;
      await api.find({ method: 'DELETE', path });
      await until(async () => (await api.find({ path })) === undefined, 'The namespace was not taken away in time.');
    });
  }

  async #requireOwn(api: Api, place: Place, namespace: string): Promise<void> {
    if (await this.#isOwn(api, place, `/api/v1/namespaces/${namespace}`)) return;
    throw new TargetError(
      'never',
      `The namespace ${namespace} is there already, and was not made for this target: name another one, or attach it.`,
    );
  }

  async #isOwn(api: Api, place: Place, path: string): Promise<boolean> {
    const there = await api.find<{ metadata: { labels?: Record<string, string> } }>({ path });
    const labels = there?.metadata.labels ?? {};
    return Object.entries(this.#labelsOf(place)).every(([name, value]) => labels[name] === value);
  }

  #labelsOf(place: Place): Record<string, string> {
    return { ...managed, [installationLabel]: this.#needs.installation, [madeForLabel]: this.#markOf(place) };
  }

  #nameOf(place: Place, { namespace }: Wanted): string {
    if (namespace !== undefined) return namespace;
    const name = place.name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
    return `stellwerk-${name.slice(0, 24).replace(/-$/, '')}-${this.#markOf(place)}`;
  }

  #markOf({ workspace, name }: Place): string {
    const whole = JSON.stringify([this.#needs.installation, workspace, name]);
    return createHash('sha256').update(whole).digest('hex').slice(0, 12);
  }
}

function quotaOf(wanted: Wanted, gpuResource: string): object {
  const { cpus, memoryBytes } = readOf({ nodes: 1, cpus: wanted.cpus, memory: wanted.memory });
  const hard = {
    ...(cpus !== undefined && { 'requests.cpu': String(cpus) }),
    ...(memoryBytes !== undefined && { 'requests.memory': String(memoryBytes) }),
    ...(wanted.gpus !== undefined && { [`requests.${gpuResource}`]: String(wanted.gpus) }),
    ...(wanted.maxPods !== undefined && { pods: String(wanted.maxPods) }),
  };
  return { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: quotaName, labels: managed }, spec: { hard } };
}

/** A quota lets in only what says how much it wants: this says it for those that do not. */
function limitsOf({ cpus, memory }: Wanted): object {
  const { memoryBytes } = readOf({ nodes: 1, memory });
  const most = {
    ...(cpus !== undefined && { cpu: String(cpus) }),
    ...(memoryBytes !== undefined && { memory: String(memoryBytes) }),
  };
  const limits = [{ type: 'Container', default: most, defaultRequest: little }];
  return { apiVersion: 'v1', kind: 'LimitRange', metadata: { name: quotaName, labels: managed }, spec: { limits } };
}

/** Made, or changed to this. */
async function apply(api: Api, namespace: string, kind: string, body: object): Promise<void> {
  const path = `/api/v1/namespaces/${namespace}/${kind}`;
  if (await api.make(path, body)) return;
  await api.ask({ method: 'PUT', path: `${path}/${quotaName}`, body });
}

async function refusals<T>(api: Api, act: () => Promise<T>): Promise<T> {
  return act().catch((error) => {
    if (!(error instanceof Refusal)) throw error;
    const isPassing = error.status === 429 || error.status >= 500;
    const message = `The Kubernetes cluster ${api.name} refuses: ${error.message}`;
    throw new TargetError(isPassing ? 'later' : 'never', message);
  });
}
