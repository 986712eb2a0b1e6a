import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { listSnapshot } from './snapshot-listing.ts';

const sources = join(import.meta.dirname, '..', '..', 'python', 'src');

function withFolder(
  files: Record<string, string>,
  look: (folder: string) => Promise<void> | void,
): Promise<void> | void {
  const folder = mkdtempSync(join(tmpdir(), 'parity ü '));
  const clean = () => rmSync(folder, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  return Promise.resolve(look(folder)).finally(clean);
}

it('the Python SDK lists the same folder with the same digest', async () => {
  const files = {
    'train me.py': 'print("ä")\r\n',
    'ü/𝄞.txt': '',
    'ü/z': '1',
    'line\r\nbreak\t\u001b[31m\u0085 ü/a\nb\r.txt': 'x',
    'kept/a\nb.log': 'left out',
    'logs/a.log': 'x',
    'logs/keep.log': 'y',
    'deep/er/x.tmp': '1',
    '.gitignore': '*.log\r\n!keep.log\n/deep/**/*.tmp\n',
    '__pycache__/x.pyc': '1',
    '.git/config': '1',
  };
  await withFolder(files, async (folder) => {
    chmodSync(join(folder, 'train me.py'), 0o755);
    const program = 'import sys; from stellwerk._snapshots import snapshot_of; print(snapshot_of(sys.argv[1]).digest)';
    const cache = join(folder, '.stellwerk');
    const environment = { ...process.env, PYTHONPATH: sources, XDG_CACHE_HOME: cache, PYTHONDONTWRITEBYTECODE: '1' };
    const python = execFileSync('python3', ['-c', program, folder], { env: environment, encoding: 'utf8' }).trim();
    const { digest, files: listed } = await listSnapshot(folder, { cacheFolder: cache });
    expect(listed).toHaveLength(6);
    expect(digest).toBe(python);
  });
});

it('leaves out what git itself would leave out', async () => {
  const paths = [
    'a.log',
    'b.txt',
    'd/a.log',
    'd/e/a.log',
    'd/e/b.txt',
    'd/#x',
    'd/!y',
    'f/g/h.c',
    'f/build/x',
    'build/x',
    'a b',
  ];
  const pattern = fc.constantFrom(
    ...[
      '*.log',
      '!a.log',
      'd/',
      '/d',
      'd/*',
      '!d/e',
      '!d/e/',
      '**/b.txt',
      'd/**',
      'f/**/h.c',
      'build',
      '/build/',
      'build/*',
      '!build/x',
    ],
    ...[
      '\\#x',
      '\\!y',
      '# comment',
      '',
      '*',
      '!*/',
      '!*.txt',
      'a\\ b',
      'a b ',
      '[ab].*',
      '?.txt',
      '/f/*/x',
      'e/',
      '**/e',
    ],
  );
  const piece = fc.constantFrom(
    ...[
      'a',
      'b',
      '*',
      '?',
      '*.log',
      '[ab]',
      '[!a]',
      '[^b]*',
      'f*',
      '\\#x',
      '\\*',
      '[[:alpha:]]',
      '[[:punct:]]?',
      '[x',
      '[z-a]',
      '[a-f]',
      'd',
      'e',
    ],
  );
  const segment = fc.oneof(
    fc.constant('**'),
    fc.array(piece, { minLength: 1, maxLength: 2 }).map((pieces) => pieces.join('')),
  );
  const made = fc
    .tuple(
      fc.constantFrom('', '!', '/'),
      fc.array(segment, { minLength: 1, maxLength: 3 }),
      fc.constantFrom('', '/', '  ', '/**', '\r'),
    )
    .map(([before, segments, after]) => before + segments.join('/') + after);
  const ignoreFile = fc.array(fc.oneof(pattern, made), { maxLength: 5 }).map((lines) => lines.join('\n'));
  await fc.assert(
    fc.asyncProperty(ignoreFile, ignoreFile, async (top, below) => {
      const contents = Object.fromEntries(paths.map((path) => [path, path]));
      await withFolder({ ...contents, '.gitignore': top, 'd/.gitignore': below }, async (folder) => {
        execFileSync('git', ['init', '-q', folder]);
        const listing = ['-C', folder, '-c', 'core.excludesFile=', 'ls-files', '-coz', '--exclude-standard'];
        const git = execFileSync('git', listing, { encoding: 'utf8' }).split('\0').filter(Boolean).sort();
        const { files } = await listSnapshot(folder, { cacheFolder: join(folder, '.git', 'cache') });
        expect(files.map(({ path }) => path).sort()).toEqual(git);
      });
    }),
    { numRuns: 100, examples: [['/**\n![a-f]', '']] },
  );
});
