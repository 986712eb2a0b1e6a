// A team's Docker Engine, reached by TCP with certificates from the vault: attached by a Contributor, used by another; the runs on it while the server
// is killed and the engine is switched off.
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectSameAsOnHost } from './diabetes.ts';
import { DockerEngine, whyNoDocker } from './engines/docker/docker-engine.ts';
import { Installation } from './installation.ts';
import { scikitLearn } from './scikit-learn.ts';
import { submit } from './submission.ts';
import { until, untilEnded, untilState } from './waiting.ts';

const workspace = 'story';
const userManaged = { environment: { userManaged: true } };

/** Prints a line now and then until it is told that it is enough; the last one says how many there were. */
const talkative = `
import os, time
from stellwerk.core import Run
run = Run.get_context()
n = 0
while not os.path.exists("/tmp/enough"):
    print("line", n, flush=True)
    run.log("n", n)
    n += 1
    time.sleep(0.02)
print("lines", n, flush=True)
`;

describe.skipIf(whyNoDocker)(`a Docker Engine${whyNoDocker ? ` (${whyNoDocker})` : ''}`, () => {
  let installation: Installation;
  let engine: DockerEngine;
  beforeAll(async () => {
    engine = await DockerEngine.up();
    installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
    await engine?.down();
  });

  const named = (run: Run) => ({ workspace, run: run.id });
  const place = (run: Run) => ({ client: installation.client, ...named(run) });
  const printed = async (run: Run) => (await installation.client.logs.get(named(run))).text();
  const left = () => engine.left().filter((name) => !name.includes('-cache-'));
  const onEngine = { target: 'engine', ...userManaged };
  const containerOf = async (run: Run) => (await installation.client.runs.get(named(run))).job?.id;

  test('is attached by a Contributor with certificates from the vault, or refused with what to do', async () => {
    const { signIn } = await installation.client.users.create({ name: 'olga' });
    const { token } = await installation.client.signIns.redeem({ code: signIn!.code });
    await installation.client.members.set({ workspace, user: 'olga', role: 'contributor' });
    const asOlga = installation.clientWith(token);
    const settings = { kind: 'docker' as const, address: engine.tcpAddress, image: engine.image };
    const attach = (more: object) =>
      asOlga.compute.attach({ workspace, name: 'engine', settings: { ...settings, ...more } });
    await expect(attach({})).rejects.toMatchObject({
      reason: 'request.invalid',
      message: expect.stringContaining('ca'),
    });
    await expect(attach({ address: `unix://${engine.socket}` })).rejects.toMatchObject({
      reason: 'access.administrator-needed',
    });
    const names = { ca: 'engine-ca', certificate: 'engine-certificate', key: 'engine-key' };
    await expect(attach(names)).rejects.toMatchObject({ reason: 'compute.unusable' });
    for (const [what, input] of Object.entries(engine.certificates)) {
      const kept = await installation.cli(['secret', 'set', `engine-${what}`, '--stdin'], { input });
      expect(kept.code, kept.stderr).toBe(0);
    }
    await attach(names);
    const { usable, findings } = await installation.client.compute.probe({ workspace, target: 'engine' });
    expect(usable, JSON.stringify(findings)).toBe(true);
    const shown = JSON.stringify([await installation.client.compute.get({ workspace, target: 'engine' }), findings]);
    expect(shown).toContain('engine-key');
    expect(shown).not.toContain('PRIVATE KEY');
    const run = await untilEnded(place(await submit(installation, { code: 'print("inside")', ...onEngine })));
    expect(run, run.reason).toMatchObject({ state: 'completed' });
    expect(await printed(run)).toBe('inside\n');
    await until('nothing is left', () => left().length === 0);
    const { job } = await installation.client.runs.get(named(run));
    expect(job).toMatchObject({ id: expect.stringMatching(/^stellwerk-/), image: expect.stringContaining('sha256:') });
  });

  test('is attached from a notebook, its certificates going into the vault', async () => {
    const tls = join(engine.folder, 'tls');
    const code = `
import sys
from stellwerk.core import Workspace
from stellwerk.core.compute import ComputeTarget, DockerCompute
workspace = Workspace.get("story")
address, image, folder = sys.argv[1:]
wanted = DockerCompute.attach_configuration(
    address, image=image, ca_file=folder + "/ca.pem", certificate_file=folder + "/client.pem", key_file=folder + "/client-key.pem")
target = ComputeTarget.attach(workspace, "notebook-engine", wanted)
target.wait_for_completion(show_output=True)
found = ComputeTarget(workspace, "notebook-engine")
print(type(target).__name__, type(found).__name__, found.address == address, found.image, found.get_status())
print("notebook-engine-key" in workspace.get_default_keyvault().get_secrets(["notebook-engine-key"]))
target.detach()
`;
    const done = await installation.python(['-c', code, engine.tcpAddress, engine.image, tls]);
    expect(done.stdout.split('\n'), done.stderr).toEqual([
      'notebook-engine: Succeeded',
      `DockerCompute DockerCompute True ${engine.image} Succeeded`,
      'True',
      '',
    ]);
  });

  test('what it has not is refused at once', async () => {
    const refused = (resources: object) =>
      submit(installation, { ...onEngine, resources }).then(
        () => '',
        (error: Error) => error.message,
      );
    expect(await refused({ cpus: 4_000 })).toContain('CPUs');
    expect(await refused({ memory: '900TB' })).toContain('memory');
    expect(await refused({ gpus: 1 })).toContain('GPUs');
    expect(await refused({ nodes: 2 })).toContain('one machine');
  });

  test('trains the diabetes example in an image of the run, with the metrics of the local run', async () => {
    const { python, packages } = scikitLearn();
    engine.imageWith(packages, 'training:1');
    const there = { ...userManaged, container: { image: 'training:1' } };
    await expectSameAsOnHost(installation, 'engine', there, {
      environment: { userManaged: true, interpreterPath: python },
    });
  });

  test('a machine with sshd is created on it, trains by SSH, and is deleted with all that was made for it', async () => {
    const cli = async (...args: string[]) => {
      const done = await installation.cli(args);
      expect(done.code, done.stderr).toBe(0);
    };
    await cli('compute', 'create', 'made', '--kind', 'ssh', '--on', 'engine', '--cpus', '1');
    await until('it can be used', async () => {
      const made = await installation.client.compute.get({ workspace, target: 'made' });
      if (made.state === 'failed') throw new Error(made.reason);
      return made.state === 'usable';
    });
    const run = await submit(installation, {
      code: 'import os; print("on", os.uname().nodename)',
      target: 'made',
      ...userManaged,
    });
    expect(await untilEnded(place(run))).toMatchObject({ state: 'completed' });
    expect(await printed(run)).toBe('on made\n');
    await cli('compute', 'delete', 'made');
    await until('nothing is left', () => left().length === 0);
    const { items } = await installation.client.secrets.list({ workspace });
    expect(items.map(({ name }) => name)).not.toContain('made-machine-key');
  });

  test('nothing of a run is lost when the server is killed and started again', async () => {
    const run = await submit(installation, { code: talkative, ...onEngine });
    await until('some lines are there', async () => (await printed(run)).includes('line 20\n'));
    await installation.restart('SIGKILL');
    const { length } = await printed(run);
    await until('more lines come', async () => (await printed(run)).length > length + 100);
    await untilState(place(run), 'running');
    engine.docker('exec', (await containerOf(run))!, 'touch', '/tmp/enough');
    expect(await untilEnded(place(run))).toMatchObject({ state: 'completed' });
    const lines = (await printed(run)).trim().split('\n');
    expect(lines.at(-1)).toBe(`lines ${lines.length - 1}`);
    expect(lines.slice(0, -1)).toEqual(lines.slice(0, -1).map((_, n) => `line ${n}`));
    expect((await installation.client.metrics.list(named(run))).items[0]).toMatchObject({ count: lines.length - 1 });
    await until('nothing is left', () => left().length === 0);
  });

  test('a run on an engine that is switched off is lost, with the reason; what it wrote is delivered, and the next run finds its place', async () => {
    const code =
      'import os, time\nopen("outputs/early.txt", "w").write("x")\nprint("ready", flush=True)\ntime.sleep(600)\n';
    const run = await submit(installation, { code, ...onEngine });
    await until('it has begun', async () => (await printed(run)).includes('ready'));
    await engine.crash();
    await untilState(place(run), 'lost');
    await engine.start();
    const lost = await until('the reason', async () => {
      const now = await installation.client.runs.get(named(run));
      return now.reason?.includes('restarted') && now;
    });
    expect(lost).toMatchObject({ state: 'lost', reason: 'The Docker Engine was restarted while the run was on it.' });
    await until('what it wrote is there', async () =>
      (await installation.client.runs.listFiles(named(run))).items.some(({ path }) => path === 'outputs/early.txt'),
    );
    await until('nothing is left', () => left().length === 0);
    const next = await submit(installation, { code: 'print(1)', ...onEngine });
    expect(await untilEnded(place(next))).toMatchObject({ state: 'completed' });
  });

  test('a canceled run ends with all that it started', async () => {
    const code =
      'import subprocess, sys, time\nsubprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)\nprint("ready", flush=True)\ntime.sleep(600)\n';
    const run = await submit(installation, { code, ...onEngine });
    await until('it has begun', async () => (await printed(run)).includes('ready'));
    await installation.client.runs.cancel(named(run));
    expect(await untilEnded(place(run))).toMatchObject({ state: 'canceled' });
    await until('nothing is left', () => left().length === 0);
    expect(engine.processes()).toEqual([]);
  });

  test('an image that is not there fails its run at once, with what to do', async () => {
    const run = await submit(installation, {
      code: 'print(1)',
      ...onEngine,
      container: { image: '127.0.0.1:1/none:1' },
    });
    expect(await untilEnded(place(run))).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(/127[.]0[.]0[.]1:1\/none:1 is not on .*container[.]user/),
    });
    await until('nothing is left', () => left().length === 0);
  });
});
