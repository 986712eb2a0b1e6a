import { expect, test } from 'vitest';
import { parametersOf, withArgument } from './parameters.ts';

test.each<[string, (string | number | boolean)[], Record<string, unknown>]>([
  ['a number after a space', ['--alpha', '0.1'], { alpha: 0.1 }],
  ['a number after an equals sign', ['--alpha=1e-3'], { alpha: 0.001 }],
  ['a flag at the end', ['--verbose'], { verbose: true }],
  ['a flag before an option', ['--verbose', '--lr', '3'], { verbose: true, lr: 3 }],
  ['a negative number is a value', ['--shift', '-5', '--low', '-.5e2'], { shift: -5, low: -50 }],
  ['a short option', ['-n', '3', '-name', 'x'], { n: 3, name: 'x' }],
  ['booleans in words', ['--a', 'true', '--b=False'], { a: true, b: false }],
  ['text with an equals sign', ['--where=a=b'], { where: 'a=b' }],
  ['an empty value', ['--name='], { name: '' }],
  ['values that are numbers and booleans already', ['--alpha', 0.1, '--on', false], { alpha: 0.1, on: false }],
  ['words that belong to no option', ['train', '--k', '2'], { k: 2 }],
  ['several values', ['--alphas', 0.1, '1', '-10', '--k', '2'], { alphas: '0.1 1 -10', k: 2 }],
  ['nothing after two dashes', ['--a', '1', '--', '--b', '2'], { a: 1 }],
  ['the last one of two', ['--a', '1', '--a', '2'], { a: 2 }],
  [
    'numbers that would change stay text',
    ['--zip', '007', '--id', '12345678901234567890', '--hex', '0x10'],
    { zip: '007', id: '12345678901234567890', hex: '0x10' },
  ],
  ['a name that could be taken for more', ['--__proto__', '1'], Object.fromEntries([['__proto__', 1]])],
  ['what is too long for a parameter is left out', ['--text', 'x'.repeat(1_001)], {}],
])('%s', (_, given, expected) => {
  expect(parametersOf(given)).toEqual(expected);
});

test.each<[string, (string | number | boolean)[], string, string | number | boolean, unknown]>([
  ['a value after a space', ['x', '--alpha', '0.1', '--k', 2], 'alpha', 0.5, ['x', '--alpha', 0.5, '--k', 2]],
  ['a value after an equals sign', ['--alpha=0.1', '--k=2'], 'k', 3, ['--alpha=0.1', '--k=3']],
  ['a short option', ['-n', '3'], 'n', 4, ['-n', 4]],
  ['the last one of two', ['--a', 1, '--a', 2], 'a', 3, ['--a', 1, '--a', 3]],
  ['several values', ['--a', 1, 2, '--b', 1], 'a', '3 4 5', ['--a', '3', '4', '5', '--b', 1]],
  ['one value in place of none', ['--v', '--b', 1], 'v', 'much', ['--v', 'much', '--b', 1]],
  ['a flag that is set', ['--v', '--b'], 'v', true, ['--v', '--b']],
  ['a flag that is taken away', ['--v', '--b'], 'v', false, ['--b']],
  ['text with blanks is one value', ['--name', 'a'], 'name', 'b c', ['--name', 'b c']],
  ['text that looks like an option', ['--name', 'a'], 'name', '--b', ['--name=--b']],
  ['what stands behind two dashes stays', ['--a', 1, '--', '--a', 9], 'a', 2, ['--a', 2, '--', '--a', 9]],
  ['an argument that was not given', ['--alpha', 1], 'beta', 2, undefined],
  ['a word', ['alpha', 1], 'alpha', 2, undefined],
])('another value: %s', (_, given, name, value, expected) => {
  expect(withArgument(given, name, value)).toEqual(expected);
});
