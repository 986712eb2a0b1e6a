import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mutated } from '@stellwerk/contract/mutated.fixture.ts';
import { runConfiguration } from '@stellwerk/contract/run-configuration.ts';
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { CommandFailed } from './failures.ts';
import { loadRunConfiguration } from './run-configuration-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'runconfig-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, 'x.runconfig');
const whole = `script: train.py
arguments: [--alpha, 0.5, true, 'a b']
target: host
framework: MPI
nodeCount: 2
environment:
  name: e
  python: "3.11"
  conda: {channels: [conda-forge], dependencies: [numpy, {pip: [six]}]}
environmentVariables:
  A: |
    two
    lines
dataReferences:
  d: {datastore: store, path: a/b, mode: upload, pathOnCompute: out, overwrite: true}
timeLimitSeconds: 60
secrets: [API_KEY]
`;

/** What is loaded; undefined for a refusal that names the file. */
function loaded(text: string) {
  writeFileSync(file, text);
  try {
    return loadRunConfiguration(file);
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    expect(error.message.startsWith(file), error.message).toBe(true);
    expect(error.message.length).toBeLessThan(1_000);
    return undefined;
  }
}

it('a run configuration, whatever became of it, is loaded or refused', () => {
  expect(loaded(whole)).toMatchObject({ script: 'train.py', secrets: ['API_KEY'] });
  fc.assert(
    fc.property(mutated(whole), (text) => {
      const configuration = loaded(text);
      if (configuration) expect(runConfiguration.partial({ script: true }).safeParse(configuration).success).toBe(true);
    }),
    { numRuns: 500 },
  );
});

it('what is written without end is loaded or refused', () => {
  for (const part of [
    ' ',
    '\t',
    '#',
    '- ',
    '[',
    '{',
    '&a ',
    '*a ',
    ': ',
    '? ',
    'a: [',
    "'",
    '|\n',
    '!a ',
    '---\n',
    '\\',
  ])
    for (const text of [
      part.repeat(20_000),
      `script: ${part.repeat(20_000)}`,
      `arguments:\n  - ${part.repeat(20_000)}`,
    ])
      loaded(text);
});

it('aliases that would multiply are not followed', () => {
  const laughs = Array.from({ length: 30 }, (_, i) => `a${i}: &a${i} [${`*a${i - 1},`.repeat(9)}]`).join('\n');
  expect(loaded(`a-1: &a-1 [x]\n${laughs}`)).toBeUndefined();
});
