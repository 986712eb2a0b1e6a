// Item 7: what a run configuration says about its environment is what the run gets, and the user is told what was done differently.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { runOf, type Submission } from './submission.ts';
import { workFolder } from './work-folder.ts';

let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start();
});
afterAll(() => installation?.[Symbol.asyncDispose]());

type Environment = NonNullable<RunConfigurationInput['environment']>;

/** A run on the host that says which Python it has. */
function run(environment: Environment, { code: script = '', ...submission }: Submission = {}) {
  const code = `import sys\nprint('Python %d.%d' % sys.version_info[:2])\n${script}\n`;
  return runOf(installation, { ...submission, environment, code });
}

const pinned = 'six==1.16.0';

test('a conda file gives its Python and packages, and the user sees what was done differently', async () => {
  const environmentFile = `name: own\nchannels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - six=1.16.0\n  - pip:\n      - azureml-defaults\n`;
  const ended = await run(
    { condaFile: 'environment.yml' },
    {
      files: { 'environment.yml': environmentFile },
      code: 'import six\nfrom stellwerk.core import Run\nprint(six.__version__, Run.get_context().id)',
    },
  );
  expect(ended.state, ended.reason).toBe('completed');
  expect(ended.printed).toContain('Python 3.11');
  expect(ended.printed).toContain(`1.16.0 ${ended.id}`);
  expect(ended.environment?.lock).toMatch(/^six==1\.16\.0 --hash=sha256:/);
  expect(ended.environment?.python).toMatch(/^3\.11/);
  const notices = ended.environment?.notices?.join('\n') ?? '';
  expect(notices).toContain('conda-forge');
  expect(notices).toContain('azureml-defaults is replaced');
  const shown = await installation.cli(['run', 'get', ended.id]);
  expect(shown.stdout.replace(/\s+/g, ' ')).toContain('azureml-defaults is replaced');
});

test('requirements are locked with hashes, and that lock gives the same environment', async () => {
  const first = await run(
    { requirementsFile: 'requirements.txt' },
    { files: { 'requirements.txt': `# ours\r\n${pinned}\r\n` }, code: 'import six; print(six.__file__)' },
  );
  expect(first.state, first.reason).toBe('completed');
  const again = await run(
    { lockFile: 'our.lock' },
    { files: { 'our.lock': first.environment!.lock! }, code: 'import six; print(six.__file__)' },
  );
  expect(again.state, again.reason).toBe('completed');
  expect(again.environment?.lockHash).toBe(first.environment?.lockHash);
  expect(again.printed).toBe(first.printed);
});

test('a lock without hashes is refused before anything is recorded, with its line', async () => {
  const folder = workFolder(installation.folder, { 'main.py': '', 'our.lock': `${pinned}\n` });
  const refused = await installation.cli([
    'run',
    'submit',
    folder,
    '--script',
    'main.py',
    '--target',
    'host',
    '--environment.lock-file',
    'our.lock',
  ]);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/Line 1 .*six==1\.16\.0.*no hash/) });
});

test('a Python that is not there is an error that lists those found; with pythonFallback the nearest newer one is used', async () => {
  const missing = await run({ python: '3.99', requirements: [pinned] });
  expect(missing).toMatchObject({
    state: 'failed',
    reason: expect.stringMatching(/Python 3\.99 .*Found (is|are) .*3\.\d+/),
  });
  const [, list] = /Found (?:is|are) ([^.]*(?:\.\d+[^.]*)*)\./.exec(missing.reason!)!;
  const found = [...list!.matchAll(/3\.(\d+)/g)].map(([, minor]) => Number(minor));
  const gone = Array.from({ length: Math.max(...found) }, (_, minor) => minor).findLast(
    (minor) => minor >= 5 && !found.includes(minor),
  )!;
  const nearest = found.find((minor) => minor > gone)!;
  const stoodIn = await run({ python: `3.${gone}`, pythonFallback: true, requirements: [pinned] });
  expect(stoodIn.state, stoodIn.reason).toBe('completed');
  expect(stoodIn.printed).toContain(`Python 3.${nearest}\n`);
  expect(stoodIn.environment?.notices?.join()).toContain(`Python 3.${nearest}, the nearest newer one`);
});

test('a Python that the user manages is used as it is, and nothing is installed', async () => {
  const ended = await run(
    { userManaged: true, interpreterPath: '/usr/bin/python3' },
    { code: 'print(sys.executable)' },
  );
  expect(ended.state, ended.reason).toBe('completed');
  expect(ended.printed).toContain('/usr/bin/python3');
  expect(ended.environment?.lock).toBeUndefined();
});

test('unknown words in a conda file, and packages that PyPI does not have, are errors that name them', async () => {
  const ended = await run(
    { condaFile: 'e.yml' },
    { files: { 'e.yml': 'dependencies:\n  - python=3.11\n  - cudatoolkit-dev=11\n' } },
  );
  expect(ended).toMatchObject({ state: 'failed', reason: expect.stringContaining('cudatoolkit-dev') });
});

test('data references bring folders and files of the datastore before the script starts, and take up what it leaves', async () => {
  const data = workFolder(installation.folder, {
    'ein Ordner/ä b.csv': 'x;y\r\n1;2\r\n',
    'ein Ordner/tief/c.txt': 'c',
    'allein.txt': 'allein',
  });
  const uploaded = await installation.cli(['datastore', 'upload', 'default', data, 'eingang']);
  expect(uploaded.code, uploaded.stderr).toBe(0);
  const ended = await run(
    { userManaged: true },
    {
      dataReferences: {
        trains: { path: 'eingang/ein Ordner' },
        single: { path: 'eingang/allein.txt', pathOnCompute: 'there/allein.txt' },
        results: { mode: 'upload', path: 'ausgang' },
      },
      code: [
        'import os',
        "folder, result = (os.environ['AZUREML_DATAREFERENCE_' + name] for name in ('trains', 'results'))",
        "print(sorted(os.listdir(folder)), open('there/allein.txt').read())",
        "os.makedirs(os.path.join(result, 'ü'))",
        "open(os.path.join(result, 'ü', 'fertig.csv'), 'wb').write(open(os.path.join(folder, 'ä b.csv'), 'rb').read())",
      ].join('\n'),
    },
  );
  expect(ended.state, ended.reason).toBe('completed');
  expect(ended.printed).toContain("['tief', 'ä b.csv'] allein");
  const back = await installation.cli(['datastore', 'download', 'default', 'ausgang', '--output', 'zurück']);
  expect(back.code, back.stderr).toBe(0);
  expect(readFileSync(join(installation.folder, 'zurück', 'ausgang', 'ü', 'fertig.csv'), 'utf8')).toBe(
    'x;y\r\n1;2\r\n',
  );

  const nothing = await run({ userManaged: true }, { dataReferences: { gone: { path: 'not/there' } } });
  expect(nothing).toMatchObject({ state: 'failed', reason: expect.stringContaining('not/there') });
});
