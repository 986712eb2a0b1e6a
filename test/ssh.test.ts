// A team's machine that is reached by SSH and reaches nothing itself: attached with a key from the vault, used by another Contributor, and the runs
// on it while the server is killed, the cable is pulled, sshd dies and the machine is switched off.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectSameAsOnHost } from './diabetes.ts';
import { pythonWithScikitLearn } from './engines/pythons.ts';
import { SshHost, whyNoSshHost } from './engines/ssh/ssh-host.ts';
import { Installation } from './installation.ts';
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

describe.skipIf(whyNoSshHost)(`a machine that is reached by ssh${whyNoSshHost ? ` (${whyNoSshHost})` : ''}`, () => {
  let installation: Installation;
  let host: SshHost;
  beforeAll(async () => {
    host = await SshHost.up();
    installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000' });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
    await host?.down();
  });

  const named = (run: Run) => ({ workspace, run: run.id });
  const place = (run: Run) => ({ client: installation.client, ...named(run) });
  const printed = async (run: Run) => (await installation.client.logs.get(named(run))).text();
  const settings = (more: object = {}) => {
    const { address, port, user, hostKey } = host;
    return { kind: 'ssh' as const, address, port, user, hostKey, key: 'vm-key', passphrase: 'vm-passphrase', ...more };
  };
  const attach = (more: object = {}, name = 'vm') =>
    installation.client.compute.attach({ workspace, name, settings: settings(more) });
  const left = () => [
    ...host
      .shell(`ls ${host.home}/.stellwerk/*/jobs`)
      .split('\n')
      .filter((line) => line !== '' && !line.endsWith(':')),
    ...host.processes(),
  ];

  test('is attached by a Contributor with a key from the vault and its host key, or refused with what to do', async () => {
    const { signIn } = await installation.client.users.create({ name: 'olga' });
    const { token } = await installation.client.signIns.redeem({ code: signIn!.code });
    await installation.client.members.set({ workspace, user: 'olga', role: 'contributor' });
    const asOlga = installation.clientWith(token);
    await expect(attach()).rejects.toMatchObject({
      reason: 'compute.unusable',
      message: expect.stringContaining('no secret vm-key'),
    });
    for (const [name, input] of [
      ['vm-key', host.key('locked')],
      ['vm-passphrase', host.passphrase],
      ['guess', 'guessed'],
    ]) {
      const kept = await installation.cli(['secret', 'set', name!, '--stdin'], { input: input! });
      expect(kept.code, kept.stderr).toBe(0);
    }
    const unknown = await attach({ hostKey: undefined }).catch((error) => error);
    expect(unknown.message).toContain(host.hostKey);
    await expect(attach({ passphrase: 'guess' })).rejects.toThrow('cannot be used');
    await expect(attach({ key: undefined, passphrase: undefined, password: 'guess' })).rejects.toThrow(
      'refused the sign-in',
    );
    await expect(attach({ key: undefined, passphrase: undefined })).rejects.toMatchObject({
      reason: 'request.invalid',
    });
    const { kind: _, ...flags } = settings();
    const args = Object.entries(flags).flatMap(([flag, value]) => [
      `--${flag.replace(/[A-Z]/, (letter) => `-${letter.toLowerCase()}`)}`,
      String(value),
    ]);
    const attached = await installation.cli(['compute', 'attach', 'vm', '--kind', 'ssh', ...args]);
    expect(attached.code, attached.stderr).toBe(0);
    const { usable, findings } = await asOlga.compute.probe({ workspace, target: 'vm' });
    expect(usable, JSON.stringify(findings)).toBe(true);
    const shown = JSON.stringify([await asOlga.compute.get({ workspace, target: 'vm' }), findings]);
    expect(shown).toContain('vm-key');
    expect(shown).not.toContain('PRIVATE KEY');
    const { id } = await submit(installation, {
      code: 'import os; print("on", os.uname().nodename)',
      target: 'vm',
      ...userManaged,
    });
    const run = await untilEnded({ client: asOlga, workspace, run: id });
    expect(run, run.reason).toMatchObject({ state: 'completed' });
    expect(await printed(run)).toMatch(/^on sw/);
  });

  test('is attached from a notebook with the names of before, its key going into the vault', async () => {
    const key = join(installation.folder, 'key');
    writeFileSync(key, host.key());
    const code = `
import sys
from stellwerk.core import Workspace
from stellwerk.core.compute import ComputeTarget, RemoteCompute
workspace = Workspace.get("story")
address, port, user, key, host_key = sys.argv[1:]
wanted = dict(username=user, address=address, ssh_port=int(port), private_key_file=key)
try:
    ComputeTarget.attach(workspace, "notebook-vm", RemoteCompute.attach_configuration(**wanted))
except Exception as error:
    assert host_key in str(error), error
target = ComputeTarget.attach(workspace, "notebook-vm", RemoteCompute.attach_configuration(host_key=host_key, **wanted))
target.wait_for_completion(show_output=True)
found = ComputeTarget(workspace, "notebook-vm")
print(type(target).__name__, type(found).__name__, found.address == address, found.ssh_port, found.username, found.get_status())
print("notebook-vm-key" in workspace.get_default_keyvault().get_secrets(["notebook-vm-key"]), "notebook-vm" in workspace.compute_targets)
target.detach()
`;
    const args = ['-c', code, host.address, String(host.port), host.user, key, host.hostKey];
    const done = await installation.python(args);
    expect(done.stdout.split('\n'), done.stderr).toEqual([
      'notebook-vm: Succeeded',
      `RemoteCompute RemoteCompute True ${host.port} ${host.user} Succeeded`,
      'True True',
      '',
    ]);
  });

  test('what it has not is refused at once', async () => {
    const refused = (resources: object) =>
      submit(installation, { target: 'vm', ...userManaged, resources }).then(
        () => '',
        (error: Error) => error.message,
      );
    expect(await refused({ cpus: 4_000 })).toContain('CPUs');
    expect(await refused({ gpus: 1 })).toContain('GPUs');
    expect(await refused({ nodes: 2 })).toContain('one machine');
  });

  test('trains the diabetes example with the metrics of the local run', async () => {
    const asked = { environment: { userManaged: true, interpreterPath: pythonWithScikitLearn() } };
    await expectSameAsOnHost(installation, 'vm', asked, asked);
  });

  test.each<[string, () => Promise<void>]>([
    ['the server is killed and started again', () => installation.restart('SIGKILL')],
    [
      'the link is cut for longer than the lease of the run holds',
      async () => {
        host.cutLink();
        await until(
          'the run is lost',
          async () => (await installation.client.runs.query({ workspace, filter: "state = 'lost'" })).items.length > 0,
        );
        host.mendLink();
      },
    ],
    [
      'sshd is killed with all its connections, while the server is away too',
      async () => {
        await installation.stop('SIGKILL');
        host.killSshd();
        await host.startSshd();
        await installation.up();
      },
    ],
  ])('nothing of a run is lost when %s', async (_, fault) => {
    host.shell('rm -f /tmp/enough');
    const run = await submit(installation, { code: talkative, target: 'vm', ...userManaged });
    await until('some lines are there', async () => (await printed(run)).includes('line 20\n'));
    await fault();
    const { length } = await printed(run);
    await until('more lines come', async () => (await printed(run)).length > length + 100);
    await untilState(place(run), 'running');
    host.shell('touch /tmp/enough');
    expect(await untilEnded(place(run))).toMatchObject({ state: 'completed' });
    const lines = (await printed(run)).trim().split('\n');
    expect(lines.at(-1)).toBe(`lines ${lines.length - 1}`);
    expect(lines.slice(0, -1)).toEqual(lines.slice(0, -1).map((_, n) => `line ${n}`));
    expect((await installation.client.metrics.list(named(run))).items[0]).toMatchObject({ count: lines.length - 1 });
    await until('nothing is left', () => left().length === 0);
  });

  test('a run on a machine that is switched off is lost, with the reason; what it wrote is delivered, and the next run finds its place', async () => {
    const code =
      'import os, time\nopen("outputs/early.txt", "w").write("x")\nprint("ready", flush=True)\ntime.sleep(600)\n';
    const run = await submit(installation, { code, target: 'vm', ...userManaged });
    await until('it has begun', async () => (await printed(run)).includes('ready'));
    await host.crash();
    await untilState(place(run), 'lost');
    await host.boot();
    const lost = await until('the reason', async () => {
      const now = await installation.client.runs.get(named(run));
      return now.reason?.includes('restarted') && now;
    });
    expect(lost).toMatchObject({ state: 'lost', reason: 'Its machine was restarted while the run was on it.' });
    await until('what it wrote is there', async () =>
      (await installation.client.runs.listFiles(named(run))).items.some(({ path }) => path === 'outputs/early.txt'),
    );
    await until('nothing is left', () => left().length === 0);
    const next = await submit(installation, { code: 'print(1)', target: 'vm', ...userManaged });
    expect(await untilEnded(place(next))).toMatchObject({ state: 'completed' });
  });

  test('a run that may be begun again goes on from its checkpoint once the machine is on again, in one series', async () => {
    const code = `
import os, time
from stellwerk.core import Run
run = Run.get_context()
place = os.path.join(os.environ["STELLWERK_CHECKPOINTS"], "step")
first = int(open(place).read()) if os.path.exists(place) else 0
print("attempt", os.environ["STELLWERK_ATTEMPT"], "from", first, flush=True)
for step in range(first, 20):
    run.log("loss", 20 - step, step=step)
    with open(place + ".new", "w") as file:
        file.write(str(step + 1))
    os.rename(place + ".new", place)
    if step == 9 and first == 0:
        print("half", flush=True)
        time.sleep(600)
`;
    const run = await submit(installation, { code, target: 'vm', ...userManaged, retries: { count: 1 } });
    await until('half of it is done', async () => (await printed(run)).includes('half'));
    await until('the checkpoint is kept', async () => {
      const { items } = await installation.client.runs.listFiles(named(run));
      return items.some(({ path }) => path === 'checkpoints/step');
    });
    await host.reboot();
    const ended = await untilEnded(place(run));
    expect(ended, ended.reason).toMatchObject({ state: 'completed', attempt: 2 });
    expect(await printed(run)).toContain('attempt 2 from 10');
    const { items } = await installation.client.metrics.list(named(run));
    expect(items.find(({ name }) => name === 'loss')).toMatchObject({ count: 20, last: 1 });
    await until('nothing is left', () => left().length === 0);
  });

  test('a canceled run ends with all that it started, and the secrets were used as the audit log says', async () => {
    const code =
      'import subprocess, sys, time\nsubprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)\nprint("ready", flush=True)\ntime.sleep(600)\n';
    const run = await submit(installation, { code, target: 'vm', ...userManaged });
    await until('it has begun', async () => (await printed(run)).includes('ready'));
    await installation.client.runs.cancel(named(run));
    expect(await untilEnded(place(run))).toMatchObject({ state: 'canceled' });
    await until('nothing is left', () => left().length === 0);
    const { items } = await installation.client.audit.listWorkspace({ workspace, verb: 'secrets.get' });
    const uses = new Set(items.map(({ subject }) => subject));
    expect([...uses]).toEqual(
      expect.arrayContaining([
        'vm-key for the compute target vm',
        'vm-passphrase for the compute target vm',
        'guess for the compute target vm',
      ]),
    );
  });

  test('a machine that shows another host key than at attach gets nothing any more', async () => {
    await host.changeHostKey();
    const run = await submit(installation, { code: 'print(1)', target: 'vm', ...userManaged });
    const failed = await untilEnded(place(run));
    expect(failed).toMatchObject({ state: 'failed', reason: expect.stringContaining('another host key') });
  });
});
