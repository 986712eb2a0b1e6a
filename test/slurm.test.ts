// A team's Slurm cluster, reached by SSH to its login node, whose compute nodes reach nothing but each other: attached with a key from the vault, training
// as the local machine does, MPI on three of its nodes, and what the cluster tells of a run on its record.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectSameAsOnHost } from './diabetes.ts';
import { pythonWithMpi, pythonWithScikitLearn } from './engines/pythons.ts';
import { whyNoSlurm } from './engines/slurm/packages.ts';
import { SlurmCluster } from './engines/slurm/slurm-cluster.ts';
import { Installation } from './installation.ts';
import { runOf, submit } from './submission.ts';
import { until, untilEnded, untilState } from './waiting.ts';

const workspace = 'story';
const userManaged = { environment: { userManaged: true } };

describe.skipIf(whyNoSlurm)(`a Slurm cluster${whyNoSlurm ? ` (${whyNoSlurm})` : ''}`, () => {
  let installation: Installation;
  let cluster: SlurmCluster;
  beforeAll(async () => {
    cluster = await SlurmCluster.up();
    installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
    await cluster?.down();
  });

  const named = (run: Run) => ({ workspace, run: run.id });
  const place = (run: Run) => ({ client: installation.client, ...named(run) });
  const printed = async (run: Run) => (await installation.client.logs.get(named(run))).text();
  const left = () =>
    [
      ...cluster.shell('ls -d /srv/*/.stellwerk/*/jobs/* 2>/dev/null || true').split('\n'),
      ...cluster.shell('squeue -h -a').split('\n'),
      ...cluster.processes().filter((line) => !line.includes('stellwerk.runner.login_relay')),
    ].filter((line) => line !== '');

  test('is attached with a key from the vault, or refused with what to do', async () => {
    const kept = await installation.cli(['secret', 'set', 'cluster-key', '--stdin'], { input: cluster.key() });
    expect(kept.code, kept.stderr).toBe(0);
    const { address, port, hostKey } = cluster;
    const attach = (...more: string[]) => {
      const where = ['--address', address, '--port', String(port), '--user', 'trainer', '--key', 'cluster-key'];
      return installation.cli([
        'compute',
        'attach',
        'cluster',
        '--kind',
        'slurm',
        ...where,
        '--host-key',
        hostKey,
        ...more,
      ]);
    };
    const refused = await attach('--partition', 'gone');
    expect(refused.stderr).toContain('no partition gone');
    const attached = await attach('--partition', 'batch');
    expect(attached.code, attached.stderr).toBe(0);
    const { usable, findings } = await installation.client.compute.probe({ workspace, target: 'cluster' });
    expect(usable, JSON.stringify(findings)).toBe(true);
  });

  test('is attached from a notebook with the names of before', async () => {
    const key = join(installation.folder, 'key');
    writeFileSync(key, cluster.key(), { mode: 0o600 });
    const code = `
import sys
from stellwerk.core import Workspace
from stellwerk.core.compute import BatchAiCompute, ComputeTarget, SlurmCompute
workspace = Workspace.get("story")
address, port, key, host_key = sys.argv[1:]
settings = SlurmCompute.attach_configuration(username="trainer", address=address, ssh_port=int(port), private_key_file=key, host_key=host_key, partition="batch")
target = ComputeTarget.attach(workspace, "notebook-cluster", settings)
target.wait_for_completion(show_output=True)
print(type(ComputeTarget(workspace, "notebook-cluster")).__name__, target.partition, target.address == address)
target.detach()
`;
    const done = await installation.python(['-c', code, cluster.address, String(cluster.port), key, cluster.hostKey]);
    expect(done.stdout.split('\n'), done.stderr).toEqual([
      'notebook-cluster: Succeeded',
      'SlurmCompute batch True',
      '',
    ]);
  });

  test('what it has not is refused at once', async () => {
    const refused = (more: object) =>
      submit(installation, { target: 'cluster', ...userManaged, ...more }).then(
        () => '',
        (error: Error) => error.message,
      );
    expect(await refused({ resources: { cpus: 5 } })).toContain('nodes of at most 4 CPUs');
    expect(await refused({ resources: { gpus: 1, gpuType: 'h100' } })).toContain('GPUs of the types a100');
    expect(await refused({ resources: { nodes: 4 } })).toContain('3 such nodes');
    expect(await refused({ framework: 'PySpark' })).toContain('Python and MPI');
  });

  test('trains the diabetes example with the metrics of the local run', async () => {
    const asked = { environment: { userManaged: true, interpreterPath: pythonWithScikitLearn() } };
    await expectSameAsOnHost(installation, 'cluster', asked, asked);
    await until('nothing is left', () => left().length === 0);
  });

  test('MPI runs three ranks on three nodes, and rank 0 logs what all of them found', async () => {
    const run = await runOf(installation, {
      code: ranks,
      target: 'cluster',
      framework: 'MPI',
      resources: { nodes: 3 },
      environment: { userManaged: true, interpreterPath: pythonWithMpi() },
    });
    expect(run, `${run.reason}\n${run.printed}`).toMatchObject({ state: 'completed' });
    const lines = run.printed.split('\n').filter((line) => line.startsWith('rank'));
    expect(lines.sort()).toEqual([0, 1, 2].map((rank) => `rank ${rank} of 3 on node${rank} sum 6`));
    const { items } = await installation.client.metrics.list(named(run));
    expect(items).toMatchObject([{ name: 'sum', count: 1, last: 6 }]);
    const shown = await until('the cluster has told', async () => {
      const now = await installation.client.runs.get(named(run));
      return now.job?.nodes?.length === 3 && now;
    });
    expect(shown.job).toMatchObject({ id: expect.stringMatching(/^\d+$/), nodes: ['node0', 'node1', 'node2'] });
    await until('nothing is left', () => left().length === 0);
  });

  test('a partition of its own is created on it from a notebook, trains on nodes that are switched on for that, and is deleted', async () => {
    const kept = await installation.cli(['secret', 'set', 'chief-key', '--stdin'], { input: cluster.key('chief') });
    expect(kept.code, kept.stderr).toBe(0);
    const { address, port, hostKey } = cluster;
    const settings = { kind: 'slurm' as const, address, port, hostKey, user: 'chief', key: 'chief-key' };
    await installation.client.compute.attach({ workspace, name: 'whole-cluster', settings });
    await until('it is attached', async () => {
      const { state } = await installation.client.compute.get({ workspace, target: 'whole-cluster' });
      return state === 'usable';
    });
    const create = `
from stellwerk.core import Workspace
from stellwerk.core.compute import AmlCompute, ComputeTarget
workspace = Workspace.get("story")
def wanted(size):
    return AmlCompute.provisioning_configuration(vm_size=size, min_nodes=1, max_nodes=2, on="whole-cluster")
try:
    ComputeTarget.create(workspace, "unknown", wanted("Standard_NC6")).wait_for_completion()
except Exception as error:
    print("standard_d4" in str(error))
target = ComputeTarget.create(workspace, "grown", wanted("standard_d4"))
target.wait_for_completion(show_output=True, min_node_count=1, timeout_in_minutes=2)
print(target.partition.startswith("stellwerk-grown-"), sorted(target.nodes))
`;
    const made = await installation.python(['-c', create]);
    expect(made.stdout.split('\n'), made.stderr).toEqual([
      'True',
      'grown: Succeeded',
      "True ['idle', 'off', 'running', 'starting']",
      '',
    ]);
    const code = 'import os; print("on", os.uname().nodename)';
    const run = await runOf(installation, { code, target: 'grown', ...userManaged });
    expect(run, run.reason).toMatchObject({ state: 'completed' });
    expect(run.printed).toMatch(/^on cloud\d/);
    for (const target of ['grown', 'unknown']) await installation.client.compute.delete({ workspace, target });
    await until('the partition is gone', () => !cluster.shell('sinfo -a -h -o %P').includes('stellwerk-'));
    await until('nothing is left', () => left().length === 0);
  });

  test('a run that waits shows its place in the queue and why; canceled there, it ends', async () => {
    const filler = cluster
      .shell('runuser -u alice -- sbatch --parsable --chdir=/tmp -o /dev/null -N3 --cpus-per-task=4 --wrap "sleep 600"')
      .trim();
    await until('the cluster is full', () => cluster.shell(`squeue -h -j ${filler} -o %T`).trim() === 'RUNNING');
    const run = await submit(installation, { code: 'print(1)', target: 'cluster', ...userManaged });
    const waiting = await until('the reason', async () => {
      const now = await installation.client.runs.get(named(run));
      return now.reason?.includes('(Resources)') && now;
    });
    expect(waiting.reason).toBe('Waits until enough of the cluster is free (Resources). (position 1)');
    await installation.client.runs.cancel(named(run));
    expect(await untilEnded(place(run))).toMatchObject({ state: 'canceled' });
    cluster.shell(`scancel ${filler}`);
    await until('nothing is left', () => left().length === 0);
  });

  test('a run whose node is lost begins again from its checkpoint, and goes on while the server is killed', async () => {
    const code = `
import os, time
place = os.path.join(os.environ["STELLWERK_CHECKPOINTS"], "step")
first = int(open(place).read()) if os.path.exists(place) else 0
print("attempt", os.environ["STELLWERK_ATTEMPT"], "from", first, "on", os.uname().nodename, flush=True)
open(place, "w").write("7")
print("ready", flush=True)
while first == 0 or not os.path.exists("/srv/trainer/enough"):
    time.sleep(0.1)
`;
    const retries = { count: 1 };
    const run = await submit(installation, { code, target: 'cluster', ...userManaged, retries });
    await until('the checkpoint is kept', async () => {
      const { items } = await installation.client.runs.listFiles(named(run));
      return items.some(({ path }) => path === 'checkpoints/step');
    });
    const [, node] = /on (node\d)/.exec(await printed(run))!;
    cluster.crashNode(node!);
    await until('the next attempt', async () => (await printed(run)).includes('attempt 2 from 7'));
    cluster.bootNode(node!);
    await untilState(place(run), 'running');
    await installation.restart('SIGKILL');
    cluster.shell('touch /srv/trainer/enough');
    const ended = await untilEnded(place(run));
    expect(ended, ended.reason).toMatchObject({ state: 'completed', attempt: 2 });
    await until('nothing is left', () => left().length === 0);
  });
});

const ranks = `
import os, socket
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
os.write(1, f"rank {world.rank} of {world.size} on {socket.gethostname()} sum {total}\\n".encode())
if world.rank == 0:
    from stellwerk.core import Run
    Run.get_context().log("sum", total)
`;
