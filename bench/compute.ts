// From a submitted run to the first line of its script, beside the engine's bare command that prints the same: each says what time it is, by the clock
// of the same machine. Needs root, and brings the engines up one after another. And what others notice while 200 runs are queued at once.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Client } from '@stellwerk/client/client.ts';
import { uploadSnapshot } from '@stellwerk/client/snapshots.ts';
import type { RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import type { InputOf } from '@stellwerk/contract/verbs.ts';
import { DockerEngine, whyNoDocker } from '../test/engines/docker/docker-engine.ts';
import { KubernetesCluster, whyNoKubernetes } from '../test/engines/kubernetes/kubernetes-cluster.ts';
import { whyNoSlurm } from '../test/engines/slurm/packages.ts';
import { SlurmCluster } from '../test/engines/slurm/slurm-cluster.ts';
import { SparkCluster, whyNoSpark } from '../test/engines/spark/spark-cluster.ts';
import { SshHost, whyNoSshHost } from '../test/engines/ssh/ssh-host.ts';
import { workFolder } from '../test/work-folder.ts';
import { type Figure, median, percentile } from './figure.ts';
import { Product, workspace } from './product.ts';

const kinds = ['ssh', 'slurm', 'spark', 'docker', 'kubernetes'] as const;
export const names = ['compute', ...kinds.map((kind) => `compute-${kind}`), 'queued-host', 'queued-slurm'];
const jobs = '/apis/batch/v1/namespaces/default/jobs';
const rounds = 10;
const queuedRuns = 200;
const program = 'import time; print(time.time(), flush=True)';

interface Engine extends AsyncDisposable {
  settings: InputOf<'compute', 'attach'>['settings'];
  secrets: Record<string, string>;
  /** What runs ask for beside their script. */
  asked?: Partial<RunConfigurationInput>;
  /** Runs the program, and gives what it printed. */
  bare(): string | Promise<string>;
}

const engines: Record<(typeof kinds)[number], { why: string | undefined; up: (folder: string) => Promise<Engine> }> = {
  ssh: {
    why: whyNoSshHost,
    async up(folder) {
      const host = await SshHost.up();
      const { address, port, user, hostKey } = host;
      return {
        settings: { kind: 'ssh', address, port, user, hostKey, key: 'key' },
        secrets: { key: host.key() },
        bare: bySsh(folder, { address, port, user, hostKey, key: () => host.key() }, `python3 -c '${program}'`),
        [Symbol.asyncDispose]: () => host.down(),
      };
    },
  },
  slurm: {
    why: whyNoSlurm,
    async up(folder) {
      const cluster = await SlurmCluster.up();
      const { address, port, hostKey } = cluster;
      const host = { address, port, hostKey, user: 'trainer', key: () => cluster.key() };
      return {
        settings: { kind: 'slurm', address, port, user: 'trainer', hostKey, key: 'key', partition: 'batch' },
        secrets: { key: cluster.key() },
        bare: bySsh(folder, host, `srun -Q --partition=batch python3 -c '${program}'`),
        [Symbol.asyncDispose]: () => cluster.down(),
      };
    },
  },
  spark: {
    why: whyNoSpark,
    async up(folder) {
      const cluster = await SparkCluster.up();
      const { address, port, user, hostKey, home } = cluster.host;
      cluster.host.shell(`echo '${program}' >${home}/bare.py; chmod a+r ${home}/bare.py`);
      const host = { address, port, user, hostKey, key: () => cluster.host.key() };
      const words = `--master ${cluster.master} --driver-memory 512m --executor-memory 512m --total-executor-cores 1`;
      return {
        settings: { kind: 'spark', address, port, user, hostKey, key: 'key', master: cluster.master },
        secrets: { key: cluster.host.key() },
        asked: {
          framework: 'PySpark',
          spark: { driverMemory: '512m', executors: { count: 1, cores: 1, memory: '512m' } },
        },
        bare: bySsh(folder, host, `${cluster.sparkHome}/bin/spark-submit ${words} bare.py 2>/dev/null`),
        [Symbol.asyncDispose]: () => cluster.down(),
      };
    },
  },
  docker: {
    why: whyNoDocker,
    async up() {
      const engine = await DockerEngine.up();
      const command = ['-H', `unix://${engine.socket}`, 'run', '--rm', engine.image, 'python3', '-c', program];
      return {
        settings: { kind: 'docker', address: `unix://${engine.socket}`, image: engine.image },
        secrets: {},
        bare: () => execFileSync('docker', command, { encoding: 'utf8' }),
        [Symbol.asyncDispose]: () => engine.down(),
      };
    },
  },
  kubernetes: {
    why: whyNoKubernetes,
    async up() {
      const cluster = await KubernetesCluster.up();
      return {
        settings: { kind: 'kubernetes', kubeconfig: 'kubeconfig', image: cluster.image },
        secrets: { kubeconfig: cluster.kubeconfig },
        bare: () => byJob(cluster),
        [Symbol.asyncDispose]: () => cluster.down(),
      };
    },
  },
};

/** A bare Job, by the cluster's API; its image is on the node. */
async function byJob(cluster: KubernetesCluster): Promise<string> {
  const job = await cluster.api.ask<{ metadata: { name: string } }>('POST', `${jobs}`, {
    metadata: { generateName: 'bare-' },
    spec: {
      template: {
        spec: {
          restartPolicy: 'Never',
          containers: [{ name: 'bare', image: cluster.image, command: ['python3', '-c', program] }],
        },
      },
    },
  });
  const { name } = job.body.metadata;
  for (;;) {
    const pods = await cluster.api.get<{ items: { metadata: { name: string }; status: { phase: string } }[] }>(
      `/api/v1/namespaces/default/pods?labelSelector=job-name%3D${name}`,
    );
    const [pod] = pods.items;
    if (pod?.status.phase === 'Succeeded') {
      const { body } = await cluster.api.ask<string | number>(
        'GET',
        `/api/v1/namespaces/default/pods/${pod.metadata.name}/log`,
      );
      await cluster.api.ask('DELETE', `${jobs}/${name}?propagationPolicy=Background`);
      return String(body);
    }
    await pause(50);
  }
}

export async function* measure(asked: readonly string[]): AsyncIterable<Figure> {
  const isAsked = (...figures: string[]) =>
    asked.length === 0 || asked.includes('compute') || figures.some((figure) => asked.includes(figure));
  for (const kind of kinds) {
    const { why, up } = engines[kind];
    if (!isAsked(`compute-${kind}`, `queued-${kind}`)) continue;
    if (why !== undefined) {
      process.stderr.write(`compute-${kind} is not measured: ${why}.\n`);
      continue;
    }
    await using product = await Product.start();
    await using engine = await up(product.folder);
    const { client } = product;
    for (const [name, value] of Object.entries(engine.secrets)) await client.secrets.set({ workspace, name, value });
    await client.compute.attach({ workspace, name: kind, settings: engine.settings });
    yield* besideBare(client, product.folder, kind, engine);
    if (kind === 'slurm') yield* whileQueued(client, product.folder, kind);
  }
  if (!isAsked('queued-host')) return;
  await using product = await Product.start();
  yield* whileQueued(product.client, product.folder, 'host');
}

async function* besideBare(
  client: Client,
  folder: string,
  kind: string,
  { bare, asked }: Engine,
): AsyncIterable<Figure> {
  const snapshot = await snapshotIn(client, folder);
  const [ours, peer]: [number[], number[]] = [[], []];
  for (let round = -2; round < rounds; round++) {
    const begun = Date.now();
    const bareMs = saidIn(await bare()) * 1_000 - begun;
    const begunMs = Date.now();
    const run = await submittedTo(client, snapshot, kind, asked);
    const oursMs = saidIn(await printedBy(client, run)) * 1_000 - begunMs;
    if (round < 0) continue; // connections and environments are made
    peer.push(bareMs);
    ours.push(oursMs);
  }
  yield { name: `compute-${kind}`, ours: median(ours), peer: median(peer), unit: 'ms' };
}

/** What time it was, among what else an engine says. */
function saidIn(text: string): number {
  const [, seconds] = /^(\d+\.\d+)$/m.exec(text) ?? [];
  if (seconds === undefined) throw new Error(`No time is said in: ${text.slice(-500)}`);
  return Number(seconds);
}

/** The 95th percentile of another user's requests while many runs wait and run; none is lost. */
async function* whileQueued(client: Client, folder: string, target: string): AsyncIterable<Figure> {
  const snapshot = await snapshotIn(client, folder);
  const runs = await Promise.all(Array.from({ length: queuedRuns }, () => submittedTo(client, snapshot, target)));
  const times: number[] = [];
  const over = new AbortController();
  const asking = (async () => {
    while (!over.signal.aborted) {
      const begun = performance.now();
      await client.runs.list({ workspace, pageSize: 50 });
      times.push(performance.now() - begun);
      await pause(20);
    }
  })();
  for (const run of runs) if ((await endOf(client, run)) !== 'completed') throw new Error(`The run ${run} was lost.`);
  over.abort();
  await asking;
  yield { name: `queued-${target}`, ours: percentile(times, 0.95), peer: null, unit: 'ms' };
}

async function snapshotIn(client: Client, folder: string): Promise<string> {
  return (await uploadSnapshot(client, workspace, workFolder(folder, { 'main.py': program }))).digest;
}

async function submittedTo(
  client: Client,
  snapshot: string,
  target: string,
  asked: Partial<RunConfigurationInput> = {},
): Promise<string> {
  const configuration = { script: 'main.py', target, environment: { userManaged: true }, ...asked };
  return (await client.runs.submit({ workspace, experiment: 'bench', snapshot, configuration })).id;
}

async function endOf(client: Client, run: string): Promise<string> {
  for (;;) {
    const { state, endedAt } = await client.runs.get({ workspace, run });
    if (endedAt !== undefined) return state;
    await pause(100);
  }
}

async function printedBy(client: Client, run: string): Promise<string> {
  const state = await endOf(client, run);
  if (state !== 'completed') throw new Error(`The run ${run} ${state}.`);
  return (await client.logs.get({ workspace, run })).text();
}

type Reached = { address: string; port: number; user: string; hostKey: string; key(): string };

function bySsh(folder: string, { address, port, user, hostKey, key }: Reached, command: string): () => string {
  const [identity, known] = [join(folder, 'identity'), join(folder, 'known')];
  writeFileSync(identity, key(), { mode: 0o600 });
  writeFileSync(known, `[${address}]:${port} ${hostKey}\n`);
  const options = ['-o', `UserKnownHostsFile=${known}`, '-o', 'BatchMode=yes', '-i', identity, '-p', String(port)];
  return () => execFileSync('ssh', [...options, `${user}@${address}`, command], { encoding: 'utf8' });
}
