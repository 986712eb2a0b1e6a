// Item 14: a data scientist installs the Python package that the server serves, and does the whole workflow with stellwerk.core.
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Installation, repository } from './installation.ts';

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
