// A cluster whose nodes and pods reach the server, by TLS with its own authority: runs speak with it by themselves, and the nodes pull from it the
// images that it makes for them, with what only that run has.
import { mkdtempDisposableSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KubernetesCluster, whyNoKubernetes } from './engines/kubernetes/kubernetes-cluster.ts';
import { buildsWithinMs, builtBinary } from './engines/kubernetes/programs.ts';
import { whyNotPulled } from './engines/kubernetes/pulling.ts';
import { Installation } from './installation.ts';
import { submit } from './submission.ts';
import { typed } from './typing.ts';
import { until, untilEnded } from './waiting.ts';

const workspace = 'story';
const code = `
import os, sys, time, six
from stellwerk.core import Run
Run.get_context().log("x", 1)
print(sys.prefix, six.__version__, flush=True)
while not os.path.exists("enough"):
    time.sleep(0.1)
`;
const inImage = {
  target: 'lab',
  code,
  environment: { requirements: ['six==1.16.0'] },
  container: { environment: 'in-image' as const },
};
const secrets = '/api/v1/namespaces/default/secrets';

describe.skipIf(whyNoKubernetes)(
  `a cluster that reaches the server${whyNoKubernetes ? ` (${whyNoKubernetes})` : ''}`,
  () => {
    beforeAll(() => builtBinary(), buildsWithinMs);
    const material = mkdtempDisposableSync(join(tmpdir(), 'stellwerk-story-'));
    let cluster: KubernetesCluster;
    let installation: Installation;
    beforeAll(async () => {
      cluster = await KubernetesCluster.up();
      const data = join(material.path, 'data');
      const env = { STELLWERK_CA_BUNDLE: join(data, 'authority', 'authority.pem'), STELLWERK_RUN_LEASE_MS: '3000' };
      installation = await Installation.start(
        ['--data', data, '--listen', cluster.hostAddress, '--own-authority'],
        env,
      );
      const kept = await installation.cli(['secret', 'set', 'lab', '--stdin'], { input: cluster.kubeconfig });
      expect(kept.code, kept.stderr).toBe(0);
    });
    afterAll(async () => {
      await installation?.[Symbol.asyncDispose]();
      await cluster?.down();
      material.remove();
    });

    const kinds = ['apis/batch/v1/jobs', 'api/v1/pods', 'api/v1/secrets'];
    const untilNothingIsLeft = () =>
      until(
        'nothing is left',
        async () => (await Promise.all(kinds.map((kind) => cluster.names(kind)))).flat().length === 0,
      );
    const attach = (...more: string[]) =>
      typed(
        installation,
        'compute',
        'attach',
        'lab',
        ...['--kind', 'kubernetes', '--kubeconfig', 'lab', '--image', cluster.image],
        ...more,
      );

    test('where it is not said to, images that are made here are refused at submit, with what to do', async () => {
      await attach();
      await expect(installation.client.compute.get({ workspace, target: 'lab' })).resolves.toMatchObject({
        state: 'usable',
      });
      await expect(submit(installation, inImage)).rejects.toThrow(/container\.environment.*let it have reach `direct`/);
      await typed(installation, 'compute', 'detach', 'lab');
    });

    test('a run speaks with the server by itself', async () => {
      await attach('--reach', 'direct');
      const { findings } = await installation.client.compute.probe({ workspace, target: 'lab' });
      expect(findings.at(-1)).toMatchObject({
        what: 'way back',
        ok: true,
        detail: expect.stringContaining(installation.url),
      });
      const run = await submit(installation, {
        target: 'lab',
        environment: { userManaged: true },
        code: 'print("by itself")',
      });
      const of = { workspace, run: run.id };
      expect(await untilEnded({ client: installation.client, ...of })).toMatchObject({ state: 'completed' });
      expect(await (await installation.client.logs.get(of)).text()).toBe('by itself\n');
      await untilNothingIsLeft();
    });

    test('nodes that do not trust the registry here are told to; those that do pull the image of the run, and nobody else gets it', async () => {
      const { client } = installation;
      const ended = async (run: string) => untilEnded({ client, workspace, run });
      const mistrusting = await submit(installation, inImage);
      expect(await ended(mistrusting.id)).toMatchObject({
        state: 'failed',
        reason: expect.stringContaining('stellwerk registry trust --engine kubernetes'),
      });
      cluster.trustRegistry(await typed(installation, 'registry', 'trust', '--engine', 'containerd'));

      const run = await submit(installation, inImage);
      const of = { workspace, run: run.id };
      await until('it has printed', async () =>
        (await client.logs.get(of)).text().then((text) => text.includes('1.16.0')),
      );
      const job = await until('its image is told', async () => {
        const { job } = await client.runs.get(of);
        return job?.image !== undefined && job;
      });
      const [, made] = /^The image to train in is (sha256:[0-9a-f]{64})\.$/m.exec(
        await (await client.activities.getLog({ workspace, activity: run.activity! })).text(),
      )!;
      expect(job.image).toContain(made);
      const { body: secret } = await cluster.api.ask<{ data: object }>('GET', `${secrets}/${job.id}-pull`);
      expect(JSON.stringify(secret.data)).not.toBe('{}');
      const image = job.image!;
      const copy = { metadata: { name: 'copy' }, type: 'kubernetes.io/dockerconfigjson', data: secret.data };
      await cluster.api.ask('POST', secrets, copy);
      await cluster.api.ask('POST', '/api/v1/namespaces', { metadata: { name: 'others' } });
      expect(await whyNotPulled(cluster.api, { namespace: 'default', image, secret: 'copy' })).toBeUndefined();
      expect(await whyNotPulled(cluster.api, { namespace: 'others', image })).toMatch(/401|authoriz/i);

      await typed(installation, 'run', 'exec', run.id, '--', 'python3', '-c', 'open("enough", "w")');
      const done = await ended(run.id);
      expect(done.state, done.reason).toBe('completed');
      expect(await (await client.logs.get(of)).text()).toBe('/opt/stellwerk/env 1.16.0\n');
      expect(done.environment?.lock).toContain('six==1.16.0');
      expect(await whyNotPulled(cluster.api, { namespace: 'default', image, secret: 'copy' })).toMatch(/401|authoriz/i);
      await cluster.api.ask('DELETE', `${secrets}/copy`);
      await untilNothingIsLeft();
    });
  },
);
