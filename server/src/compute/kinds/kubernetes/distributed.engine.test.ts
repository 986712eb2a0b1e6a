import { availableParallelism } from 'node:os';
import type { Run } from '@stellwerk/contract/run.ts';
import type { RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoKubernetes } from '../../../../../test/engines/kubernetes/kubernetes-cluster.ts';
import { buildsWithinMs, builtBinary } from '../../../../../test/engines/kubernetes/programs.ts';
import type { JobOrder, JobState } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnCluster, onCluster } from './kubernetes.fixture.ts';

interface Ran {
  order: JobOrder;
  run: Run;
  log: string;
  seen: JobState;
}

/** Each process meets the first one, by what the variables say of it. */
const meets = `
import json, os, socket, time
import own
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
assert json.loads(os.environ["TF_CONFIG"])["task"]["index"] == rank
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    listening = socket.create_server(("", address[1]))
    met = sorted(int(listening.accept()[0].makefile().readline()) for _ in range(size - 1))
    print("met", met, "of", size, own.word, flush=True)
else:
    print("rank", rank, "on", socket.gethostname(), own.word, os.environ["SECRET"] == "given", flush=True)
    for _ in range(300):
        try:
            with socket.create_connection(address, 5) as there:
                there.sendall(b"%d\\n" % rank)
            break
        except OSError:
            time.sleep(0.1)
`;

/** More on each further node, for longer than it takes to be looked at. */
const takesMemory = `
import os, time
rank = int(os.environ["RANK"])
taken = b"x" * (rank + 1) * 40_000_000
time.sleep(3)
print("rank", rank, "has it", flush=True)
`;
const takesTooMuch = `
import os, time
held = []
while os.environ["RANK"] == "2":
    held.append(b"x" * 10_000_000)
time.sleep(600)
`;

describe.skipIf(whyNoKubernetes)(`scripts on several pods${whyNoKubernetes ? ` (${whyNoKubernetes})` : ''}`, () => {
  beforeAll(() => builtBinary(), buildsWithinMs);
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

  async function ran(script: string, resources: RunConfigurationInput['resources'] = {}): Promise<Ran> {
    const order = await server.order(script, { resources });
    order.job.resources.nodes = 3;
    order.job.secrets = { SECRET: 'given' };
    const { jobs } = there.driver();
    const handle = await jobs.start(there.target, order);
    const seen: JobState[] = [];
    await expect
      .poll(
        async () => {
          const now = await jobs.look(there.target, handle);
          if (now.state === 'running') seen.push(now);
          return now.state;
        },
        { timeout: 50_000, interval: 300 },
      )
      .toBe('ended');
    const run = await server.run(order);
    const log = await server.log(order);
    await jobs.recover(there.target, handle);
    await jobs.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
    return { order, log, run, seen: seen[0]! };
  }

  test('each process finds its place in the variables that PyTorch and TensorFlow expect, and the others by them', async () => {
    const { log, run, seen } = await ran(meets.replace('import own', 'class own: word = "with its files"'));
    expect(run.state, log).toBe('completed');
    expect(log).toContain('met [1, 2] of 3 with its files');
    const ranks = [...log.matchAll(/^rank (\d) on (\S+) with its files (\w+)$/gm)];
    expect(ranks.map(([, rank, , secret]) => [rank, secret]).sort()).toEqual([
      ['1', 'True'],
      ['2', 'True'],
    ]);
    expect(new Set(ranks.map(([, , host]) => host)).size).toBe(2);
    expect(seen.facts?.nodes).toHaveLength(3);
  });

  test('what each pod takes is sampled there, and what a rank prints has a log of its own', async () => {
    const { order, log, run } = await ran(takesMemory);
    expect(run.state, log).toBe('completed');
    const { items } = await server.ask<{ items: { name: string; max: number }[] }>(
      'GET',
      `/workspaces/suite/runs/${order.job.run}/metrics?of=resources`,
    );
    const peaks = Object.fromEntries(items.map(({ name, max }) => [name, max]));
    for (const [rank, name] of ['memoryBytes', 'node1.memoryBytes', 'node2.memoryBytes'].entries()) {
      expect(peaks[name]).toBeGreaterThan((rank + 1) * 40e6);
      expect(peaks[name]).toBeLessThan((rank + 2) * 40e6);
      expect(await server.log(order, `rank-${rank}.txt`)).toBe(`rank ${rank} has it\n`);
      expect(log).toContain(`rank ${rank} has it\n`);
    }
    expect(run.usage?.peakMemoryBytes).toBeGreaterThan(3 * 40e6);
  });

  test('if one of them runs out of memory, that is the reason', async () => {
    const { run, log } = await ran(takesTooMuch, { memory: '200MB' });
    expect(run, log).toMatchObject({ state: 'failed', reason: expect.stringContaining('ran out of memory') });
  });

  test('killed before all of them have a place, none is left, not even those that have one', async () => {
    const order = await server.order('print("all here")\n');
    Object.assign(order.job.resources, { nodes: 3, cpus: availableParallelism() * 0.45 }); // two of them fit
    const { jobs } = there.driver();
    const handle = await jobs.start(there.target, order);
    const waits = { state: 'waiting', reason: expect.stringContaining('Another of its pods: No node has') };
    await expect.poll(() => jobs.look(there.target, handle), { timeout: 90_000, interval: 300 }).toMatchObject(waits);
    await expect.poll(() => there.cluster.processes('run').length > 0, { timeout: 90_000 }).toBe(true);
    await jobs.cancel(there.target, handle, 'kill');
    expect(await jobs.look(there.target, handle)).toMatchObject({ state: 'ended' });
    await expect.poll(() => there.cluster.processes('run'), { timeout: 90_000 }).toEqual([]);
    await jobs.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test('if one of them fails all end, with its code', async () => {
    const { log, run } = await ran(
      'import os, sys, time\nif os.environ["RANK"] == "2":\n    print("so close", flush=True)\n    sys.exit(7)\ntime.sleep(600)\n',
    );
    expect(run, log).toMatchObject({ state: 'failed', exitCode: 7 });
    expect(log).toContain('so close');
  });
});
