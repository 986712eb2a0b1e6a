import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commandLine } from './quote.ts';

const show = [
  'python3',
  '-c',
  'import json,sys,os; print(json.dumps([sys.argv[1:], os.environ.get("A"), os.environ.get("B")]))',
];
const shown = (args: string[], env: Record<string, string> = {}) =>
  JSON.parse(
    execFileSync('sh', ['-c', commandLine([...show, ...args], env)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );

test('a shell gives a program each argument and each variable as it is, whatever a shell makes of it', () => {
  const nasty = [
    "it's",
    '$(touch x)',
    '`id`',
    'a;b|c&d>e',
    '"',
    '\\',
    '\n',
    '',
    ' ',
    '~',
    '*',
    '!',
    '#',
    '-n',
    "'''",
    'ü€😀',
  ];
  expect(shown(nasty, { A: "$HOME 'x'", B: '; rm' })).toEqual([nasty, "$HOME 'x'", '; rm']);
});

test('so it does with any text', () => {
  const word = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0') && text.isWellFormed());
  const variables = fc.dictionary(fc.constantFrom('A', 'B'), word);
  fc.assert(
    fc.property(fc.array(word), variables, (words, env) => {
      expect(shown(words, env)).toEqual([words, env.A ?? null, env.B ?? null]);
    }),
    { numRuns: 20 },
  );
});

test('what no shell can be given is refused', () => {
  expect(() => commandLine(['a\0b'])).toThrow('NUL');
  expect(() => commandLine(['a'], { 'A;B': 'c' })).toThrow('no name');
});
