// Item 14: a data scientist installs the Python package that the server serves, and does the whole workflow with stellwerk.core.
import { cpSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Installation, repository } from './installation.ts';
import { workFolder } from './work-folder.ts';

test('examples/diabetes/walkthrough.py runs as a user would run it, from the package that the server serves', async () => {
  await using installation = await Installation.start();
  const { wheel } = await installation.client.server.get({});
  const environment = join(installation.folder, 'venv');
  const work = join(installation.folder, 'ein Projekt ü');
  cpSync(join(repository, 'examples', 'diabetes'), work, { recursive: true });

  const made = await installation.python(['-m', 'venv', environment]);
  expect(made.code, made.stderr).toBe(0);
  const program = 'import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))';
  const inside = (args: string[]) =>
    installation.python(['-c', program, join(environment, 'bin', 'python'), ...args], {
      cwd: work,
      env: { PYTHONPATH: '', STELLWERK_WORKSPACE: '' },
    });
  const installed = await inside(['-m', 'pip', 'install', '--quiet', '--no-index', wheel!]);
  expect(installed.code, installed.stderr).toBe(0);

  const walked = await inside(['walkthrough.py']);
  expect(walked.code, walked.stdout + walked.stderr).toBe(0);
  expect(walked.stdout).toContain('Registered: diabetes:1');
  const predictions = [...walked.stdout.matchAll(/^Predicted.*: (\[.*\])$/gm)].map(([, list]) => JSON.parse(list!));
  expect(predictions).toHaveLength(2);
  for (const prediction of predictions) expect(prediction).toHaveLength(2);
  expect(predictions[0]).not.toEqual(predictions[1]);

  const again = await inside([
    '-c',
    'from stellwerk.core import *; w = Workspace.from_config(); print(list(w.models), list(w.webservices), Webservice(w, "diabetes").image_id)',
  ]);
  expect(again.stdout.trim()).toBe("['diabetes'] ['diabetes'] diabetes:2");
});

test('code for Azure ML SDK v1 does the same when nothing but the name of the import is changed', async () => {
  await using installation = await Installation.start();
  const work = workFolder(installation.folder, { 'data/train.csv': '1,2\n' });
  for (const file of ['notebook.py', 'train.py', 'score.py']) {
    const text = readFileSync(join(repository, 'test', 'azureml-v1', file), 'utf8');
    // score.py stays as it is: in an image, azureml's names are there.
    writeFileSync(
      join(work, file),
      file === 'score.py' ? text : text.replaceAll(/\bazureml\.core\b/g, 'stellwerk.core'),
    );
  }
  const { code, stdout, stderr } = await installation.python(['notebook.py'], {
    cwd: work,
    env: { STELLWERK_WORKSPACE: '' },
  });
  expect(code, stdout + stderr).toBe(0);
  for (const shown of [
    'docs-ws\teastus2\tdocs-aml\t12345678-1234-1234-1234-123456789012',
    'best mse 0.2 of 3',
    "['outputs/local.txt'] {'alpha': 0.03, 'mse': 0.5}",
    "['train.csv']",
    "'accuracy': 0.75",
    'sklearn_mnist\tsklearn_mnist:1\t1',
    'prediction [1.0, 2.0]',
    'model path True',
  ])
    expect(stdout).toContain(shown);
});

test('python -m stellwerk signs in, keeps it for this user alone, and brings runs that were logged offline', async () => {
  await using installation = await Installation.start();
  const { client, workspace, folder } = installation;
  const { token } = await client.tokens.create({ name: 'for Python' });
  const home = { XDG_CONFIG_HOME: join(folder, 'python config'), XDG_DATA_HOME: join(folder, 'python data') };
  const env = { ...home, STELLWERK_URL: '', STELLWERK_TOKEN: '', STELLWERK_WORKSPACE: workspace };
  const python = (args: string[], input?: string) => installation.python(args, { env, ...(input && { input }) });

  const offline = `
from stellwerk.core import Run
run = Run.get_context()
run.log('x', 1.5)
print('offline', run.id)
run.complete()`;
  const logged = await python(['-c', offline]);
  expect(logged.code, logged.stderr).toBe(0);

  const nobody = await python(['-c', 'from stellwerk.core import Workspace; Workspace.get("story")']);
  expect(nobody.code).toBe(1);
  expect(nobody.stderr).toContain('login');
  const signedIn = await python(['-m', 'stellwerk', 'login', installation.url, '--token-stdin'], `${token}\n`);
  expect(signedIn.code, signedIn.stderr).toBe(0);
  expect(statSync(join(folder, 'python config', 'stellwerk', 'credentials.json')).mode & 0o777).toBe(0o600);
  const known = await python(['-c', 'from stellwerk.core import Workspace; print(Workspace.get("story").name)']);
  expect(known.stdout.trim(), known.stderr).toBe('story');

  const synced = await python(['-m', 'stellwerk', 'sync', '--experiment', 'later']);
  expect(synced.code, synced.stderr).toBe(0);
  const { items } = await client.runs.query({ workspace, experiment: 'later', metrics: ['x'] });
  expect(items).toMatchObject([{ state: 'completed', metrics: [{ name: 'x', last: 1.5 }] }]);
});
