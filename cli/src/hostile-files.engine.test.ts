import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mutated } from '@stellwerk/contract/mutated.fixture.ts';
import { runConfiguration } from '@stellwerk/contract/run-configuration.ts';
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { dataFile, prepareYaml } from './data-file.ts';
import { CommandFailed } from './failures.ts';
import { loadRunConfiguration } from './run-configuration-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'runconfig-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, 'x.runconfig');
const whole = `script: train.py
arguments: [--alpha, 0.5, true, 'a b']
target: host
framework: MPI
resources: {nodes: 2, memory: 16GB}
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

it('a value of a YAML file is refused if it is nested deep, or its aliases would multiply', async () => {
  const value = join(folder, 'value.yml');
  await prepareYaml({ configuration: `@${value}` });
  const read = (text: string) => {
    writeFileSync(value, text);
    return dataFile(value);
  };
  expect(read('a: &a [1, 2]\nb: *a\n')).toEqual({ a: [1, 2], b: [1, 2] });
  const laughs = Array.from({ length: 30 }, (_, i) => `a${i}: &a${i} [${`*a${i - 1},`.repeat(9)}]`).join('\n');
  expect(() => read(`a-1: &a-1 [x]\n${laughs}`)).toThrow(new SyntaxError('its aliases would make too much of little'));
  expect(() => read(`${'['.repeat(200)}${']'.repeat(200)}`)).toThrow(/^it is nested more than \d+ levels deep$/);
  expect(() => read('['.repeat(100_000))).toThrow(new SyntaxError('it is nested too deep'));
  expect(() => read('&a [*a]')).toThrow(SyntaxError);
});
