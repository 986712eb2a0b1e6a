import { expect, test } from 'vitest';
import { parseRequirements } from './requirements-file.ts';

const file = 'requirements.txt';
const parse = (text: string) => parseRequirements(text, { file });
const sha = (digit: string) => `sha256:${digit.repeat(64)}`;

test.each([
  ['numpy', 'numpy', 'numpy'],
  ['Scikit_Learn >= 1.2, <2', 'scikit-learn', 'Scikit_Learn>=1.2,<2'],
  ['uvicorn[standard, watch]==0.30.*', 'uvicorn', 'uvicorn[standard,watch]==0.30.*'],
  ['requests (>=2.0)', 'requests', 'requests>=2.0'],
  ['a~=1.0 # why', 'a', 'a~=1.0'],
  ['tomli==2.0 ; python_version < "3.11"', 'tomli', 'tomli==2.0 ; python_version < "3.11"'],
  [
    'x @ https://host/x-1-py3-none-any.whl ; os_name == "posix"',
    'x',
    'x @ https://host/x-1-py3-none-any.whl ; os_name == "posix"',
  ],
])('reads the requirement %s', (line, name, text) => {
  expect(parse(line).requirements).toMatchObject([{ name, text, line: 1 }]);
});

test('joins continued lines, skips comments and empty lines, and keeps line numbers and hashes', () => {
  const { requirements } = parse(
    `\ufeff# all of it\r\n\r\nsix==1.17.0 \\\r\n    --hash=${sha('a')} \\\r\n    --hash=${sha('b')}\r\nnumpy\r\n`,
  );
  expect(requirements).toEqual([
    { name: 'six', text: 'six==1.17.0', hashes: [sha('a'), sha('b')], line: 3 },
    { name: 'numpy', text: 'numpy', hashes: [], line: 6 },
  ]);
});

test.each([
  ['-r other.txt', 'include other files'],
  ['--requirement=other.txt', 'include other files'],
  ['-c limits.txt', 'constraints files'],
  ['-e .', 'editable packages'],
  ['--editable=git+https://host/x', 'editable packages'],
  ['./wheels/x.whl', 'not the name of a package'],
  ['/etc/passwd', 'not the name of a package'],
  ['file:///etc/passwd', 'not the name of a package'],
  ['x @ file:///etc/passwd', 'cannot be fetched'],
  ['git+https://host/x.git', 'in version control'],
  ['x @ git+ssh://git@host/x.git', 'in version control'],
  ['https://host/x.whl', "write the package's name before"],
  ['numpy=1.2', 'is not a requirement'],
  ['numpy 1.2', 'is not a requirement'],
  ['$(reboot)', 'not the name of a package'],
  ['six --global-option=x', '--global-option'],
  ['six --hash=md5:00', 'not a hash'],
  ['--index-url', 'not an option'],
  ['--index-url nowhere', 'takes the address'],
  ['--cache-dir=/tmp', 'not an option'],
  ['--no-binary $x', 'takes package names'],
  [`--extra-index-url https://\${USER}:\${PASSWORD}@host/simple`, 'not filled in'],
])('refuses %s with its line', (line, reason) => {
  expect(() => parse(`numpy\n${line}\n`)).toThrow(
    new RegExp(`^Line 2 of requirements.txt: .*${reason.replaceAll('-', '\\-')}`),
  );
});

test('makes index settings of index lines, and keeps their credentials out of everything else', () => {
  const read = parse(
    [
      '-i https://me:s3cr%40t@host/simple',
      '--extra-index-url "https://other/simple"',
      '-f https://me:s3cret@host/links',
      '--trusted-host host',
      '--pre',
      'a',
    ].join('\n'),
  );
  expect(read.indexes).toEqual({
    indexUrl: 'https://host/simple',
    extraIndexUrls: ['https://other/simple'],
    findLinks: ['https://host/links'],
    trustedHosts: ['host'],
    preReleases: true,
    credentials: [
      { url: 'https://host/simple', username: 'me', password: 's3cr@t' },
      { url: 'https://host/links', username: 'me', password: 's3cret' },
    ],
  });
  expect(read.notices).toHaveLength(3);
  expect(JSON.stringify([read.notices, read.requirements])).not.toMatch(/s3cr/);
});

test('takes the credentials out of the address of a single file', () => {
  const read = parse('x @ https://me:s3cret@host/x-1-py3-none-any.whl');
  expect(read.requirements[0]).toMatchObject({
    text: 'x @ https://host/x-1-py3-none-any.whl',
    url: 'https://host/x-1-py3-none-any.whl',
  });
  expect(read.indexes.credentials).toEqual([
    { url: 'https://host/x-1-py3-none-any.whl', username: 'me', password: 's3cret' },
  ]);
});

test('never repeats a password in an error', () => {
  for (const line of [
    'git+https://me:s3cret@host/x',
    'x @ git+https://me:s3cret@host/x',
    'https://me:s3cret@host/x.whl',
    'x @ ftp://me:s3cret@host/x',
    '--index-url ftp://me:s3cret@host',
  ]) {
    try {
      parse(line);
    } catch (error) {
      expect(String(error)).toMatch(/^ServiceError: Line 1/);
      expect(String(error)).not.toContain('s3cret');
      continue;
    }
    expect.unreachable();
  }
});

test('keeps options about wheels, for resolving and installing', () => {
  expect(parse('--only-binary=:all:\n--no-binary six,numpy\na').options).toEqual([
    '--only-binary :all:',
    '--no-binary six,numpy',
  ]);
});
