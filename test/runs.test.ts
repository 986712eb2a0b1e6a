// Runs as a data scientist has them: submitted from Python and the command line, started in a notebook, logged without a server;
// what is recorded of them, and how they are found again.
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { runOf } from './submission.ts';
import { asked, typed } from './typing.ts';
import { untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const workspace = 'story';
let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start();
});
afterAll(() => installation[Symbol.asyncDispose]());

const userManaged = { environment: { userManaged: true } };
const named = (run: Run | string) => ({ workspace, run: typeof run === 'string' ? run : run.id });
const find = async (query: object) => (await installation.client.runs.query({ workspace, ...query })).items;

/** What it prints, line by line. It must succeed. */
async function python(code: string, env: Record<string, string> = {}): Promise<string[]> {
  const { code: exitCode, stdout, stderr } = await installation.python(['-'], { input: code, env });
  expect(exitCode, stderr).toBe(0);
  return stdout.trimEnd().split('\n');
}

const project = {
  'train.py': 'import sys, os\nprint(sys.argv[1:], sorted(os.listdir(".")), flush=True)\n',
  'data/kept.csv': 'a\n1\n',
  'data/left out.bin': 'x',
  'cache/deep/x': 'x',
  '.amlignore': '*.bin\n/cache/\n',
};

test('a folder is submitted from Python and from the command line, without what its ignore file leaves out, as the same snapshot', async () => {
  const folder = workFolder(installation.folder, project);
  const [id] = await python(`
from stellwerk.core import Experiment, ScriptRunConfig, Workspace
from stellwerk.core.runconfig import RunConfiguration
configuration = RunConfiguration()
configuration.environment.python.user_managed_dependencies = True
config = ScriptRunConfig(${JSON.stringify(folder)}, "train.py", arguments=["--alpha", 0.5], run_config=configuration)
run = Experiment(Workspace.get("story"), "from Python").submit(config, tags={"by": "sdk"}, show_progress=False)
run.wait_for_completion()
print(run.id)
`);
  const bySdk = await installation.client.runs.get(named(id!));
  const flags = ['--experiment', 'typed', '--script', 'train.py', '--environment.user-managed', '--target', 'host'];
  const options = ['--alpha', '0.5', '--epochs=3', '--name', 'ridge 1', '--verbose', '--ids', '1', '2', '--zip', '007'];
  const printed = await typed(installation, 'run', 'submit', folder, ...flags, '--follow', '--', ...options);
  expect(printed).toContain("['.amlignore', 'checkpoints', 'data', 'logs', 'outputs', 'train.py']");
  const [byHand] = await find({ experiment: 'typed' });
  expect(byHand!.snapshot).toBe(bySdk.snapshot);
  const { items } = await installation.client.snapshots.listFiles({ workspace, snapshot: byHand!.snapshot! });
  expect(items.map(({ path }) => path)).toEqual(['.amlignore', 'data/kept.csv', 'train.py']);
  expect(bySdk).toMatchObject({ state: 'completed', target: 'local', tags: { by: 'sdk' }, parameters: { alpha: 0.5 } });
  expect(byHand).toMatchObject({
    state: 'completed',
    exitCode: 0,
    user: 'admin',
    host: hostname(),
    attempt: 1,
    number: 1,
  });
  expect(byHand!.parameters).toEqual({ alpha: 0.5, epochs: 3, name: 'ridge 1', verbose: true, ids: '1 2', zip: '007' });
  const times = [byHand!.createdAt, byHand!.startedAt!, byHand!.endedAt!];
  expect(times).toEqual([...times].sort());
});

test('more than 300 MB is refused before anything is sent, with the largest files and what to do, unless the limit is raised', async () => {
  const folder = workFolder(installation.folder, { 'train.py': 'print("small")' });
  writeFileSync(join(folder, 'weights.bin'), '');
  truncateSync(join(folder, 'weights.bin'), 300 * 1024 * 1024 + 1);
  const args = ['run', 'submit', folder, '--experiment', 'too large', '--script', 'train.py'];
  const refused = await installation.cli(args);
  expect(refused.code).toBe(1);
  for (const said of ['weights.bin', '300', '.amlignore']) expect(refused.stderr).toContain(said);
  const fromPython = await installation.python(['-'], {
    input: `
from stellwerk.core import Experiment, ScriptRunConfig, Workspace
Experiment(Workspace.get("story"), "too large").submit(ScriptRunConfig(${JSON.stringify(folder)}, "train.py"))
`,
  });
  expect(fromPython.code).toBe(1);
  expect(fromPython.stderr).toMatch(/SnapshotException.*may have 300.0 MB/s);
  expect(fromPython.stderr).toContain('weights.bin');
  expect(await find({ experiment: 'too large' })).toEqual([]);
  const narrow = workFolder(installation.folder, { 'train.py': 'print("small")', 'data.bin': 'x'.repeat(1_100_000) });
  const limited = await installation.cli(['run', 'submit', narrow, '--script', 'train.py', '--limit-mb', '1']);
  expect(limited.stderr).toContain('data.bin');
});

test('a failure tells the exit code and the last lines, and keeps outputs and metrics', async () => {
  const failed = await runOf(installation, {
    ...userManaged,
    code: `
import os
from stellwerk.core import Run
Run.get_context().log("reached", 7)
os.makedirs("outputs", exist_ok=True)
open("outputs/half.txt", "w").write("half")
print("\\n".join("line %d" % n for n in range(500)), flush=True)
raise SystemExit("the data is wrong")
`,
  });
  expect(failed).toMatchObject({ state: 'failed', exitCode: 1, reason: expect.stringContaining('exit code 1') });
  expect(failed.lastLines!.slice(-2)).toEqual(['line 499', 'the data is wrong']);
  expect(failed.lastLines!.length).toBeLessThanOrEqual(100);
  expect((await installation.client.metrics.list(named(failed))).items).toMatchObject([{ name: 'reached', last: 7 }]);
  const files = await installation.client.runs.listFiles({ ...named(failed), prefix: 'outputs' });
  expect(files.items).toMatchObject([{ path: 'outputs/half.txt', sizeBytes: 4 }]);
  const folder = workFolder(installation.folder, { 'train.py': 'import sys\nsys.exit(3)\n' });
  const args = ['run', 'submit', folder, '--script', 'train.py', '--environment.user-managed', '--follow'];
  const followed = await installation.cli(args);
  expect(followed.code).toBe(1);
  expect(followed.stderr).toContain('exit code 3');
});

test('git remote without its credentials, commit, branch and dirtiness are recorded, and the lock of the environment', async () => {
  const folder = workFolder(installation.folder, {
    'train.py': 'import six\nprint(six.__version__)\n',
    'requirements.txt': 'six==1.16.0\n',
  });
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', '-c', 'init.defaultBranch=main', ...args], {
      cwd: folder,
      encoding: 'utf8',
    }).trim();
  git('init', '-q');
  git('remote', 'add', 'origin', 'https://someone:hunter2@git.example.org/team/project.git');
  git('add', '.');
  git('commit', '-qm', 'first');
  const commit = git('rev-parse', 'HEAD');
  const submit = ['run', 'submit', folder, '--script', 'train.py', '--target', 'host', '--experiment', 'with git'];
  const flags = ['--environment.requirements-file', 'requirements.txt'];
  const clean = await asked<Run>(installation, ...submit, ...flags);
  const remote = 'https://git.example.org/team/project.git';
  expect(clean.git).toEqual({ remote, commit, branch: 'main', dirty: false });
  writeFileSync(join(folder, 'train.py'), 'print("changed")\n');
  expect((await asked<Run>(installation, ...submit, ...flags)).git).toMatchObject({ remote, commit, dirty: true });
  const ended = await untilEnded({ client: installation.client, ...named(clean) });
  expect(ended, ended.reason).toMatchObject({ state: 'completed' });
  expect(ended.environment!.lock).toMatch(/six==1\.16\.0.*--hash=sha256:[0-9a-f]{64}/s);
  expect(ended.environment).toMatchObject({
    lockHash: expect.stringMatching(/[0-9a-f]{64}/),
    python: expect.stringMatching(/^3\./),
  });
  expect(JSON.stringify(await find({ experiment: 'with git' }))).not.toContain('hunter2');
});

test('children go to any depth, are found below their ancestors, and tags, parameters and metrics find runs again', async () => {
  const root = await runOf(installation, {
    ...userManaged,
    code: `
from stellwerk.core import Run
run = Run.get_context()
run.add_properties({"kind": "search"})
for number in range(3):
    with run.child_run(name="child %d" % number) as child:
        child.log_param("alpha", number / 2)
        child.tag("model", "ridge" if number else "lasso")
        for loss in (9, 1 + number, 5):
            child.log("loss", loss)
        if number == 2:
            with child.child_run(name="deeper") as deeper:
                with deeper.child_run(name="deepest") as deepest:
                    deepest.log("depth", 3)
`,
  });
  expect(root).toMatchObject({ state: 'completed', childCount: 3, properties: { kind: 'search' } });
  const names = async (query: object) => (await find(query)).map(({ displayName }) => displayName);
  const [deepest] = await find({ ancestor: root.id, filter: 'metrics.depth = 3' });
  expect(deepest).toMatchObject({ displayName: 'deepest', root: root.id, state: 'completed' });
  expect(await names({ ancestor: root.id })).toHaveLength(5);
  expect(await names({ parent: root.id, orderBy: ['parameters.alpha desc'] })).toEqual([
    'child 2',
    'child 1',
    'child 0',
  ]);
  expect(await names({ parent: root.id, orderBy: ['metrics.loss.min asc'] })).toEqual([
    'child 0',
    'child 1',
    'child 2',
  ]);
  const ridge = "tags.model = 'ridge' and state = 'completed'";
  expect(await names({ parent: root.id, filter: `${ridge} and metrics.loss.min <= 2` })).toEqual(['child 1']);
  expect(
    await names({
      parent: root.id,
      filter: `metrics.loss.max = 9 and metrics.loss = 5 and parameters.alpha > 0.4 and createdAt > '${root.createdAt}'`,
      orderBy: ['createdAt asc'],
    }),
  ).toEqual(['child 1', 'child 2']);
  const first = await installation.client.runs.query({
    workspace,
    parent: root.id,
    pageSize: 2,
    orderBy: ['parameters.alpha asc'],
  });
  const second = await installation.client.runs.query({
    workspace,
    parent: root.id,
    pageSize: 2,
    orderBy: ['parameters.alpha asc'],
    page: first.nextPage,
  });
  expect([first, second].map(({ items }) => items.map(({ displayName }) => displayName))).toEqual([
    ['child 0', 'child 1'],
    ['child 2'],
  ]);
  const table = await typed(installation, 'run', 'list', '--parent', root.id, '--filter', "tags.model = 'lasso'");
  expect(table).toContain('child 0');
  expect(table).not.toContain('child 1');
  await expect(installation.client.runs.query({ workspace, filter: 'metrics.loss <' })).rejects.toMatchObject({
    reason: 'query.invalid',
  });

  await installation.client.runs.update({ ...named(root), tags: { model: 'any', gone: 'soon' } });
  await installation.client.runs.update({ ...named(root), tags: { gone: null, model: 'best' } });
  expect((await installation.client.runs.get(named(root))).tags).toEqual({ model: 'best' });
  await expect(
    installation.client.runs.update({ ...named(root), properties: { kind: 'other' } }),
  ).rejects.toMatchObject({ reason: 'run.property-set' });
});

test('a notebook starts runs in with blocks, and what it logs of every kind is read again', async () => {
  const [id, failedId, metrics] = await python(`
import json
from stellwerk.core import Experiment, Workspace
experiment = Experiment(Workspace.get("story"), "notebook")
with experiment.start_logging(display_name="by hand") as run:
    for step in range(3):
        run.log("loss", 1.0 / (step + 1), step=step)
    run.log_list("values", [1, 2, 3])
    run.log_row("epochs", epoch=1, accuracy=0.5)
    run.log_row("epochs", epoch=2, accuracy=0.75)
    run.log_table("table", {"x": [1, 2], "y": [3, 4]})
    run.log_confusion_matrix("matrix", {"schema_type": "confusion_matrix", "schema_version": "v1", "data": {"class_labels": ["a", "b"], "matrix": [[2, 0], [1, 3]]}})
    run.log_predictions("predictions", {"schema_type": "predictions", "schema_version": "v1", "data": {"bin_averages": [0.25, 0.75], "bin_errors": [0.01, 0.02], "bin_counts": [2, 3], "bin_edges": [0, 0.5, 1]}})
    run.log_residuals("residuals", {"schema_type": "residuals", "schema_version": "v1", "data": {"bin_edges": [-1, 0, 1], "bin_counts": [2, 3]}})
    with open("curve.png", "wb") as file:
        file.write(b"\\x89PNG of a curve")
    run.log_image("curve", path="curve.png")
    run.log_param("alpha", 0.1)
    run.tag("from", "notebook")
    with run.child_run("inner") as child:
        child.log("loss", 7)
    with open("note.txt", "w") as file:
        file.write("a note")
    run.upload_file("notes/note.txt", "note.txt")
print(run.id)
try:
    with experiment.start_logging() as failed:
        failed.log("reached", 1)
        raise ValueError("wrong data")
except ValueError:
    print(failed.id)
print(json.dumps(run.get_metrics()))
`);
  const run = await installation.client.runs.get(named(id!));
  expect(run).toMatchObject({
    state: 'completed',
    interactive: true,
    displayName: 'by hand',
    childCount: 1,
    host: hostname(),
    parameters: { alpha: 0.1 },
    tags: { from: 'notebook' },
  });
  expect(JSON.parse(metrics!)).toMatchObject({
    loss: [1, 0.5, 1 / 3],
    values: [1, 2, 3],
    epochs: { epoch: [1, 2], accuracy: [0.5, 0.75] },
    table: { x: [1, 2], y: [3, 4] },
  });
  const ofKind = { matrix: 'confusion_matrix', predictions: 'predictions', residuals: 'residuals', curve: 'image' };
  for (const [name, kind] of Object.entries(ofKind)) {
    const { summary } = await installation.client.metrics.getSeries({ ...named(run), name });
    expect(summary.kind, name).toBe(kind);
  }
  expect(JSON.parse(metrics!)).toMatchObject({
    predictions: { data: { bin_averages: [0.25, 0.75], bin_counts: [2, 3] } },
    residuals: { data: { bin_edges: [-1, 0, 1], bin_counts: [2, 3] } },
  });
  const curve = (await installation.client.runs.listFiles(named(run))).items.find(({ path }) => path.includes('curve'));
  const picture = await installation.client.runs.getFile({ ...named(run), path: curve!.path });
  expect(Buffer.from(await picture.arrayBuffer()).toString('latin1')).toBe('\u0089PNG of a curve');
  expect(await (await installation.client.runs.getFile({ ...named(run), path: 'notes/note.txt' })).text()).toBe(
    'a note',
  );
  const failed = await installation.client.runs.get(named(failedId!));
  expect(failed).toMatchObject({ state: 'failed', reason: expect.stringContaining('wrong data') });
});

test('a run without a server is kept on this disk, and synced later with its times', async () => {
  const offline = {
    STELLWERK_URL: '',
    STELLWERK_TOKEN: '',
    STELLWERK_WORKSPACE: '',
    XDG_CONFIG_HOME: join(installation.folder, 'nobody'),
  };
  const [id] = await python(
    `
from stellwerk.core import Run
run = Run.get_context()
for step in range(100):
    run.log("loss", step, step=step)
with run.child_run("inner") as child:
    child.log("loss", 7)
run.tag("made", "offline")
run.complete()
print(run.id)
`,
    offline,
  );
  expect(await find({ filter: "tags.made = 'offline'" })).toEqual([]);
  const before = new Date().toISOString();
  await typed(installation, 'run', 'sync');
  const run = await installation.client.runs.get(named(id!));
  expect(run).toMatchObject({ state: 'completed', interactive: true, childCount: 1 });
  expect(run.startedAt! < before).toBe(true);
  const { points } = await installation.client.metrics.getSeries({ ...named(run), name: 'loss' });
  expect(points!.map(({ value }) => value)).toEqual(Array.from({ length: 100 }, (_, step) => step));
  await typed(installation, 'run', 'sync'); // nothing comes twice
  expect(await find({ filter: "tags.made = 'offline'" })).toHaveLength(1);
});
