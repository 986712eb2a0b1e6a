import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoKubernetes } from '../../../../../test/engines/kubernetes/kubernetes-cluster.ts';
import { buildsWithinMs, builtBinary } from '../../../../../test/engines/kubernetes/programs.ts';
import { driverSuite, kindSuite } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnCluster, onCluster } from './kubernetes.fixture.ts';

const named = (what: string) => `${what}${whyNoKubernetes ? ` (${whyNoKubernetes})` : ''}`;

describe.skipIf(whyNoKubernetes)(named('a Kubernetes cluster'), () => {
  beforeAll(() => builtBinary(), buildsWithinMs);
  driverSuite('it', (server) => onCluster(server), 'own');
});

describe.skipIf(whyNoKubernetes)(named('such a cluster, probed'), () => {
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
  type Settings = Target<'kubernetes'>['settings'];
  const flawOf = async (more: Partial<Settings>) =>
    (await there.driver().probe(there.targetWith(more))).findings.find(({ ok }) => !ok);
  const account = async (rules: object[]) => {
    const { api, kubeconfig } = there.cluster;
    const spaces = '/api/v1/namespaces/default';
    const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default';
    await api.ask('POST', `${spaces}/serviceaccounts`, { metadata: { name: 'trainer' } });
    const role = { metadata: { name: 'trainer' }, rules };
    const isNew = (await api.ask('POST', `${rbac}/roles`, role)).status === 201;
    if (!isNew) await api.ask('PUT', `${rbac}/roles/trainer`, role);
    await api.ask('POST', `${rbac}/rolebindings`, {
      metadata: { name: 'trainer' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'trainer' },
      subjects: [{ kind: 'ServiceAccount', name: 'trainer', namespace: 'default' }],
    });
    const { body } = await api.ask<{ status: { token: string } }>('POST', `${spaces}/serviceaccounts/trainer/token`, {
      spec: {},
    });
    there.secrets.trainer = kubeconfig.replace(/user: \{client[^}]*\}/, `user: {token: "${body.status.token}"}`);
  };

  kindSuite('it', () => there.driver(), {
    workspace: 'suite',
    name: 'cluster',
    settings: {
      kind: 'kubernetes',
      kubeconfig: 'kubeconfig',
      namespace: 'nowhere',
      image: 'base:1',
      nodeSelector: {},
      tolerations: [],
      gpuResource: 'nvidia.com/gpu',
      reach: 'carried',
    },
  });

  test('what is wrong is told, with what to do', async () => {
    await there.cluster.addImage('registry.local/empty:1');
    there.secrets.elsewhere = there.cluster.kubeconfig.replace(/server: "[^"]*"/, 'server: "https://127.0.0.1:1"');
    there.secrets.stranger = there.cluster.kubeconfig.replace(/user: \{client[^}]*\}/, 'user: {token: "guessed"}');
    there.secrets.broken = 'clusters: 3';
    const wrong: [string, Partial<Settings>, string][] = [
      ['kubeconfig', { kubeconfig: 'broken' }, 'not a kubeconfig'],
      ['kubeconfig', { context: 'none' }, 'no context none'],
      ['address', { kubeconfig: 'elsewhere' }, 'cannot be reached'],
      ['sign-in', { kubeconfig: 'stranger' }, 'refused the sign-in'],
      ['namespace', { namespace: 'nowhere' }, 'no namespace nowhere'],
      ['nodes', { nodeSelector: { zone: 'moon' } }, 'nodeSelector'],
      ['image', { image: '127.0.0.1:1/none:1' }, 'cannot be pulled'],
      ['python', { image: 'registry.local/empty:1' }, 'no python3'],
      ['way back', { reach: 'direct' }, 'does not reach this server'],
    ];
    for (const [what, more, detail] of wrong)
      expect(await flawOf(more)).toMatchObject({ what, detail: expect.stringContaining(detail) });
    expect(await there.leftovers()).toEqual([]);
  });

  test('rights that are missing are told by name; with those that are documented a run is done', async () => {
    await account([{ apiGroups: [''], resources: ['pods'], verbs: ['list'] }]);
    const flaw = await flawOf({ kubeconfig: 'trainer' });
    expect(flaw).toMatchObject({ what: 'rights', detail: expect.stringContaining('create jobs') });
    await account([
      { apiGroups: ['batch'], resources: ['jobs'], verbs: ['create', 'get', 'patch', 'delete'] },
      { apiGroups: [''], resources: ['secrets'], verbs: ['create', 'delete'] },
      { apiGroups: [''], resources: ['pods'], verbs: ['list', 'delete'] },
      { apiGroups: [''], resources: ['pods/exec'], verbs: ['get', 'create'] },
      { apiGroups: [''], resources: ['events'], verbs: ['list'] },
    ]);
    const target = there.targetWith({ kubeconfig: 'trainer' });
    const { usable, findings } = await there.driver().probe(target);
    expect(usable, JSON.stringify(findings)).toBe(true);
    const order = await server.order('print("with few rights")\n');
    const { jobs } = there.driver();
    expect(await there.driver().flaws(target, order.job.configuration)).toEqual([]);
    const handle = await jobs.start(target, order);
    await expect.poll(() => jobs.look(target, handle), { timeout: 60_000 }).toMatchObject({ state: 'ended' });
    expect(await server.run(order)).toMatchObject({ state: 'completed' });
    await jobs.cleanUp(target, handle);
    expect(await there.leftovers()).toEqual([]);
  });
});
