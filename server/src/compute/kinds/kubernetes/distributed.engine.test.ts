import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoKubernetes } from '../../../../../test/engines/kubernetes/kubernetes-cluster.ts';
import { buildsWithinMs, builtBinary } from '../../../../../test/engines/kubernetes/programs.ts';
import type { JobState } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnCluster, onCluster } from './kubernetes.fixture.ts';

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

  async function ran(script: string): Promise<{ log: string; state: string; seen: JobState; exitCode?: number }> {
    const order = await server.order(script);
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
    const { state, exitCode } = await server.run(order);
    const log = await server.log(order);
    await jobs.recover(there.target, handle);
    await jobs.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
    return { log, state, seen: seen[0]!, ...(exitCode !== undefined && { exitCode }) };
  }

  test('each process finds its place in the variables that PyTorch and TensorFlow expect, and the others by them', async () => {
    const { log, state, seen } = await ran(meets.replace('import own', 'class own: word = "with its files"'));
    expect(state, log).toBe('completed');
    expect(log).toContain('met [1, 2] of 3 with its files');
    const ranks = [...log.matchAll(/^rank (\d) on (\S+) with its files (\w+)$/gm)];
    expect(ranks.map(([, rank, , secret]) => [rank, secret]).sort()).toEqual([
      ['1', 'True'],
      ['2', 'True'],
    ]);
    expect(new Set(ranks.map(([, , host]) => host)).size).toBe(2);
    expect(seen.facts?.nodes).toHaveLength(3);
  });

  test('if one of them fails all end, with its code', async () => {
    const { log, state, exitCode } = await ran(
      'import os, sys, time\nif os.environ["RANK"] == "2":\n    print("so close", flush=True)\n    sys.exit(7)\ntime.sleep(600)\n',
    );
    expect({ state, exitCode }, log).toEqual({ state: 'failed', exitCode: 7 });
    expect(log).toContain('so close');
  });
});
