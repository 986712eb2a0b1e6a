// A cluster for the tests of this kind, and drivers that reach it as those of an installation do.
import { KubernetesCluster } from '../../../../../test/engines/kubernetes/kubernetes-cluster.ts';
import { wheelPath } from '../../../assets.ts';
import { connectTo } from '../../../installation.ts';
import type { Tried } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import { packed } from '../../packed-package.ts';
import type { RealServer } from '../../real-server.fixture.ts';
import type { Api } from './api.ts';
import { KubernetesJobs } from './jobs.ts';
import { KubernetesDriver } from './kubernetes.ts';
import { SignIns } from './pull-secrets.ts';
import { Relays } from './relays.ts';

type Settings = Target<'kubernetes'>['settings'];

export interface OnCluster extends Tried<'kubernetes'> {
  /** Another life of the service, with the ways back that the one before has laid. */
  driver(): KubernetesDriver;
  /** Of another installation. */
  another(): KubernetesDriver;
  /** As the end of the service does: all ways back are cut. */
  cutWays(): Promise<void>;
  cluster: KubernetesCluster;
  /** Of the vault. */
  secrets: Record<string, string>;
  targetWith(more: Partial<Settings>): Target<'kubernetes'>;
  /** Jobs of a service that speaks with the cluster by this. */
  jobsBy(api: Api): KubernetesJobs;
}

/** Root's shell on the node, for each process that is the first of a run's container: `$process` is its folder in /proc. */
export function inRuns(cluster: KubernetesCluster, script: string): void {
  cluster.shell(`for process in /proc/[0-9]*; do
  words="$(tr '\\0' ' ' <$process/cmdline 2>/dev/null)" || continue
  case "$words" in *runner[.]container\\ run\\ *) ${script};; esac
done`);
}

const kinds = [
  'apis/batch/v1/jobs',
  'api/v1/pods',
  'api/v1/secrets',
  'api/v1/services',
  'api/v1/persistentvolumeclaims',
];

export async function onCluster(server: Pick<RealServer, 'url'>): Promise<OnCluster> {
  const cluster = await KubernetesCluster.up();
  const secrets: Record<string, string> = { kubeconfig: cluster.kubeconfig };
  const connectHere = () => connectTo(server.url);
  let relays = new Relays(connectHere);
  const needs = {
    installation: 'suite',
    pythonPackage: (await wheelPath())!,
    secret: async (_: unknown, name: string) => secrets[name]!,
    publicUrl: () => server.url,
    connectHere,
  };
  const plain: Settings = {
    kind: 'kubernetes',
    kubeconfig: 'kubeconfig',
    namespace: 'default',
    image: cluster.image,
    nodeSelector: {},
    tolerations: [],
    gpuResource: 'nvidia.com/gpu',
    reach: 'carried',
  };
  const targetWith = (more: Partial<Settings>) => ({
    workspace: 'suite',
    name: 'cluster',
    settings: { ...plain, ...more },
  });
  return {
    cluster,
    secrets,
    driver: () => new KubernetesDriver(needs, relays),
    another: () => new KubernetesDriver({ ...needs, installation: 'other' }),
    async cutWays() {
      const cut = relays;
      relays = new Relays(connectHere);
      await cut.closeAll();
    },
    targetWith,
    jobsBy: (api) =>
      new KubernetesJobs({
        ...needs,
        package: packed(needs.pythonPackage),
        relays,
        signIns: new SignIns(needs.installation, needs.secret),
        apiOf: async () => api,
      }),
    target: targetWith({}),
    async leftovers() {
      const names = await Promise.all(kinds.map((kind) => cluster.names(kind)));
      return [...names.flat().filter((name) => name !== 'services kubernetes'), ...cluster.processes()];
    },
    alive: (pids) => pids.filter((pid) => cluster.processes('run').includes(pid)),
    end: () => cluster.down(),
  };
}
