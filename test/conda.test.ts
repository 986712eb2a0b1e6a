// Item 7, with a conda: its packages are solved and installed by it, once for all runs, and the lock says which they were.
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Conda, condaUp } from './engines/conda/conda.ts';
import { Installation } from './installation.ts';
import { runOf, submit } from './submission.ts';
import { untilEnded } from './waiting.ts';

const isRoot = process.getuid?.() === 0;
let conda: Conda;
let installation: Installation;
const withConda = (options: string[] = []) => Installation.start(options, { PATH: `${conda.bin}:${process.env.PATH}` });

beforeAll(async () => {
  conda = condaUp();
  installation = await withConda();
});
afterAll(() => installation?.[Symbol.asyncDispose]());

const condaFile = (...packages: string[]) =>
  `channels: [${conda.channel}]\ndependencies: [python=${conda.python}, ${packages.join(', ')}, {pip: [six==1.16.0]}]\n`;

/** Says what it runs on. */
const code = `
import os, sys
import railway, signals, six
print(signals.version, six.__version__, sys.prefix)
print(open(os.path.join(sys.prefix, "lib", "libpoints.txt")).read(), os.path.exists(os.path.join(sys.prefix, "linked-by")))
`;

const runWith = (where: Installation, packages: string[]) =>
  runOf(where, { environment: { condaFile: 'e.yml' }, files: { 'e.yml': condaFile(...packages) }, code });

test('conda packages are solved and installed by conda, with what they depend on, and those of pip beside them', async () => {
  const first = await runWith(installation, ['railway', 'libpoints>=3']);
  expect(first.state, first.lastLines?.join('\n') ?? first.reason).toBe('completed');
  const [versions, points] = first.printed.split('\n');
  expect(versions).toMatch(/^1\.0 1\.16\.0 \//); // railway needs signals before 2
  expect(points).toBe('points True');
  expect(first.environment?.python).toMatch(new RegExp(`^${conda.python.replace('.', '\\.')}\\.`));
  expect(first.environment?.notices?.join()).not.toContain('come from PyPI');

  const again = await runWith(installation, ['railway', 'libpoints>=3']);
  expect(again.printed).toBe(first.printed);
  expect(again.environment).toEqual(first.environment);
});

test('the lock names what conda installed, with checksums, and another server makes the same of it', async () => {
  const first = await runWith(installation, ['railway', 'libpoints>=3']);
  const { lock, lockHash } = first.environment!;
  const lines = lock!.trimEnd().split('\n');
  expect(lines[0]).toBe('@EXPLICIT');
  expect(lines.slice(1, 5).map((line) => /\/(\w+)-[\d.]+-0\.tar\.bz2#[0-9a-f]{32}$/.exec(line)?.[1])).toEqual([
    'libpoints',
    'python',
    'railway',
    'signals',
  ]);
  expect(lines[5]).toMatch(/^six==1\.16\.0 --hash=sha256:/);
  await using other = await withConda();
  const same = await runOf(other, { environment: { lockFile: 'our.lock' }, files: { 'our.lock': lock! }, code });
  expect(same.state, same.reason).toBe('completed');
  expect(same.printed).toContain('1.0 1.16.0 ');
  expect(same.environment).toMatchObject({ lock, lockHash });

  const changed = lock!.replace(/(signals-1\.0-0\.tar\.bz2#)[0-9a-f]{4}/, '$10000');
  const refused = await runOf(other, { environment: { lockFile: 'l' }, files: { l: changed }, code });
  expect(refused).toMatchObject({ state: 'failed', reason: expect.stringMatching(/Checksum of signals/) });
});

test('a lock with conda packages is refused where there is no conda', async () => {
  const { environment } = await runWith(installation, ['railway', 'libpoints>=3']);
  await using bare = await Installation.start();
  const refused = await runOf(bare, { environment: { lockFile: 'l' }, files: { l: environment!.lock! }, code });
  expect(refused).toMatchObject({
    state: 'failed',
    reason: expect.stringMatching(/no conda, mamba or micromamba.*4 packages of conda/),
  });
});

test('what conda cannot solve fails the run, and the reason names the packages', async () => {
  const conflict = await runWith(installation, ['railway', 'signals=2']);
  expect(conflict.state).toBe('failed');
  expect(conflict.reason).toMatch(/install the conda packages of the environment.*railway.*signals/s);
  const missing = await runWith(installation, ['semaphore=7']);
  expect(missing).toMatchObject({ state: 'failed', reason: expect.stringContaining('semaphore') });
});

describe.skipIf(!isRoot)('under other Unix ids (needs root to make a Unix user)', () => {
  const user = `stellwerk-conda-${process.pid}`;
  afterAll(() => execFileSync('userdel', [user], { stdio: 'ignore' }));

  test('a conda environment is made once, for runs at the same time and for later ones, none of which can change it', async () => {
    execFileSync('useradd', ['--system', '--no-create-home', '--add-subids-for-system', user], { stdio: 'ignore' });
    await using others = await withConda(['--listen', '0.0.0.0']);
    const { client, workspace } = others;
    chmodSync(others.folder, 0o711);
    await client.compute.attach({ workspace, name: 'host', settings: { kind: 'host', user, maxConcurrentRuns: 2 } });
    const changing = `${code}
def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
prefix = sys.prefix
owners = {os.lstat(os.path.join(above, name)).st_uid for above, folders, files in os.walk(prefix) for name in folders + files}
print(owners, os.getuid() in owners, open(os.path.join(prefix, "linked-by")).read().strip() not in ("0", ""))
print([attempt(what) for what in (
    lambda: open(railway.__file__, "a"),
    lambda: open(os.path.join(os.path.dirname(railway.__file__), "sitecustomize.py"), "w"),
    lambda: os.unlink(os.path.join(prefix, "bin", "python")),
    lambda: os.rename(prefix, prefix + "-gone"),
    lambda: os.chmod(prefix, 0o777),
)])`;
    const submission = {
      environment: { condaFile: 'e.yml' },
      files: { 'e.yml': condaFile('railway', 'libpoints') },
      code: changing,
    };
    const ended = async ({ id }: { id: string }) => {
      const run = await untilEnded({ client, workspace, run: id });
      expect(run, run.reason).toMatchObject({ state: 'completed' });
      return (await client.logs.get({ workspace, run: id })).text();
    };
    const builds = async ({ id }: { id: string }) => {
      const { items } = await client.activities.list({ workspace, subject: id });
      const log = await (await client.activities.getLog({ workspace, activity: items[0]!.id })).text();
      return log.match(/The environment was built/g)?.length ?? 0;
    };
    const atOnce = [await submit(others, submission), await submit(others, submission)];
    const printed = [await ended(atOnce[0]!), await ended(atOnce[1]!)];
    const later = await submit(others, submission);
    printed.push(await ended(later));
    const numbers = await Promise.all([...atOnce, later].map(builds));
    expect([...numbers.slice(0, 2).sort(), numbers[2]]).toEqual([0, 1, 0]);
    expect(new Set(printed).size).toBe(1);
    expect(printed[0]!.trim().split('\n').slice(2)).toEqual([
      '{0} False True',
      `[${new Array(5).fill("'PermissionError'").join(', ')}]`,
    ]);
  });
});
