// A Spark cluster for the tests of this kind, and drivers that reach it as those of an installation do.
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import { SparkCluster, type SparkClusterOptions } from '../../../../../test/engines/spark/spark-cluster.ts';
import { wheelPath } from '../../../assets.ts';
import { connectTo } from '../../../installation.ts';
import type { Tried } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import type { RealServer } from '../../real-server.fixture.ts';
import { SparkDriver } from './spark.ts';

export interface OnCluster extends Tried<'spark'> {
  driver(): SparkDriver;
  cluster: SparkCluster;
}

/** Small enough for several at a time. */
export const asPySpark: Partial<RunConfiguration> = {
  framework: 'PySpark',
  spark: { driverMemory: '512m', executors: { count: 2, cores: 1, memory: '512m' } },
};

type Settings = Target<'spark'>['settings'];

export function targetOn(cluster: SparkCluster, more: Partial<Settings> = {}): Target<'spark'> {
  const { address, port, user, hostKey } = cluster.host;
  const plain = { folder: '.stellwerk', python: 'python3', key: 'key', master: cluster.master };
  const settings: Settings = { kind: 'spark', address, port, user, hostKey, ...plain, ...more };
  return { workspace: 'suite', name: 'hdi', settings };
}

export async function onCluster(
  server: RealServer,
  options: SparkClusterOptions = {},
  more: Partial<Settings> = {},
): Promise<OnCluster> {
  const cluster = await SparkCluster.up(options);
  const { host } = cluster;
  server.inJobs = asPySpark;
  const secrets: Record<string, string> = { key: host.key(), password: host.password, wrong: 'guessed' };
  const pythonPackage = (await wheelPath())!;
  const livy = options.livy ? { livy: cluster.livy, master: undefined } : {};
  const needs = {
    installation: 'suite',
    pythonPackage,
    secret: async (_: unknown, name: string) => secrets[name]!,
    connectHere: () => connectTo(server.url),
  };
  const jobs = () => host.shell(`ls ${host.home}/.stellwerk/*/jobs`).split('\n');
  return {
    cluster,
    driver: () => new SparkDriver(needs),
    target: targetOn(cluster, { ...livy, ...more }),
    leftovers: async () => [
      ...jobs().filter((line) => /^[0-9a-f]{32}$/.test(line)),
      ...host.processes().filter((line) => !line.includes('LivyServer')),
      ...(options.livy ? cluster.batches() : []),
    ],
    alive: (pids) => pids.filter((pid) => /State:\s+[^ZX\s]/.test(host.shell(`cat /proc/${pid}/status 2>&1 || true`))),
    end: () => cluster.down(),
  };
}
