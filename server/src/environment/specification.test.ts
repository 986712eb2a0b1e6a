import { expect, test } from 'vitest';
import { canonicalLock, parseLock, sha256 } from './lock-file.ts';
import { checkOrigins } from './origins.ts';
import { parseRequirements } from './requirements-file.ts';
import { choosePython, readSpecification } from './specification.ts';

const sha = (digit: string) => `sha256:${digit.repeat(64)}`;

test('replaces azureml packages by our own, wherever they stand, and says so', () => {
  for (const spec of [
    { requirements: 'azureml-sdk[notebooks]==1.0.10\nazureml-core\nnumpy\n' },
    { condaFile: 'dependencies:\n  - numpy\n  - azureml-core\n  - pip: ["azureml-sdk[notebooks]"]\n' },
    {
      lock: `numpy==1.0 --hash=${sha('a')}\nazureml-core==1.0 --hash=${sha('b')}\nazureml-sdk==1.0 --hash=${sha('b')}`,
    },
  ]) {
    const wanted = readSpecification(spec);
    expect(wanted.requirements.map(({ name }) => name)).toEqual(['numpy']);
    expect(wanted.needsStellwerk).toBe(true);
    expect(wanted.notices.join('\n')).toMatch(
      /azureml-(core|sdk) and azureml-(core|sdk) are replaced by Stellwerk's own package/,
    );
  }
});

test('keeps our own package out of the lock without a notice', () => {
  expect(readSpecification({ requirements: 'stellwerk\nsix' })).toMatchObject({
    needsStellwerk: true,
    notices: [],
    requirements: [{ name: 'six' }],
  });
  expect(readSpecification({ requirements: 'six' }).needsStellwerk).toBe(false);
});

test('leaves conda’s packages to conda where there is one', () => {
  const wanted = readSpecification(
    { condaFile: 'channels: [defaults]\ndependencies: [python=3.10, cudatoolkit, azureml-core, {pip: [six]}]' },
    true,
  );
  expect(wanted).toMatchObject({
    python: '3.10',
    conda: { channels: ['defaults'], packages: ['python=3.10', 'cudatoolkit'] },
    requirements: [{ name: 'six' }],
    needsStellwerk: true,
  });
});

test('the Python of the specification wins over that of the conda file, with a notice', () => {
  const wanted = readSpecification({ python: '3.11', condaFile: 'dependencies: [python=3.6.2]' });
  expect(wanted.python).toBe('3.11');
  expect(wanted.notices).toEqual(['Python 3.11 of the specification is used, not 3.6 of the conda file.']);
});

test('a missing Python is an error that lists those found', () => {
  expect(() => choosePython('3.9', false, ['3.11', '3.8'])).toThrow(
    /Python 3\.9 is not on .* Found are 3\.8 and 3\.11\./,
  );
  expect(() => choosePython('3.12', true, ['3.11', '3.8'])).toThrow(/nor is a newer one/);
  expect(() => choosePython('3.12', true, [])).toThrow(/no Python 3\.8 or newer/);
});

test('with the fallback the nearest newer Python stands in, with a notice', () => {
  expect(choosePython('3.9', true, ['3.13', '3.8', '3.10', '3.11'])).toMatchObject({
    minor: '3.10',
    notice: expect.stringContaining('nearest newer'),
  });
  expect(choosePython('3.8', true, ['3.13', '3.8'])).toEqual({ minor: '3.8' });
  expect(choosePython(undefined, false, ['3.13', '3.8'])).toEqual({ minor: '3.13' });
});

test('equal locks are equal texts, however they are written', () => {
  const one = parseLock(
    `# made by hand\nb==1 --hash=${sha('2')} --hash=${sha('1')}\na==2 ; python_version < "3.9" \\\n  --hash=${sha('3')}\n`,
    'x',
  ).requirements;
  const two = parseLock(
    `a==2 ; python_version < "3.9" --hash=${sha('3')}\n\nb==1 \\\n --hash=${sha('1')} \\\n --hash=${sha('2')}`,
    'x',
  ).requirements;
  expect(canonicalLock(one)).toBe(canonicalLock(two));
  expect(canonicalLock(one)).toBe(
    `a==2 ; python_version < "3.9" --hash=${sha('3')}\nb==1 --hash=${sha('1')} --hash=${sha('2')}\n`,
  );
  expect(sha256('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});

test.each([
  ['six', 'is not pinned'],
  [`six>=1 --hash=${sha('a')}`, 'is not pinned'],
  [`six==1.* --hash=${sha('a')}`, 'is not pinned'],
  ['six==1.0', 'has no hash'],
])('a lock with %s is refused with its line', (line, reason) => {
  expect(() => parseLock(`\n${line}\n`, 'the lock')).toThrow(new RegExp(`^Line 2 of the lock: .*${reason}`));
});

test('on a shared server nothing is fetched from where its settings do not point', () => {
  const none = { requirements: [], indexes: {} };
  const check = (lines: string, server = {}) => {
    const { indexes, requirements } = lines ? parseRequirements(lines, { file: 'f' }) : none;
    checkOrigins(indexes, requirements, server, false);
  };
  expect(() => check('-i http://169.254.169.254/latest')).toThrow(/not among this server's index settings/);
  expect(() => check('x @ http://127.0.0.1:8080/x.whl')).toThrow(/not among/);
  expect(() => check('-f /etc')).toThrow(/not among/);
  expect(() => check('--trusted-host index.example.org')).toThrow(/not among/);
  expect(() => check('x @ https://host.example.org/x.whl', { indexUrl: 'https://host/simple' })).toThrow(/not among/);
  check('-i https://host/other/simple', { extraIndexUrls: ['https://host/simple'] });
  check('x @ https://host/packages/x.whl', { indexUrl: 'https://host/simple' });
  checkOrigins({ indexUrl: 'http://169.254.169.254/' }, [], {}, true);
});
