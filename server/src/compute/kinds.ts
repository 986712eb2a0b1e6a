// Every kind of compute target, complete by the compiler.
import type { ComputeKind } from '@stellwerk/contract/compute-settings.ts';
import type { ComputeDriver, Target } from './driver.ts';
import { DockerDriver, type DockerNeeds } from './kinds/docker/docker.ts';
import { HostDriver, type HostNeeds } from './kinds/host/host.ts';
import { KubernetesDriver, type KubernetesNeeds } from './kinds/kubernetes/kubernetes.ts';
import { localDriver } from './kinds/local/local.ts';
import { SlurmDriver } from './kinds/slurm/slurm.ts';
import { SparkDriver } from './kinds/spark/spark.ts';
import type { MachineNeeds } from './kinds/ssh/created.ts';
import type { SshNeeds } from './kinds/ssh/machine.ts';
import { SshDriver } from './kinds/ssh/ssh.ts';

/** Of kinds that carry what their runs say to this server. */
type RemoteNeeds = SshNeeds & MachineNeeds & DockerNeeds & KubernetesNeeds;

export type ComputeKinds = { readonly [K in ComputeKind]: ComputeDriver<K> };

export function computeKinds({ host, remote }: { host: HostNeeds; remote: RemoteNeeds }): ComputeKinds {
  const docker = new DockerDriver(remote);
  return {
    local: localDriver,
    host: new HostDriver(host, docker),
    ssh: new SshDriver(remote, docker),
    slurm: new SlurmDriver(remote),
    spark: new SparkDriver(remote),
    docker,
    kubernetes: new KubernetesDriver(remote),
  };
}

/** The driver of a target: target and driver are of the same kind, which the compiler cannot see through the table. */
export function driverOf(kinds: ComputeKinds, target: Target): ComputeDriver<ComputeKind> {
  return kinds[target.settings.kind] as ComputeDriver<ComputeKind>;
}
