import fc from 'fast-check';
import { expect, test } from 'vitest';
import { imageVerbs } from './image.ts';
import { flawOfJson, parseJson } from './json-shape.ts';
import { mutated } from './mutated.fixture.ts';
import { runConfiguration } from './run-configuration.ts';

const whole = {
  script: 'train.py',
  arguments: ['--alpha', 0.5, true],
  target: 'host',
  framework: 'MPI',
  resources: { nodes: 2, cpus: 4, memory: '16GB', gpus: 1, gpuType: 'A100', timeLimit: '1h30m' },
  priority: 'high',
  retries: { count: 3, on: ['preempted'] },
  environmentVariables: { A: 'b' },
  environment: {
    name: 'e',
    python: '3.11',
    conda: { channels: ['conda-forge'], dependencies: ['numpy', { pip: [] }] },
  },
  dataReferences: { d: { datastore: 'store', path: 'a/b', mode: 'upload', pathOnCompute: 'out', overwrite: true } },
  graceSeconds: 1.5,
  secrets: ['API_KEY'],
  vaultSecrets: ['db-password'],
};

const value = fc.oneof(
  fc.jsonValue(),
  mutated('train.py', '3.11', 'A_NAME', 'a/b'),
  fc.constantFrom('../x', '/etc/passwd', '', '.', 'a//b', 'a\\b', 'a\0b', '__proto__', -1, 1e308, 1.5, [], {}),
);

/** The same, of which a value somewhere is another. */
function changed(from: unknown, [first, ...rest]: number[], to: unknown): unknown {
  if (typeof from !== 'object' || from === null || first === undefined) return to;
  const keys = [...Object.keys(from), 'new key'];
  const key = keys[first % keys.length]!;
  const part = { [key]: changed((from as Record<string, unknown>)[key], rest, to) };
  return Array.isArray(from) ? Object.values({ ...from, ...part }) : { ...from, ...part };
}

function check(given: unknown): void {
  const read = runConfiguration.safeParse(given);
  if (!read.success) {
    for (const { message, path } of read.error.issues) expect(`${path.join('.')}: ${message}`).toMatch(/\S/);
    return;
  }
  expect(runConfiguration.parse(read.data), 'it means the same when it is read again').toEqual(read.data);
}

test('a run configuration of which a value is another is taken or refused', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(30), { minLength: 1, maxLength: 5 }), value, (place, to) => {
      check(changed(whole, place, to));
    }),
    { numRuns: 5_000 },
  );
});

test('a run configuration, whatever became of its text, is taken or refused', () => {
  fc.assert(
    fc.property(mutated(JSON.stringify(whole)), (text) => {
      let given: unknown;
      try {
        given = parseJson(text);
      } catch (error) {
        expect(error).toBeInstanceOf(SyntaxError);
        return;
      }
      if (flawOfJson(given) === undefined) check(given);
    }),
    { numRuns: 3_000 },
  );
});

test('a run configuration with texts without end is taken or refused', () => {
  for (const part of ['a', '/', 'a/', '.', '../', '3.', '_', '-', 'a-', ' ', '\\', '\0', 'é'])
    for (let at = 0; at < Object.keys(whole).length; at++)
      for (const place of [[at], [at, 0], [at, 0, 1], [at, 1]]) check(changed(whole, place, part.repeat(100_000)));
});

test.each(['A=B', 'A\nB', 'A B', '1A', '', '$A', 'LD-X', 'É'])(
  'no environment variable has the name %j, for a run nor for an image',
  (name) => {
    const environmentVariables = { [name]: 'x' };
    const image = { workspace: 'w1', name: 'i', scoringScript: 's.py', files: [], models: [] };
    for (const [shape, given] of [
      [runConfiguration, whole],
      [imageVerbs.images.create.input, image],
    ] as const) {
      const flaw = shape.safeParse({ ...given, environmentVariables }).error?.issues.map(({ path }) => path[0]);
      expect(flaw).toContain('environmentVariables');
    }
  },
);
