// Every kind of compute target, complete by the compiler.
import type { ComputeKind } from '@stellwerk/contract/compute-settings.ts';
import type { ComputeDriver, Target } from './driver.ts';
import { HostDriver, type HostNeeds } from './kinds/host/host.ts';
import { localDriver } from './kinds/local/local.ts';
import { SparkDriver } from './kinds/spark/spark.ts';
import type { SshNeeds } from './kinds/ssh/machine.ts';
import { SshDriver } from './kinds/ssh/ssh.ts';

export type ComputeKinds = { readonly [K in ComputeKind]: ComputeDriver<K> };

export function computeKinds(needs: { host: HostNeeds; ssh: SshNeeds }): ComputeKinds {
  return {
    local: localDriver,
    host: new HostDriver(needs.host),
    ssh: new SshDriver(needs.ssh),
    spark: new SparkDriver(needs.ssh),
  };
}

/** The driver of a target: target and driver are of the same kind, which the compiler cannot see through the table. */
export function driverOf(kinds: ComputeKinds, target: Target): ComputeDriver<ComputeKind> {
  return kinds[target.settings.kind] as ComputeDriver<ComputeKind>;
}
