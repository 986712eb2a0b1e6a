import { setTimeout as pause } from 'node:timers/promises';
import type { RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { registrySignIn, whyNoRegistry } from '../../../../../test/engines/docker/registry.ts';
import { whyNoKubernetes } from '../../../../../test/engines/kubernetes/kubernetes-cluster.ts';
import { buildsWithinMs, builtBinary } from '../../../../../test/engines/kubernetes/programs.ts';
import type { JobHandle, JobState, Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { inRuns, type OnCluster, onCluster } from './kubernetes.fixture.ts';

const named = (what: string) => `${what}${whyNoKubernetes ? ` (${whyNoKubernetes})` : ''}`;
const quotas = '/api/v1/namespaces/default/resourcequotas';
const early = `
import os, time
os.makedirs("outputs", exist_ok=True)
open("outputs/early.txt", "w").write("early")
print("ready", flush=True)
time.sleep(600)
`;

describe.skipIf(whyNoKubernetes)(named('what a cluster does with jobs'), () => {
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

  const begun: [Target<'kubernetes'>, JobHandle][] = [];
  /** Whatever came of a test, the next one finds the cluster as it was. */
  afterEach(async () => {
    for (const [target, handle] of begun.splice(0)) await jobs().cleanUp(target, handle);
    const labels = { 'nvidia.com/gpu.product': null };
    await admin('PATCH', `/api/v1/nodes/${there.cluster.node}`, { metadata: { labels }, spec: { taints: null } });
    await admin('DELETE', `${quotas}/small`);
    await admin('DELETE', '/api/v1/namespaces/default/pods/greedy');
  });

  type Configuration = Partial<RunConfigurationInput>;
  const jobs = () => there.driver().jobs;
  async function started(script: string, configuration: Configuration = {}, target = there.target) {
    const { container, ...asked } = configuration;
    const order = await server.order(script, asked);
    if (container) order.job.configuration.container = { ...container, environment: 'at-start' };
    const handle = await jobs().start(target, order);
    begun.push([target, handle]);
    return { order, handle, look: () => jobs().look(target, handle) };
  }
  async function untilSeen(look: () => Promise<JobState>, wanted: object, withinMs = 60_000): Promise<JobState> {
    await expect.poll(look, { timeout: withinMs, interval: 200 }).toMatchObject(wanted);
    return look();
  }
  const untilPrinted = (order: Parameters<RealServer['log']>[0], text: string) =>
    expect.poll(() => server.log(order), { timeout: 60_000, interval: 200 }).toContain(text);
  async function cleaned(handle: JobHandle, target = there.target): Promise<void> {
    await jobs().cleanUp(target, handle);
    expect(await there.leftovers()).toEqual([]);
  }
  const admin = <T>(method: string, path: string, body?: object) => there.cluster.api.ask<T>(method, path, body);

  test('what no node can give just now is waited for with the reason, and canceled without a trace', async () => {
    const { handle, look } = await started('print(1)\n', { resources: { cpus: 1_000 } });
    await untilSeen(look, { state: 'waiting', reason: 'No node has 1000 free CPUs.' });
    await jobs().cancel(there.target, handle, 'ask');
    await untilSeen(look, { state: 'ended', cause: 'canceled' });
    await jobs().recover(there.target, handle);
    await cleaned(handle);
  });

  test.each<[string, Configuration, object, string]>([
    ['memory', { resources: { memory: '512GB' } }, {}, 'No node has 512 GB of free memory.'],
    ['GPUs', { resources: { gpus: 2 } }, {}, 'No node has 2 free GPUs.'],
    ['labels', {}, { nodeSelector: { zone: 'moon' } }, 'No node has the labels that are asked for.'],
  ])('%s that are missing are told', async (_, configuration, settings, reason) => {
    const target = there.targetWith(settings);
    const { handle, look } = await started('print(1)\n', configuration, target);
    await untilSeen(look, { state: 'waiting', reason });
    await cleaned(handle, target);
  });

  test('GPUs are those that the cluster counts, of the type that its nodes are labelled with', async () => {
    await there.cluster.label({ 'nvidia.com/gpu.product': 'A100' });
    await there.cluster.declare('nvidia.com/gpu', 2);
    const target = there.targetWith({ gpuTypeLabel: 'nvidia.com/gpu.product' });
    const { handle, look } = await started('print(1)\n', { resources: { gpus: 2, gpuType: 'A100' } }, target);
    await untilSeen(look, { state: 'running' });
    const { body } = await admin<{ items: object[] }>('GET', '/api/v1/namespaces/default/pods');
    expect(JSON.stringify(body.items)).toContain('"nvidia.com/gpu":"2"');
    await cleaned(handle, target);
    const configuration = (resources: object) => server.order('print(1)\n', { resources: resources as never });
    const flaws = async (resources: object) =>
      there.driver().flaws(target, (await configuration(resources)).job.configuration);
    expect(await flaws({ gpus: 2, gpuType: 'A100' })).toEqual([]);
    expect(await flaws({ gpus: 3, gpuType: 'A100' })).toMatchObject([{ field: 'resources.gpus' }]);
    expect(await flaws({ gpus: 1, gpuType: 'H100' })).toMatchObject([
      { field: 'resources.gpuType', why: expect.stringContaining('A100') },
    ]);
    expect(await flaws({ cpus: 4_000 })).toMatchObject([
      { field: 'resources.cpus', why: expect.stringContaining('CPUs at most') },
    ]);
    const withVolume = there.targetWith({ volumeClaimSize: '1Gi' });
    const onSeveral = (await configuration({})).job.configuration;
    Object.assign(onSeveral.resources, { nodes: 2 });
    expect(await there.driver().flaws(withVolume, onSeveral)).toMatchObject([{ field: 'resources.nodes' }]);
    expect(await flaws({ memory: '900TB' })).toMatchObject([{ field: 'resources.memory' }]);
    await there.cluster.declare('nvidia.com/gpu', 0);
  });

  test('a taint keeps runs away from a node unless the target tolerates it', async () => {
    const node = `/api/v1/nodes/${there.cluster.node}`;
    await admin('PATCH', node, { spec: { taints: [{ key: 'team', value: 'vision', effect: 'NoSchedule' }] } });
    const refused = await started('print(1)\n');
    await untilSeen(refused.look, {
      state: 'waiting',
      reason: expect.stringContaining('a taint that the target does not tolerate'),
    });
    await cleaned(refused.handle);
    const target = there.targetWith({ tolerations: [{ key: 'team', operator: 'Exists' }] });
    const { order, handle, look } = await started('print("let in")\n', {}, target);
    await untilSeen(look, { state: 'ended' });
    expect(await server.run(order)).toMatchObject({ state: 'completed' });
    await cleaned(handle, target);
  });

  test.each([
    ['that is nowhere', '127.0.0.1:1/none:1', 'cannot be pulled'],
    ['without Python', 'registry.local/empty:1', 'no python3'],
  ])('an image %s ends the job as refused', async (_, image, reason) => {
    await there.cluster.addImage('registry.local/empty:1');
    const { handle, look } = await started('print(1)\n', { container: { image } });
    await untilSeen(look, { state: 'ended', cause: 'refused', reason: expect.stringContaining(reason) }, 120_000);
    await cleaned(handle);
  });

  test.skipIf(whyNoRegistry)(
    `a registry that wants to be signed in to is, with what the run or its target has${whyNoRegistry ? ` (${whyNoRegistry})` : ''}`,
    async () => {
      const image = await there.cluster.addToRegistry();
      const refused = await started('print(1)\n', { container: { image } });
      await untilSeen(refused.look, { state: 'ended', cause: 'refused', reason: expect.stringContaining('pulled') });
      await cleaned(refused.handle);
      Object.assign(there.secrets, { puller: registrySignIn.user, word: registrySignIn.password });
      const target = there.targetWith({ image, registryUser: 'puller', registryPassword: 'word' });
      const own = await started('print("pulled")\n', {}, target);
      await untilSeen(own.look, { state: 'ended' });
      expect(await server.log(own.order)).toBe('pulled\n');
      await cleaned(own.handle, target);
      there.cluster.forgetImage(image);
      // What the target has is for its own image: who names one signs in by himself.
      const not = await started('print(1)\n', { container: { image } }, target);
      await untilSeen(not.look, { state: 'ended', cause: 'refused', reason: expect.stringContaining('pulled') });
      await cleaned(not.handle, target);
      const order = await server.order('print("pulled, too")\n');
      order.job.configuration.container = { environment: 'at-start', image };
      const handle = await jobs().start(there.target, { ...order, imageSignIn: registrySignIn });
      await untilSeen(() => jobs().look(there.target, handle), { state: 'ended' });
      expect(await server.log(order)).toBe('pulled, too\n');
      await cleaned(handle);
    },
  );

  test('a run that takes more memory than it asked for is ended for that', async () => {
    const { order, handle, look } = await started('held = []\nwhile True:\n    held.append(b"x" * 10_000_000)\n', {
      resources: { memory: '200MB' },
    });
    await untilSeen(look, { state: 'ended', cause: 'out-of-memory' });
    await jobs().recover(there.target, handle);
    expect(await server.run(order)).toMatchObject({ state: 'failed', reason: expect.stringContaining('memory') });
    await cleaned(handle);
  });

  test('a runner that is killed on its node has ended; what it wrote is delivered', async () => {
    const { order, handle, look } = await started(early);
    await untilPrinted(order, 'ready');
    inRuns(there.cluster, 'kill -KILL "$(basename $process)"');
    await untilSeen(look, { state: 'ended', usage: { exitCode: 137 } });
    await jobs().recover(there.target, handle);
    expect(await server.files(order)).toContain('outputs/early.txt');
    await cleaned(handle);
  });

  test('a namespace whose quota is used up makes a job wait', async () => {
    await admin('POST', quotas, { metadata: { name: 'small' }, spec: { hard: { pods: '0' } } });
    const { handle, look } = await started('print(1)\n');
    await untilSeen(look, { state: 'waiting', reason: expect.stringContaining('quota of the namespace') });
    await cleaned(handle);
  });

  test('a pod that is evicted has lost its place; what it wrote is delivered', async () => {
    const { order, handle, look } = await started(early);
    await untilPrinted(order, 'ready');
    const { body } = await admin<{ items: { metadata: { name: string } }[] }>('GET', '/api/v1/namespaces/default/pods');
    const { name } = body.items[0]!.metadata;
    const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: 'default' } };
    expect((await admin('POST', `/api/v1/namespaces/default/pods/${name}/eviction`, eviction)).status).toBe(201);
    await untilSeen(look, { state: 'ended', cause: 'preempted', reason: expect.stringContaining('evicted') });
    await jobs().recover(there.target, handle);
    expect(await server.files(order)).toContain('outputs/early.txt');
    await cleaned(handle);
  });

  test('a pod of a higher priority takes the place of a run, which may write a checkpoint before', async () => {
    const { order, handle, look } = await started(
      'import os, signal, time\ndef warned(*_):\n    os.makedirs("outputs", exist_ok=True)\n    open("outputs/warned.txt", "w").write("x")\n    print("warned", flush=True)\nsignal.signal(signal.SIGUSR1, warned)\nprint("ready", flush=True)\nwhile True:\n    time.sleep(0.1)\n',
      { resources: { cpus: 1 }, warning: { seconds: 5 } },
    );
    await untilPrinted(order, 'ready');
    await admin('POST', '/apis/scheduling.k8s.io/v1/priorityclasses', { metadata: { name: 'high' }, value: 1_000 });
    const { body: node } = await admin<{ status: { allocatable: { cpu: string } } }>(
      'GET',
      `/api/v1/nodes/${there.cluster.node}`,
    );
    const cpu = String(Number(node.status.allocatable.cpu) - 0.5);
    const container = {
      name: 'main',
      image: there.cluster.image,
      command: ['sleep', '600'],
      resources: { requests: { cpu } },
    };
    const spec = { priorityClassName: 'high', terminationGracePeriodSeconds: 0, containers: [container] };
    await admin('POST', '/api/v1/namespaces/default/pods', { metadata: { name: 'greedy' }, spec });
    await untilPrinted(order, 'warned');
    await untilSeen(look, { state: 'ended', cause: 'preempted', reason: expect.stringContaining('higher priority') });
    await jobs().recover(there.target, handle);
    expect(await server.files(order)).toContain('outputs/warned.txt');
    await admin('DELETE', '/api/v1/namespaces/default/pods/greedy');
    await pause(2_000);
    await cleaned(handle);
  });

  test('the job and its secrets are in a Secret that goes with it, and in no argument, variable or label', async () => {
    const { order, handle, look } = await started(early, {});
    await untilPrinted(order, 'ready');
    const { token } = order.job;
    for (const kind of ['apis/batch/v1/namespaces/default/jobs', 'api/v1/namespaces/default/pods'])
      expect(JSON.stringify((await admin('GET', `/${kind}`)).body)).not.toContain(token);
    for (const told of ['cmdline', 'environ'])
      expect(there.cluster.shell(`cat /proc/[0-9]*/${told} 2>/dev/null | tr '\\0' '\\n' || true`)).not.toContain(token);
    const { body } = await admin<{ metadata: object }>('GET', `/api/v1/namespaces/default/secrets/${handle.job}`);
    expect(body.metadata).toMatchObject({ ownerReferences: [{ kind: 'Job', name: handle.job }] });
    expect(await look()).toMatchObject({
      state: 'running',
      facts: { id: handle.job, nodes: [there.cluster.node], image: expect.stringContaining('sha256:') },
    });
    await cleaned(handle);
  });
});
