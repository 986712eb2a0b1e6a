import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { pathsInUse, removeUnused } from './unused.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-unused-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const before = Date.now() - 1_000;
/** Used long ago, unless told otherwise. */
function make(name: string, used = 0): string {
  const path = join(folder, name);
  mkdirSync(join(path, 'bin'), { recursive: true });
  writeFileSync(join(path, 'bin', 'python'), '#!/bin/sh\nsleep 60\n', { mode: 0o755 });
  writeFileSync(join(path, 'marker'), '{}');
  utimesSync(join(path, 'marker'), used, used);
  return path;
}

test('what was not used for long goes, with its bytes told; what was, what is half made and what runs stays', async () => {
  make('old');
  make('used', Date.now() / 1_000);
  mkdirSync(join(folder, 'half made'));
  const running = make('running');
  const child = spawn(join(running, 'bin', 'python'), []);
  const imported = make('imported');
  const importing = spawn('sleep', ['60'], { env: { ...process.env, PYTHONPATH: `/elsewhere:${imported}` } });
  await Promise.all([once(child, 'spawn'), once(importing, 'spawn')]);
  try {
    const isInUse = await pathsInUse();
    const dry = await removeUnused(folder, 'marker', { before, isInUse, dryRun: true });
    expect(readdirSync(folder)).toHaveLength(5);
    expect(await removeUnused(folder, 'marker', { before, isInUse, dryRun: false })).toEqual(dry);
    expect(dry).toEqual({ count: 1, sizeBytes: '#!/bin/sh\nsleep 60\n'.length + 2 });
    expect(readdirSync(folder).sort()).toEqual(['half made', 'imported', 'running', 'used']);
  } finally {
    child.kill();
    importing.kill();
  }
});

test('files that lie elsewhere too are not counted as freed', async () => {
  linkSync(join(make('one'), 'bin', 'python'), join(folder, 'elsewhere'));
  const freed = await removeUnused(folder, 'marker', { before, isInUse: () => false, dryRun: false });
  expect(freed).toEqual({ count: 1, sizeBytes: 2 });
});
