import { expect, it } from 'vitest';
import { checkCompleteness } from './completeness.ts';
import { checkFloors } from './floors.ts';
import { readSources, type Source, sourceOf } from './sources.ts';
import { checkWords } from './words.ts';

const first = '// What it is.\n';
const rulesFound = (path: string, text: string) => checkWords([sourceOf(path, first + text)]).map(({ rule }) => rule);
const flaws = (path: string, target: string) =>
  checkFloors([sourceOf(path, `import { x } from '${target}';\n`)]).map(({ what }) => what.replace(/^.*?: /, ''));

it('finds imports from upper rooms, past the front door, and of main', () => {
  expect(flaws('server/src/blob/blobs.ts', '../db/database.ts')).toEqual([]);
  expect(flaws('server/src/blob/blobs.ts', './files.ts')).toEqual([]);
  expect(flaws('server/src/blob/blobs.ts', '../run/runs.ts')).toEqual(['run lies above blob']);
  expect(flaws('server/src/run/runs.ts', '../blob/store.ts')).toEqual(['not a front door of blob']);
  expect(flaws('server/src/run/runs.ts', '../main.ts')).toEqual(['only main knows everybody, and nobody knows main']);
  expect(flaws('server/src/gateway/main.ts', '../blob/blobs.ts')).toEqual(['the gateway imports the contract only']);
  expect(flaws('server/src/run/runs.ts', '@stellwerk/client/client.ts')).toEqual([
    'the server does not know its clients',
  ]);
  expect(flaws('cli/src/main.ts', '@stellwerk/server/run/runs.ts')).toEqual(['cli may not know it']);
  expect(flaws('contract/src/run.ts', 'fastify')).toEqual(['the contract runs anywhere and needs zod only']);
  expect(flaws('server/src/elsewhere/x.ts', '../db/database.ts')).toEqual([
    'a room without a floor: name it in tools/tidy/floors.ts',
  ]);
});

it('sees dynamic imports and re-exports, and none in comments', () => {
  const { imports } = sourceOf(
    'x.ts',
    "import type { a } from './a.ts';\nexport { b } from './b.ts';\nawait import('./c.ts');\nimport './d.ts';\n// import { e } from './e.ts';\n/* import './f.ts' */\nconst g = 'http://x'; // import './g.ts'\n",
  );
  expect(imports).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts']);
});

it('finds words and shapes that do not belong where they stand', () => {
  expect(rulesFound('server/src/run/runs.ts', "run('sbatch');")).toEqual(['vendor-words']);
  expect(rulesFound('server/src/run/runs.ts', '// sbatch would do it')).toEqual([]);
  expect(rulesFound('server/src/compute/kinds/slurm/jobs.ts', "run('sbatch');")).toEqual([]);
  expect(rulesFound('server/src/run/runs.ts', 'process.env.HOME;')).toEqual(['environment']);
  expect(rulesFound('server/src/run/runs.ts', "import { spawn } from 'node:child_process';")).toEqual(['processes']);
  expect(rulesFound('server/src/run/run-utils.ts', '')).toEqual(['names']);
  expect(rulesFound('server/src/run/index.ts', '')).toEqual(['names']);
  expect(rulesFound('server/src/environment/package-index.ts', '')).toEqual([]);
  expect(rulesFound('server/src/run/all.ts', "export * from './runs.ts';\nexport type { A } from './a.ts';")).toEqual([
    'barrels',
  ]);
  expect(rulesFound('server/src/run/runs.ts', 'class A extends B {}')).toEqual(['shapes']);
  expect(rulesFound('server/src/run/runs.ts', 'class A extends Error {}')).toEqual([]);
  expect(rulesFound('server/src/run/runs.ts', `// ${'TO'}DO later`)).toEqual(['unfinished']);
  expect(rulesFound('server/src/run/runs.test.ts', "it.skip('x', () => {});")).toEqual(['skipped-tests']);
  expect(rulesFound('server/src/run/runs.ts', '\n'.repeat(500))).toEqual(['length']);
  expect(checkWords([sourceOf('cli/src/x.ts', 'const a = 1;')]).map(({ rule }) => rule)).toEqual(['first-lines']);
});

it('finds what was left out elsewhere', () => {
  const without = (path: string) => checkCompleteness(readSources().filter((source: Source) => source.path !== path));
  expect(without('python/src/stellwerk/client/verbs.py').map(({ what }) => what)).toContain('has no runs.submit');
  expect(without('docs/errors.md').map(({ what }) => what)).toContain('does not explain `model.in-use`');
  const page = sourceOf(
    'docs/x.md',
    'Type `stellwerk run fly`, or\n\n    $ stellwerk login http://x\n    stellwerk model get x\n',
  );
  expect(checkCompleteness([...readSources(), page]).filter(({ path }) => path === 'docs/x.md')).toEqual([
    { rule: 'commands', path: 'docs/x.md', what: 'names a command that is not there: stellwerk run fly' },
  ]);
  expect(without('docs/kinds/image-docker.md').map(({ what }) => what)).toContain(
    'has no page docs/kinds/image-docker.md',
  );
});
