import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runConfiguration } from '@stellwerk/contract/run-configuration.ts';
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { loadRunConfiguration, saveRunConfiguration } from './run-configuration-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'runconfig ü '));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'train it.runconfig');

it('loads YAML with Windows line ends and a byte order mark', () => {
  writeFileSync(
    file,
    '\ufeffscript: train.py\r\n# the rest\r\ntarget: host\r\narguments: [--alpha, 0.5, true]\r\nenvironment:\r\n  python: "3.10"\r\n',
  );
  expect(loadRunConfiguration(file)).toEqual({
    script: 'train.py',
    target: 'host',
    arguments: ['--alpha', 0.5, true],
    environment: { python: '3.10' },
  });
});

it('refuses an unknown key with its line, at any depth', () => {
  writeFileSync(file, 'script: train.py\ntraget: host\n');
  expect(() => loadRunConfiguration(file)).toThrow(/train it\.runconfig, line 2: the key "traget" is not known/);
  writeFileSync(file, 'script: train.py\nenvironment:\n  python: "3.11"\n  requirement: [six]\n');
  expect(() => loadRunConfiguration(file)).toThrow(/line 4: the key "requirement" in environment is not known/);
  writeFileSync(file, 'script: train.py\ngraceSeconds: many\n');
  expect(() => loadRunConfiguration(file)).toThrow(/line 2: graceSeconds: /);
  writeFileSync(file, 'script: "train.py\n');
  expect(() => loadRunConfiguration(file)).toThrow(/line \d: /);
  writeFileSync(file, 'script: !!js/function "x"\ntarget: 3.5\n');
  expect(() => loadRunConfiguration(file)).toThrow(/line 2/);
});

it('saves and loads without loss', () => {
  const text = fc.string({ unit: 'binary', maxLength: 30 });
  const key = fc.stringMatching(/^[A-Za-z_]\w{0,10}$/).filter((name) => name !== '__proto__');
  // Minus zero is written as 0, as in JSON.
  const number = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
  const configuration = fc.record(
    {
      script: fc.constantFrom('train.py', 'ä b/mein skript.py', 'no', '1'),
      arguments: fc.array(fc.oneof(text, number, fc.boolean()), {
        maxLength: 5,
      }),
      environmentVariables: fc.dictionary(key, text, { maxKeys: 4 }),
      environment: fc.record({
        python: fc.constantFrom('3.9', '3.10'),
        requirements: fc.array(text, { maxLength: 3 }),
      }),
      graceSeconds: fc.integer({ min: 0, max: 3_600 }),
    },
    { requiredKeys: ['script'] },
  );
  fc.assert(
    fc.property(configuration, (given) => {
      saveRunConfiguration(file, given);
      // YAML has one zero where JavaScript has two.
      const wanted = {
        ...given,
        ...(given.arguments ? { arguments: given.arguments.map((one) => (one === 0 ? 0 : one)) } : {}),
      };
      const loaded = loadRunConfiguration(file);
      expect(loaded).toEqual(wanted);
      expect(runConfiguration.safeParse(loaded).success).toBe(true);
    }),
  );
});
