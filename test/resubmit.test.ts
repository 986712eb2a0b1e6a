// A run is done again, from the command line and from Python: the same snapshot, the same lock and the same inputs, whatever the folder
// has become meanwhile; both runs know of each other, and what may differ is said.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { asked, typed } from './typing.ts';
import { untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const workspace = 'story';
const code = (word: string) => `
import os, sys, six
print("${word}", sys.argv[1:], six.__version__, len(os.environ["STORY_KEY"]), open("data/words").read().strip())
`;
let installation: Installation;
let folder: string;
let first: Run;
beforeAll(async () => {
  installation = await Installation.start();
  await installation.client.compute.attach({
    workspace,
    name: 'single',
    settings: { kind: 'host', maxConcurrentRuns: 1 },
  });
  folder = workFolder(installation.folder, {
    'main.py': code('as submitted'),
    'a.txt': 'words of the datastore\n',
    'it.runconfig': JSON.stringify({
      script: 'main.py',
      arguments: ['--alpha', 0.1, '--verbose'],
      target: 'local',
      environment: { requirements: ['six==1.16.0'] },
      dataReferences: { words: { path: 'words' } },
      secrets: ['STORY_KEY'],
    }),
  });
  await typed(installation, 'datastore', 'upload', 'workspacestore', join(folder, 'a.txt'), 'words');
  const args = [
    'run',
    'submit',
    folder,
    '--configuration',
    join(folder, 'it.runconfig'),
    '--experiment',
    'ridge',
    '--json',
  ];
  const submitted = await installation.cli(args, { env: { STORY_KEY: 'correct horse' } });
  expect(submitted.code, submitted.stderr).toBe(0);
  first = await untilEnded({ client: installation.client, workspace, run: (JSON.parse(submitted.stdout) as Run).id });
  expect(first.state, first.lastLines?.join('\n')).toBe('completed');
  // What the folder has become is of no account.
  writeFileSync(join(folder, 'main.py'), code('as changed'));
});
afterAll(() => installation?.[Symbol.asyncDispose]());

const printed = async (run: string) => (await installation.client.logs.get({ workspace, run })).text();

test('from the command line, on this machine and on another target, with another argument', async () => {
  const env = { STORY_KEY: 'battery' };
  const args = ['run', 'resubmit', first.id, '--set', 'alpha=0.5', '--follow', '--json'];
  const again = await installation.cli(args, { env });
  expect(again.code, again.stderr).toBe(0);
  const second = JSON.parse(again.stdout) as Run;
  expect(await printed(first.id)).toContain(
    "as submitted ['--alpha', '0.1', '--verbose'] 1.16.0 13 words of the datastore",
  );
  expect(await printed(second.id)).toContain(
    "as submitted ['--alpha', '0.5', '--verbose'] 1.16.0 7 words of the datastore",
  );
  expect(second).toMatchObject({ resubmittedFrom: first.id, snapshot: first.snapshot, parameters: { alpha: 0.5 } });
  expect(second.environment).toMatchObject({ lockHash: first.environment!.lockHash, lock: first.environment!.lock });
  expect(second.differences!.join('\n')).toMatch(
    /argument alpha is 0\.5; it was 0\.1[\s\S]*data reference words[\s\S]*secrets STORY_KEY were given anew/,
  );

  const there = await installation.cli(['run', 'resubmit', first.id, '--target', 'single'], { env });
  expect(there.code, there.stderr).toBe(0);
  expect(there.stderr).toContain('It runs on the compute target single; the first run ran on local.');
  const query = ['run', 'query', '--filter', `resubmittedFrom = '${first.id}'`, '--order-by', 'createdAt asc'];
  const { items } = await asked<{ items: Run[] }>(installation, ...query);
  expect(items.map(({ target }) => target)).toEqual(['local', 'single']);
  const third = await untilEnded({ client: installation.client, workspace, run: items[1]!.id });
  expect(third).toMatchObject({ state: 'completed', environment: { lockHash: first.environment!.lockHash } });
  const table = await typed(
    installation,
    ...query,
    '--columns',
    'id',
    '--columns',
    'parameters.alpha',
    '--columns',
    'target',
  );
  expect(
    table
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/\s+/)),
  ).toEqual([
    ['id', 'parameters.alpha', 'target'],
    [second.id, '0.5', 'local'],
    [third.id, '0.1', 'single'],
  ]);
}, 300_000);

test('from Python', async () => {
  const script = `
from stellwerk.core import Run, Workspace
first = Run.get(Workspace.from_config(), ${JSON.stringify(first.id)})
second = first.resubmit(arguments={"alpha": 2}, tags={"by": "python"})
second.wait_for_completion()
assert second.resubmitted_from.id == first.id
print(second.id)
print("\\n".join(second.differences))
`;
  const file = join(folder, 'again.py');
  writeFileSync(file, script);
  const ran = await installation.python([file], { env: { STORY_KEY: 'staple' } });
  expect(ran.code, ran.stderr).toBe(0);
  const [id, ...differences] = ran.stdout.trim().split('\n');
  expect(differences[0]).toBe('The argument alpha is 2; it was 0.1.');
  expect(await printed(id!)).toContain("as submitted ['--alpha', '2', '--verbose'] 1.16.0 6 words of the datastore");
  const again = await installation.client.runs.get({ workspace, run: id! });
  expect(again).toMatchObject({ tags: { by: 'python' }, environment: { lockHash: first.environment!.lockHash } });
}, 300_000);

test('what cannot be is refused, and says what to do', async () => {
  const without = await installation.cli(['run', 'resubmit', first.id]);
  expect(without).toMatchObject({ code: 2, stderr: expect.stringContaining('STORY_KEY') });
  const unknown = await installation.cli(['run', 'resubmit', first.id, '--set', 'beta=1'], { env: { STORY_KEY: 'x' } });
  expect(unknown).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no argument "beta"; it has alpha, verbose'),
  });
  const wrong = await installation.cli(['run', 'query', '--filter', "state = 'failed' and metrics.mse << 3"]);
  expect(wrong.code).toBe(1);
  expect(wrong.stderr).toContain(`  state = 'failed' and metrics.mse << 3\n  ${' '.repeat(34)}^`);
});
