// For fuzz tests of parsers: real inputs, damaged in the ways that break parsers. Whatever comes of it is a value or a ServiceError.
import fc from 'fast-check';
import { ServiceError } from './errors.ts';

const tokens = [
  '',
  '\0',
  '\n',
  '\r',
  '\t',
  ' ',
  '\u0085',
  '\u2028',
  '\ufeff',
  '\ud800',
  '\u{1f600}',
  '"',
  "'",
  '`',
  '\\',
  '\\\n',
  '%',
  '%zz',
  '$' + '{HOME}',
  '$(id)',
  '../',
  '/etc/passwd',
  'file:///etc/passwd',
  'http://169.254.169.254/',
  'https://[',
  'https://u:p@h/',
  'https://%zz:%@h/',
  'git+ssh://h/x',
  '__proto__',
  'constructor',
  '!!js/function',
  '!!python/object/apply:os.system',
  '&a [*a]',
  '*a',
  '<<: *a',
  '? ',
  '- ',
  ': ',
  '#',
  ' #',
  '|',
  '>',
  '{',
  '}',
  '[',
  ']',
  ',',
  ';',
  '@',
  '=',
  '==',
  '~=',
  '-r x',
  '--index-url',
  '--hash=sha256:00',
  '1e999',
  '-1',
  '9007199254740993',
  'NaN',
  'null',
  'true',
];

type Edit = (text: string, at: number, length: number, token: string, times: number) => string;
const edits: Edit[] = [
  (text, at, _, token) => text.slice(0, at) + token + text.slice(at),
  (text, at, length) => text.slice(0, at) + text.slice(at + length),
  (text, at, length) => text.slice(0, at + length) + text.slice(at),
  (text, at, length, token) => text.slice(0, at) + token + text.slice(at + length),
  (text, at, _, token, times) => text.slice(0, at) + (token || ' ').repeat(times) + text.slice(at),
  (text, at, length, _, times) =>
    text.slice(0, at) + text.slice(at, at + Math.min(length, 8)).repeat(times) + text.slice(at),
  (text, at) => text.slice(0, at),
];

/** Texts that begin as one of the samples. */
export function mutated(...samples: readonly string[]): fc.Arbitrary<string> {
  const edit = fc.tuple(
    fc.constantFrom(...edits),
    fc.nat(),
    fc.nat(40),
    fc.constantFrom(...tokens),
    fc.oneof({ arbitrary: fc.nat(5), weight: 8 }, { arbitrary: fc.constantFrom(100, 5_000, 30_000), weight: 1 }),
  );
  return fc
    .tuple(fc.constantFrom(...samples), fc.array(edit, { minLength: 1, maxLength: 6 }))
    .map(([sample, all]) =>
      all.reduce(
        (text, [act, at, length, token, times]) => act(text, at % (text.length + 1), length, token, times),
        sample,
      ),
    );
}

/** Bytes that begin as the sample. */
export function damaged(sample: Uint8Array): fc.Arbitrary<Buffer> {
  const change = fc.tuple(fc.nat(sample.length - 1), fc.nat(255));
  return fc
    .tuple(fc.array(change, { minLength: 1, maxLength: 6 }), fc.option(fc.nat(sample.length), { freq: 4 }))
    .map(([changes, end]) => {
      const bytes = Buffer.from(sample);
      for (const [at, value] of changes) bytes[at] = value;
      return end === null ? bytes : bytes.subarray(0, end);
    });
}

/** Gives the value; undefined for a refusal. Anything else that is thrown is a fault. */
export async function valueOrRefusal<T>(act: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof ServiceError && error.code !== 'internal') return undefined;
    throw error;
  }
}
