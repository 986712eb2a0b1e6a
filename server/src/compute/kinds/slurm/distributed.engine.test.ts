import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoSlurm } from '../../../../../test/engines/slurm/packages.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { leftoversOn, type OnCluster, onCluster, targetOn } from './slurm.fixture.ts';

/** A ring by Open MPI itself, without any package: what each rank knows goes to the next. */
const ring = `
import ctypes, os, socket
mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)
mpi.MPI_Init(None, None)
world = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, "ompi_mpi_comm_world")))
def asked(name):
    number = ctypes.c_int()
    getattr(mpi, name)(world, ctypes.byref(number))
    return number.value
rank, size = asked("MPI_Comm_rank"), asked("MPI_Comm_size")
own, total = ctypes.c_int(rank + 1), ctypes.c_int()
integer = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, "ompi_mpi_int")))
add = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, "ompi_mpi_op_sum")))
mpi.MPI_Allreduce(ctypes.byref(own), ctypes.byref(total), 1, integer, add, world)
# At once: what ranks print comes together.
os.write(1, ("rank %d of %d on %s sum %s\\n" % (rank, size, socket.gethostname(), total.value)).encode())
if rank == 0:
    from stellwerk.core import Run
    Run.get_context().log("total", total.value)
mpi.MPI_Finalize()
`;

const tellsItsPlace = `
import json, os, socket
names = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "TF_CONFIG")
print(json.dumps(dict({name: os.environ.get(name) for name in names}, host=socket.gethostname())), flush=True)
if os.environ["RANK"] == "0":
    listening = socket.create_server(("", int(os.environ["MASTER_PORT"])))
    met = {socket.gethostname()}
    for _ in range(2):
        met.add(listening.accept()[0].makefile().readline().strip())
    print("met", ",".join(sorted(met)), flush=True)
else:
    for _ in range(200):
        try:
            with socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), 5) as there:
                there.sendall((socket.gethostname() + "\\n").encode())
            break
        except OSError:
            __import__("time").sleep(0.05)
`;

/** More on each further node, for longer than it takes to be looked at. */
const takesMemory = `
import os, socket, time
taken = b"x" * (int(os.environ["RANK"]) + 1) * 40_000_000
time.sleep(2)
print(socket.gethostname(), "has it", flush=True)
`;

describe.skipIf(whyNoSlurm)(`scripts on several nodes${whyNoSlurm ? ` (${whyNoSlurm})` : ''}`, () => {
  let server: RealServer;
  let there: OnCluster;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onCluster(server);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });

  interface Asked {
    framework?: 'MPI';
    processesPerNode?: number;
    cpus?: number;
  }
  async function ran(script: string, asked: Asked, target = there.target) {
    const order = await server.order(script);
    const { framework = 'Python', processesPerNode, ...resources } = asked;
    Object.assign(order.job.configuration, { framework, ...(processesPerNode && { mpi: { processesPerNode } }) });
    Object.assign(order.job.resources, resources, { nodes: 3 });
    const { jobs } = there.driver();
    const handle = await jobs.start(target, order);
    let run = await server.run(order);
    for (let tries = 0; tries < 600 && !['completed', 'failed', 'canceled'].includes(run.state); tries++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      run = await server.run(order);
    }
    const log = await server.log(order);
    expect(run.state, `${run.reason}\n${log}`).toBe('completed');
    await jobs.cleanUp(target, handle);
    expect(leftoversOn(there.cluster)).toEqual([]);
    return { log, order };
  }

  test.each(['srun --mpi=pmix', 'mpirun'])('three ranks of MPI run on three nodes, started by %s', async (mpi) => {
    const { log, order } = await ran(ring, { framework: 'MPI' }, targetOn(there.cluster, { mpi }));
    const lines = log.split('\n').filter((line) => line.startsWith('rank'));
    expect(lines.sort()).toEqual([0, 1, 2].map((rank) => `rank ${rank} of 3 on node${rank} sum 6`));
    const { items } = await server.ask<{ items: { name: string; last: number }[] }>(
      'GET',
      `/workspaces/suite/runs/${order.job.run}/metrics`,
    );
    expect(items).toMatchObject([{ name: 'total', last: 6, count: 1 }]);
    for (const rank of [0, 1, 2])
      expect(await server.log(order, `rank-${rank}.txt`)).toContain(`rank ${rank} of 3 on node${rank} sum 6`);
  });

  test.each(['srun --mpi=pmix', 'mpirun'])('two ranks run on each of three nodes, started by %s', async (mpi) => {
    const asked = { framework: 'MPI', processesPerNode: 2, cpus: 4 } as const;
    const { log } = await ran(ring, asked, targetOn(there.cluster, { mpi }));
    const lines = log.split('\n').filter((line) => line.startsWith('rank'));
    const expected = [0, 1, 2, 3, 4, 5].map((rank) => `rank ${rank} of 6 on node${Math.floor(rank / 2)} sum 21`);
    expect(lines.sort()).toEqual(expected);
  });

  test('what each node gives its processes is sampled there, and what a rank prints has a log of its own', async () => {
    const { log, order } = await ran(takesMemory, {});
    const { items } = await server.ask<{ items: { name: string; max: number }[] }>(
      'GET',
      `/workspaces/suite/runs/${order.job.run}/metrics?of=resources`,
    );
    const peaks = Object.fromEntries(items.map(({ name, max }) => [name, max]));
    for (const [node, name] of ['memoryBytes', 'node1.memoryBytes', 'node2.memoryBytes'].entries()) {
      expect(peaks[name]).toBeGreaterThan((node + 1) * 40e6);
      expect(peaks[name]).toBeLessThan((node + 2) * 40e6);
      expect(await server.log(order, `rank-${node}.txt`)).toBe(`node${node} has it\n`);
      expect(log).toContain(`node${node} has it\n`);
    }
  });

  test('each process finds its place in the variables that PyTorch and TensorFlow expect, and the others by them', async () => {
    const { log } = await ran(tellsItsPlace, { cpus: 2 });
    const places = log
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line)); // one per process
    places.sort((one, other) => Number(one.RANK) - Number(other.RANK));
    expect(
      places.map(({ RANK, WORLD_SIZE, LOCAL_RANK, NODE_RANK, host }) => [
        RANK,
        WORLD_SIZE,
        LOCAL_RANK,
        NODE_RANK,
        host,
      ]),
    ).toEqual([0, 1, 2].map((rank) => [String(rank), '3', '0', String(rank), `node${rank}`]));
    expect(new Set(places.map(({ MASTER_ADDR, MASTER_PORT }) => `${MASTER_ADDR}:${MASTER_PORT}`)).size).toBe(1);
    expect(places[0].MASTER_ADDR).toBe('node0');
    const { cluster, task } = JSON.parse(places[1].TF_CONFIG);
    expect(task).toEqual({ type: 'worker', index: 1 });
    expect(cluster.worker.map((address: string) => address.split(':')[0])).toEqual(['node0', 'node1', 'node2']);
    expect(log).toContain('met node0,node1,node2');
  });
});
