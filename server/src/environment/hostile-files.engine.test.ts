import type { BuiltSpecification } from '@stellwerk/contract/environment.ts';
import { mutated, valueOrRefusal } from '@stellwerk/contract/mutated.fixture.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseCondaFile } from './conda-file.ts';
import { secretsOf, withoutCredential } from './index-settings.ts';
import { checkOrigins } from './origins.ts';
import { parseConfiguration } from './pip-configuration.ts';
import { parseRequirements } from './requirements-file.ts';
import { specificationOf } from './source.ts';
import { readSpecification } from './specification.ts';

const requirements = `--index-url https://user:secret@example.org/simple
--extra-index-url=https://example.org/more
# a comment
numpy>=1.26,<3 ; python_version >= "3.9"  # another
scikit-learn[extra]==1.5.* \\
    --hash=sha256:${'a'.repeat(64)}
package @ https://user:secret@example.org/package-1.0-py3-none-any.whl
--only-binary :all:
`;
const conda = `name: project
channels:
  - conda-forge
  - https://user:secret@example.org/t/abc/channel
dependencies:
  - python=3.11
  - numpy>=1.26,<3
  - conda-forge::pip=24.0=py_0
  - pip:
      - scikit-learn==1.5
      - --index-url https://example.org/simple
prefix: /somewhere
`;
const numRuns = 2_000;
/** A parser that is quadratic in one of these does not come to an end in the time of a test. */
const long = [
  ' ',
  '\t',
  '#',
  ' #',
  '\\\n',
  'a-',
  '==1,',
  '[a]',
  '--hash=',
  '(',
  '"',
  '- ',
  '[',
  '{',
  '&a ',
  '*a ',
  ': ',
  'https://',
];

test('a requirements file, whatever became of it, gives requirements or a refusal that shows no password', async () => {
  await fc.assert(
    fc.asyncProperty(mutated(requirements), async (text) => {
      const file = await valueOrRefusal(() => parseRequirements(text, { file: 'it' }));
      for (const { text: line } of file?.requirements ?? []) expect(line).not.toContain('\n');
    }),
    { numRuns },
  );
});

test('a conda file, whatever became of it, gives packages or a refusal', async () => {
  await fc.assert(
    fc.asyncProperty(mutated(conda), async (text) => {
      const file = await valueOrRefusal(() => parseCondaFile(text));
      for (const { text: line } of file?.packages ?? []) expect(line).not.toContain('\n');
      await valueOrRefusal(() => readSpecification({ condaFile: text }, false));
    }),
    { numRuns },
  );
});

test('the content of a conda file and lines that a run configuration brings, whatever they are, are read or refused', async () => {
  const packages = fc.array(
    fc.oneof(mutated('numpy>=1.26', 'pip'), fc.record({ pip: fc.jsonValue() }), fc.jsonValue()),
  );
  const content = fc.record(
    { name: fc.jsonValue(), channels: fc.jsonValue(), dependencies: fc.oneof(packages, fc.jsonValue()) },
    { requiredKeys: [] },
  );
  const noFile = async () => undefined;
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(content, fc.dictionary(fc.string(), fc.jsonValue())),
      fc.array(mutated('numpy>=1.26', '--index-url https://example.org/simple')),
      async (given, lines) => {
        for (const source of [{ conda: given }, { requirements: lines }])
          await valueOrRefusal(async () =>
            readSpecification((await specificationOf(source, noFile)) as BuiltSpecification, true),
          );
      },
    ),
    { numRuns: 300 },
  );
});

test('what is written without end is read, or refused, all the same', async () => {
  for (const part of long) {
    const text = part.repeat(400_000 / part.length);
    await valueOrRefusal(() => parseRequirements(`numpy${text}`, { file: 'it' }));
    await valueOrRefusal(() => parseRequirements(`--index-url ${text}x`, { file: 'it' }));
    await valueOrRefusal(() => parseCondaFile(`dependencies:\n  - numpy${text.replaceAll('\n', '')}`));
    await valueOrRefusal(() => parseCondaFile(text.slice(0, 40_000)));
  }
});

test('aliases that would multiply are not followed', async () => {
  const laughs = Array.from({ length: 30 }, (_, i) => `a${i}: &a${i} [${`*a${i - 1},`.repeat(9)}]`).join('\n');
  expect(await valueOrRefusal(() => parseCondaFile(`a-1: &a-1 [x]\n${laughs}`))).toBeUndefined();
});

test('an address, whatever became of it, loses its credentials and is of the server’s indexes or refused', async () => {
  const server = { indexUrl: 'https://example.org/simple' };
  await fc.assert(
    fc.asyncProperty(mutated('https://user:secret@example.org:8443/simple?x#y'), async (text) => {
      const { credential } = withoutCredential(text);
      secretsOf({ credentials: credential ? [credential] : [] }, { HTTP_PROXY: text });
      const read = await valueOrRefusal(() =>
        parseRequirements(`x @ ${text.replaceAll(/[\r\n]/g, '')}`, { file: 'it' }),
      );
      if (!read) return;
      const passed = await valueOrRefusal(() => {
        checkOrigins(read.indexes, read.requirements, server, false);
        return true;
      });
      for (const { url } of passed ? read.requirements : [])
        if (url !== undefined) expect(new URL(url).origin).toBe('https://example.org');
    }),
    { numRuns },
  );
});

test.each([
  'https://169.254.169.254/x.whl',
  'http://example.org/x.whl',
  'https://example.org:444/x.whl',
  'https://example.org.evil.example/x.whl',
  'https://example.org@evil.example/x.whl',
  'https://evil.example/#@example.org/x.whl',
  'https://2130706433/x.whl',
  'https://[::ffff:127.0.0.1]/x.whl',
  'https://localhost/x.whl',
])('on a server that others reach, a package from %s is refused before anything is fetched', async (url) => {
  const server = { indexUrl: 'https://example.org/simple' };
  for (const written of [
    `x @ ${url}`,
    `--index-url ${url}\nx`,
    `--extra-index-url ${url}\nx`,
    `--find-links ${url}\nx`,
  ]) {
    const { indexes, requirements: asked } = parseRequirements(written, { file: 'it' });
    expect(() => checkOrigins(indexes, asked, server, false), written).toThrow(
      /not among this server's index settings/,
    );
  }
});

test.each([
  'git+ssh://example.org/x',
  'git+https://example.org/x',
  'file:///etc/passwd',
  'ftp://example.org/x',
  '../x',
  '/x',
])('a package from %s is refused everywhere', (url) => {
  for (const written of [`x @ ${url}`, url, `-e ${url}`])
    expect(() => parseRequirements(written, { file: 'it' }), written).toThrow(
      /cannot|version control|not the name|not a requirement/,
    );
});

test('pip’s configuration, whatever became of it, is read', async () => {
  const text =
    '[global]\nindex-url = https://example.org/simple\nextra-index-url =\n  https://a\n  https://b\n[install]\npre = yes\n';
  await fc.assert(
    fc.asyncProperty(mutated(text), async (configuration) => {
      expect(parseConfiguration(configuration)).toBeInstanceOf(Map);
    }),
    { numRuns },
  );
  for (const part of long) parseConfiguration(`[global]\nx${part.repeat(100_000 / part.length)}`);
});
