// A team's Kubernetes cluster, whose pods do not reach the server: attached by a Contributor with a kubeconfig from the vault, used by another; the runs
// on it while the server is killed, the node is full, and the cluster is switched off.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectSameAsOnHost } from './diabetes.ts';
import { KubernetesCluster, whyNoKubernetes } from './engines/kubernetes/kubernetes-cluster.ts';
import { buildsWithinMs, builtBinary } from './engines/kubernetes/programs.ts';
import { forwarded } from './forwarding.ts';
import { Installation } from './installation.ts';
import { scikitLearn } from './scikit-learn.ts';
import { submit } from './submission.ts';
import { typed } from './typing.ts';
import { until, untilEnded, untilState } from './waiting.ts';

const workspace = 'story';
const userManaged = { environment: { userManaged: true } };
const onCluster = { target: 'lab', ...userManaged };

/** Whoever looks in finds the port of its pages in a file. */
const serving = `
import http.server, os, threading
class Pages(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
threading.Thread(target=pages.serve_forever, daemon=True).start()
for name, text in (("large", "x" * 200_000), ("port", str(pages.server_address[1]))):
    with open(name, "w") as file:
        file.write(text)
`;

/** Prints a line now and then until it is told that it is enough; the last one says how many there were. */
const talkative = `
import os, time
from stellwerk.core import Run
run = Run.get_context()
n = 0
while not os.path.exists("enough"):
    print("line", n, flush=True)
    run.log("n", n)
    n += 1
    time.sleep(0.02)
print("lines", n, flush=True)
`;

describe.skipIf(whyNoKubernetes)(`a Kubernetes cluster${whyNoKubernetes ? ` (${whyNoKubernetes})` : ''}`, () => {
  beforeAll(() => builtBinary(), buildsWithinMs);
  let installation: Installation;
  let cluster: KubernetesCluster;
  beforeAll(async () => {
    cluster = await KubernetesCluster.up();
    installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
    await cluster?.down();
  });

  const named = (run: Run) => ({ workspace, run: run.id });
  const place = (run: Run) => ({ client: installation.client, ...named(run) });
  const printed = async (run: Run) => (await installation.client.logs.get(named(run))).text();
  const kinds = ['apis/batch/v1/jobs', 'api/v1/pods', 'api/v1/secrets', 'api/v1/persistentvolumeclaims'];
  const left = async () => [
    ...(await Promise.all(kinds.map((kind) => cluster.names(kind)))).flat(),
    ...cluster.processes(),
  ];
  const untilNothingIsLeft = () => until('nothing is left', async () => (await left()).length === 0);
  const kept = async (name: string, input: string) => {
    const done = await installation.cli(['secret', 'set', name, '--stdin'], { input });
    expect(done.code, done.stderr).toBe(0);
  };

  test('is attached by a Contributor with a kubeconfig from the vault, or refused with what to do', async () => {
    const { signIn } = await installation.client.users.create({ name: 'olga' });
    const { token } = await installation.client.signIns.redeem({ code: signIn!.code });
    await installation.client.members.set({ workspace, user: 'olga', role: 'contributor' });
    const asOlga = installation.clientWith(token);
    const settings = { kind: 'kubernetes' as const, kubeconfig: 'lab', image: cluster.image };
    const attach = (more: object) =>
      asOlga.compute.attach({ workspace, name: 'lab', settings: { ...settings, ...more } });
    await expect(attach({})).rejects.toMatchObject({
      reason: 'compute.unusable',
      message: expect.stringContaining('no secret lab'),
    });
    await kept('lab', cluster.kubeconfig);
    await kept('local-files', cluster.kubeconfig.replace(/client-key-data: [^}]*/, 'client-key: /etc/shadow'));
    await expect(attach({ kubeconfig: 'local-files' })).rejects.toThrow('client-key');
    await expect(attach({ namespace: 'nowhere' })).rejects.toThrow('no namespace nowhere');
    await expect(attach({ nodeSelector: { zone: 'moon' } })).rejects.toThrow('nodeSelector');
    const args = ['--kind', 'kubernetes', '--kubeconfig', 'lab', '--image', cluster.image];
    const attached = await installation.cli(['compute', 'attach', 'lab', ...args]);
    expect(attached.code, attached.stderr).toBe(0);
    const { usable, findings } = await asOlga.compute.probe({ workspace, target: 'lab' });
    expect(usable, JSON.stringify(findings)).toBe(true);
    expect(findings.map(({ what }) => what)).toEqual([
      'address',
      'namespace',
      'rights',
      'nodes',
      'image',
      'python',
      'way back',
    ]);
    const shown = JSON.stringify([await asOlga.compute.get({ workspace, target: 'lab' }), findings]);
    expect(shown).not.toContain(cluster.kubeconfig.match(/client-key-data: ([^}]*)/)![1]!);
    await untilNothingIsLeft();
  });

  test('is attached from a notebook with the names of before, its kubeconfig going into the vault', async () => {
    const file = join(installation.folder, 'kubeconfig');
    writeFileSync(file, cluster.kubeconfig);
    const code = `
import sys
from stellwerk.core import Workspace
from stellwerk.core.compute import AksCompute, ComputeTarget
workspace = Workspace.get("story")
wanted = AksCompute.attach_configuration(sys.argv[1], image=sys.argv[2])
target = ComputeTarget.attach(workspace, "notebook", wanted)
target.wait_for_completion(show_output=True)
found = ComputeTarget(workspace, "notebook")
print(type(target).__name__, type(found).__name__, found.namespace, found.image, found.get_status())
target.detach()
made = ComputeTarget.create(workspace, "own", AksCompute.provisioning_configuration(on="lab", cpus=1, memory="1GB"))
made.wait_for_completion(show_output=True)
print(made.namespace.startswith("stellwerk-own-"))
`;
    const done = await installation.python(['-c', code, file, cluster.image]);
    expect(done.stdout.split('\n'), done.stderr).toEqual([
      'notebook: Succeeded',
      `AksCompute AksCompute default ${cluster.image} Succeeded`,
      'own: Succeeded',
      'True',
      '',
    ]);
  });

  test('a namespace of its own lets in what its quota has room for, and is deleted with all in it', async () => {
    const refused = await submit(installation, { target: 'own', ...userManaged, resources: { memory: '2GB' } }).catch(
      (error: Error) => error.message,
    );
    expect(refused).toContain('quota of 1,000,000,000 bytes');
    const run = await submit(installation, { target: 'own', ...userManaged, code: 'print("in my own")' });
    expect(await untilEnded(place(run))).toMatchObject({ state: 'completed' });
    expect(await printed(run)).toBe('in my own\n');
    const done = await installation.cli(['compute', 'delete', 'own']);
    expect(done.code, done.stderr).toBe(0);
    await until('its namespace is gone', async () =>
      (await cluster.names('api/v1/namespaces')).every((name) => !name.includes('stellwerk-own')),
    );
    await untilNothingIsLeft();
  });

  test('what it has not is refused at once', async () => {
    const refused = (resources: object) =>
      submit(installation, { ...onCluster, resources }).then(
        () => '',
        (error: Error) => error.message,
      );
    expect(await refused({ cpus: 4_000 })).toContain('CPUs');
    expect(await refused({ memory: '900TB' })).toContain('memory');
    expect(await refused({ gpus: 1 })).toContain('GPUs');
  });

  test('trains the diabetes example in an image of the run, with the metrics of the local run', async () => {
    const { python, packages } = scikitLearn();
    await cluster.addImage('registry.local/training:1', packages);
    const there = { ...userManaged, container: { image: 'registry.local/training:1' } };
    await expectSameAsOnHost(installation, 'lab', there, {
      environment: { userManaged: true, interpreterPath: python },
    });
    await untilNothingIsLeft();
  });

  test('nothing of a run is lost when the server is killed and started again; somebody looks in on it', async () => {
    const run = await submit(installation, { code: serving + talkative, ...onCluster });
    await until('some lines are there', async () => (await printed(run)).includes('line 20\n'));
    await until('its node is told', async () =>
      (await installation.client.runs.get(named(run))).job?.nodes?.includes(cluster.node),
    );
    await installation.restart('SIGKILL');
    const { length } = await printed(run);
    await until('more lines come', async () => (await printed(run)).length > length + 100);
    await untilState(place(run), 'running');
    const port = await typed(installation, 'run', 'exec', run.id, '--', 'cat', 'port');
    {
      await using here = await forwarded(installation, run.id, port);
      const page = () => fetch(`http://${here.address}/large`).then((answer) => answer.text());
      expect((await Promise.all(Array.from({ length: 8 }, page))).map(({ length }) => length)).toEqual(
        Array(8).fill(200_000),
      );
    }
    await typed(installation, 'run', 'exec', run.id, '--', 'touch', 'enough');
    expect(await untilEnded(place(run))).toMatchObject({ state: 'completed' });
    const lines = (await printed(run)).trim().split('\n');
    expect(lines.at(-1)).toBe(`lines ${lines.length - 1}`);
    expect(lines.slice(0, -1)).toEqual(lines.slice(0, -1).map((_, n) => `line ${n}`));
    expect((await installation.client.metrics.list(named(run))).items[0]).toMatchObject({ count: lines.length - 1 });
    await untilNothingIsLeft();
  });

  test('a run waits for a place with the reason, and is canceled without a trace', async () => {
    const holds = await submit(installation, {
      code: 'import time\nprint("ready", flush=True)\ntime.sleep(600)\n',
      ...onCluster,
      resources: { cpus: 1 },
    });
    await until('it has begun', async () => (await printed(holds)).includes('ready'));
    const waits = await submit(installation, { code: 'print(1)', ...onCluster, resources: { cpus: 1 } });
    await until('it waits', async () =>
      (await installation.client.runs.get(named(waits))).reason?.includes('No node has 1 free CPUs.'),
    );
    await installation.client.runs.cancel(named(waits));
    expect(await untilEnded(place(waits))).toMatchObject({ state: 'canceled' });
    await installation.client.runs.cancel(named(holds));
    expect(await untilEnded(place(holds))).toMatchObject({ state: 'canceled' });
    await untilNothingIsLeft();
  });

  test('a run on a node that is switched off is lost, and begun again once it is on, from its checkpoint', async () => {
    const code = `
import os, time
place = os.path.join(os.environ["STELLWERK_CHECKPOINTS"], "step")
first = int(open(place).read()) if os.path.exists(place) else 0
print("attempt", os.environ["STELLWERK_ATTEMPT"], "from", first, flush=True)
if first == 0:
    with open(place + ".new", "w") as file:
        file.write("10")
    os.rename(place + ".new", place)
    time.sleep(600)
`;
    const run = await submit(installation, { code, ...onCluster, retries: { count: 1 } });
    await until('the checkpoint is kept', async () =>
      (await installation.client.runs.listFiles(named(run))).items.some(({ path }) => path === 'checkpoints/step'),
    );
    await cluster.crash();
    await untilState(place(run), 'lost');
    await cluster.boot();
    const ended = await untilEnded(place(run));
    expect(ended, ended.reason).toMatchObject({ state: 'completed', attempt: 2 });
    expect(await printed(run)).toContain('attempt 2 from 10');
    await untilNothingIsLeft();
  });

  test('an image that is not there fails its run, with what to do', async () => {
    const run = await submit(installation, {
      code: 'print(1)',
      ...onCluster,
      container: { image: '127.0.0.1:1/none:1' },
    });
    expect(await untilEnded(place(run))).toMatchObject({
      state: 'failed',
      reason: expect.stringContaining('cannot be pulled'),
    });
    await untilNothingIsLeft();
  });
});
