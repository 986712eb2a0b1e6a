// A Spark cluster for the tests of this kind, and drivers that reach it as those of an installation do.
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import { SparkCluster, type SparkClusterOptions } from '../../../../../test/engines/spark/spark-cluster.ts';
import { wheelPath } from '../../../assets.ts';
import { connectTo } from '../../../installation.ts';
import type { Tried } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import type { LastCall } from '../../last-call.fixture.ts';
import type { RealServer } from '../../real-server.fixture.ts';
import { Machines } from '../ssh/machine.ts';
import { SparkJobs } from './jobs.ts';
import { SparkDriver } from './spark.ts';

export interface OnCluster extends Tried<'spark'> {
  driver(): SparkDriver;
  /** That of another installation, which knows the same target. */
  another(): SparkDriver;
  cluster: SparkCluster;
}

/** Small enough for several at a time. */
export const asPySpark: Partial<RunConfiguration> = {
  framework: 'PySpark',
  spark: { driverMemory: '512m', executors: { count: 2, cores: 1, memory: '512m' } },
};

/** An application that computes a little, again and again, until it is told that it is enough; the last line says how often. Each line is one write: Spark logs meanwhile. */
export const rounds = `
import os, time
from pyspark.sql import SparkSession
context = SparkSession.builder.getOrCreate().sparkContext
n = 0
while not os.path.exists("/tmp/enough"):
    total = context.parallelize(range(4), 2).map(lambda one: one).sum()
    os.write(1, b"round %d %d\\n" % (n, total))
    n += 1
    time.sleep(0.2)
os.makedirs("outputs", exist_ok=True)
open("outputs/done.txt", "w").write(str(n))
os.write(1, b"rounds %d\\n" % n)
`;

type Settings = Target<'spark'>['settings'];

export function targetOn(cluster: SparkCluster, more: Partial<Settings> = {}): Target<'spark'> {
  const { address, port, user, hostKey } = cluster.host;
  const plain = { folder: '.stellwerk', python: 'python3', key: 'key', master: cluster.master };
  const settings: Settings = { kind: 'spark', address, port, user, hostKey, ...plain, ...more };
  return { workspace: 'suite', name: 'hdi', settings };
}

/** Every use of a machine that has been made ready is a call; how it is made ready is tried by the kind `ssh`. */
function dyingMachines(machines: Machines, last: LastCall): Pick<Machines, 'of'> {
  return {
    async of(target) {
      const machine = await machines.of(target);
      last.atEnd(() => machine.connection.close());
      return { ...machine, connection: last.of(machine.connection, ['run']) };
    },
  };
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
  const yarn = options.yarn ? { master: 'yarn' } : {};
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
    another: () => new SparkDriver({ ...needs, installation: 'another' }),
    dying: (last) => new SparkJobs(dyingMachines(new Machines(needs, { othersPass: true }), last), needs),
    target: targetOn(cluster, { ...livy, ...yarn, ...more }),
    leftovers: async () => [
      ...jobs().filter((line) => /^[0-9a-f]{32}$/.test(line)),
      ...host.processes().filter((line) => !/LivyServer|org\.apache\.hadoop\.yarn\.server/.test(line)),
      ...(options.livy ? cluster.batches() : []),
    ],
    alive: (pids) => pids.filter((pid) => /State:\s+[^ZX\s]/.test(host.shell(`cat /proc/${pid}/status 2>&1 || true`))),
    end: () => cluster.down(),
  };
}
