import { expect, test } from 'vitest';
import { condaAsPip, parseCondaFile } from './conda-file.ts';

const azure = `name: project_environment
channels:
  - conda-forge
  - https://me:s3cret@conda.example.org/t/tk-123/private
dependencies:
  # The python interpreter version.
  - python=3.6.2
  - pip:
    - azureml-defaults
    - --extra-index-url https://me:s3cret@host/simple
    - matplotlib>=3
  - scikit-learn
  - numpy=1.15
prefix: /anaconda/envs/project
`;

test('reads a file as Azure ML wrote them, with the line of everything', () => {
  const read = parseCondaFile(azure);
  expect(read).toMatchObject({
    name: 'project_environment',
    channels: ['conda-forge', 'https://conda.example.org/private'],
    python: { minor: '3.6', text: 'python=3.6.2', line: 7 },
    packages: [
      { name: 'scikit-learn', line: 12 },
      { name: 'numpy', versions: '==1.15.*', line: 13 },
    ],
    pip: {
      requirements: [
        { name: 'azureml-defaults', line: 9 },
        { name: 'matplotlib', line: 11 },
      ],
      indexes: { extraIndexUrls: ['https://host/simple'] },
    },
  });
  expect(read.notices.join('\n')).toMatch(/Line 14 .*`prefix` is left out/);
  expect(JSON.stringify({ ...read, pip: { ...read.pip, indexes: {} } })).not.toMatch(/s3cret|tk-123/);
});

test.each([
  ['numpy', ''],
  ['numpy=1.15', '==1.15.*'],
  ['numpy=1.15.*', '==1.15.*'],
  ['numpy==1.15.4', '==1.15.4'],
  ['numpy 1.15.4', '==1.15.4'],
  ['numpy 1.15*', '==1.15.*'],
  ['numpy=1.15.4=py36h1d66e8a_0', '==1.15.4'],
  ['numpy 1.15.4 py36_0', '==1.15.4'],
  ['numpy>=1.15', '>=1.15'],
  ['numpy >=1.15,<2.0a0', '>=1.15,<2.0a0'],
  ['numpy>=1.15.*,!=1.16.*', '>=1.15,!=1.16.*'],
  ['conda-forge::numpy=1.15', '==1.15.*'],
])('says conda’s %s in pip’s words', (text, versions) => {
  const read = parseCondaFile(`dependencies:\n  - ${text}\n`);
  expect(read.packages).toMatchObject([{ name: 'numpy', versions, text: text.replace(' >', '>') }]);
});

test.each([
  ['dependencies: [numpy\n', 2, 'not YAML'],
  ['- numpy\n', 1, 'at its top'],
  ['name: x\ndependences:\n  - numpy\n', 2, '`dependences` is not known'],
  ['dependencies:\n  - numpy\n  - conda:\n    - x\n', 3, 'the only list'],
  ['dependencies:\n  - numpy=1.15|1.16\n', 2, 'alternatives'],
  ['dependencies:\n  - numpy[version=">1"]\n', 2, 'conditions in brackets'],
  ['dependencies:\n  - "numpy ?? 3"\n', 2, 'not understood'],
  ['dependencies:\n  - --prefix=/\n', 2, 'not a conda package'],
  ['dependencies:\n  - python\n', 2, 'does not name a minor version'],
  ['dependencies:\n  - python=2.7\n', 2, 'does not name a minor version'],
  ['channels:\n  - --evil\ndependencies: []\n', 2, 'not a channel'],
  ['dependencies:\n  - pip:\n    - six\n    - -r other.txt\n', 4, 'include other files'],
  ['dependencies: numpy\n', 1, 'must be a list'],
  ['dependencies:\n  - [numpy]\n', 2, 'must be a text'],
])('refuses %j with its line', (text, line, reason) => {
  expect(() => parseCondaFile(text)).toThrow(
    new RegExp(`^Line ${line} of the conda file: .*${reason.replace(/[[\]]/g, '\\$&')}`),
  );
});

test('takes from PyPI what has another name there, and tells', () => {
  const { lines, notices } = condaAsPip(
    parseCondaFile('dependencies: [pytorch=2.1, pytables, openssl, pip, numpy=1.2=h_0]').packages,
  );
  expect(lines.map(({ text }) => text)).toEqual(['torch==2.1.*', 'tables', 'numpy==1.2']);
  expect(notices.join('\n')).toMatch(/pytorch \(as torch==2\.1\.\*\).*\n.*openssl and pip.*\n.*builds named for numpy/);
});

test('names every package that only conda has, with its line', () => {
  const { packages } = parseCondaFile('dependencies:\n  - cudatoolkit=10.0\n  - numpy\n  - r-base\n');
  expect(() => condaAsPip(packages)).toThrow(
    /PyPI has no package for cudatoolkit \(line 2; .*\) and r-base \(line 4; it is R, not Python\)/,
  );
});
