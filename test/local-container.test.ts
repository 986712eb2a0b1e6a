// Runs of the local computer that name an image: its user's own Docker executes them, from the command line and from Python.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DockerEngine, whyNoDocker } from './engines/docker/docker-engine.ts';
import { Installation } from './installation.ts';
import { runOf, submit } from './submission.ts';
import { until, untilEnded, untilState } from './waiting.ts';
import { workFolder } from './work-folder.ts';

describe.skipIf(whyNoDocker)(`the local computer, in a container (${whyNoDocker ?? 'Docker Engine'})`, () => {
  let engine: DockerEngine;
  let installation: Installation;

  beforeAll(async () => {
    engine = await DockerEngine.up({ network: 'machine' });
    installation = await Installation.start([], { DOCKER_HOST: `unix://${engine.socket}` });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
    await engine?.down();
  });

  const code = [
    'import os, sys',
    'from stellwerk.core import Run',
    'Run.get_context().log("x", 7)',
    'print(os.path.exists("/.dockerenv"), sys.prefix != sys.base_prefix)',
    'open("outputs/it.txt", "w").write("made there")',
  ].join('\n');
  const container = () => ({ image: engine.image });

  test('a run has the image, the environment that it asks for, and delivers as everywhere; nothing is left of it', async () => {
    const run = await runOf(installation, { code, target: 'local', container: container() });
    expect(run.state, `${run.reason}\n${run.printed}`).toBe('completed');
    expect(run.printed).toBe('True True\n');
    const { client, workspace } = installation;
    expect((await client.metrics.list({ workspace, run: run.id })).items).toMatchObject([{ name: 'x', last: 7 }]);
    expect(await (await client.runs.getFile({ workspace, run: run.id, path: 'outputs/it.txt' })).text()).toBe(
      'made there',
    );
    await until('the end of the container', () => engine.left().length === 0);
    expect(installation.filesOf(run.id)).toEqual([]);
  });

  test('submitted from Python it may take the memory that it asked for, and is told when that is too little', async () => {
    const folder = workFolder(installation.folder, {
      'greedy.py':
        'taken = bytearray(400_000_000)\nfor at in range(0, len(taken), 4096): taken[at] = 1\nprint("had it")\n',
    });
    const printed = await installation.python([
      '-c',
      `
from stellwerk.core import Experiment, ScriptRunConfig, Workspace
from stellwerk.core.runconfig import RunConfiguration
configuration = RunConfiguration()
configuration.environment.python.user_managed_dependencies = True
configuration.environment.docker.enabled = True
configuration.environment.docker.base_image = "${engine.image}"
configuration.container_instance.memory_gb = 0.2
run = Experiment(Workspace.get("story"), "from Python").submit(ScriptRunConfig(${JSON.stringify(folder)}, "greedy.py", run_config=configuration), show_progress=False)
run.wait_for_completion(raise_on_error=False)
print(run.id)
`,
    ]);
    expect(printed.code, printed.stderr).toBe(0);
    const run = await installation.client.runs.get({ workspace: 'story', run: printed.stdout.trim() });
    expect(run).toMatchObject({ state: 'failed', reason: expect.stringContaining('ran out of memory') });
  });

  test('a run that is canceled ends with its container', async () => {
    const asleep = 'print("begun", flush=True)\nimport time\ntime.sleep(600)\n';
    const environment = { userManaged: true };
    const { id } = await submit(installation, { code: asleep, target: 'local', environment, container: container() });
    const of = { workspace: 'story', run: id };
    await untilState({ client: installation.client, ...of }, 'running');
    expect(engine.left()).toHaveLength(1);
    await installation.client.runs.cancel(of);
    expect(await untilEnded({ client: installation.client, ...of })).toMatchObject({ state: 'canceled' });
    await until('the end of the container', () => engine.left().length === 0);
  });

  test('what cannot be is refused with what to do, and no run is left waiting', async () => {
    const folder = workFolder(installation.folder, { 'main.py': 'print(1)' });
    const typed = ['run', 'submit', folder, '--script', 'main.py', '--target', 'local', '--experiment', 'refused'];
    const nowhere = await installation.cli([...typed, '--container.image', 'not-here:1']);
    expect(nowhere.code).not.toBe(0);
    expect(nowhere.stderr).toContain('Docker could not tell or get the container image not-here:1');
    const runs = await installation.client.runs.list({ workspace: 'story', experiment: 'refused' });
    expect(runs.items).toMatchObject([{ state: 'canceled' }]);
    const unnamed = await installation.cli([...typed, '--container.environment', 'at-start']);
    expect(unnamed.stderr).toContain('name one');
    const made = await installation.cli([
      ...typed,
      '--container.image',
      engine.image,
      '--container.environment',
      'in-image',
    ]);
    expect(made.stderr).toContain('at-start');
  });
});
