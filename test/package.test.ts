// The published package: packed, installed in an empty folder, and walked with on Node 24 and 26; an older Node is told what it lacks.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';

const run = promisify(execFile);
const repository = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'package story ü '));
const command = join(folder, 'node_modules', '.bin', 'stellwerk');
const environment = { ...process.env, XDG_CONFIG_HOME: join(folder, 'config'), STELLWERK_URL: '', STELLWERK_TOKEN: '' };

/** A Node of another line, from npm, kept beside the packages. */
async function nodeOf(line: number): Promise<string> {
  const name = `node-${process.platform}-${process.arch}`;
  const kept = join(repository, 'node_modules', '.cache', 'stellwerk-nodes', String(line));
  const file = join(kept, 'node_modules', name, 'bin', 'node');
  if (existsSync(file)) return file;
  mkdirSync(kept, { recursive: true });
  writeFileSync(join(kept, 'package.json'), '{"private": true}');
  await run('npm', ['install', '--no-audit', '--no-fund', '--no-save', `${name}@${line}`], { cwd: kept });
  return file;
}

beforeAll(async () => {
  const packed = await run(process.execPath, [join(repository, 'tools', 'pack.ts')]);
  writeFileSync(join(folder, 'package.json'), '{"private": true}');
  await run('npm', ['install', '--no-audit', '--no-fund', packed.stdout.trim()], { cwd: folder });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each([24, 26])('the package serves and runs a script on Node %i', async (line) => {
  const node = await nodeOf(line);
  const work = join(folder, `work on ${line}`);
  mkdirSync(work);
  writeFileSync(join(work, 'train.py'), "print('trained')\n");
  const typed = (...args: string[]) => run(node, [command, ...args], { cwd: work, env: environment });
  const server = spawn(node, [command, 'up', '--data', join(work, 'data'), '--port', '0', '--json'], {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(server, 'exit');
  let warnings = '';
  server.stderr.setEncoding('utf8').on('data', (text: string) => {
    warnings += text;
  });
  try {
    const [printed] = (await Promise.race([
      once(createInterface({ input: server.stdout }), 'line'),
      ended.then(() => Promise.reject(new Error(`the server ended: ${warnings}`))),
    ])) as [string];
    await typed('login', JSON.parse(printed).signIn);
    await typed('init', 'team', '--create');
    for (const target of ['local', 'host']) {
      const submit = ['run', 'submit', '.', '--script', 'train.py', '--environment.user-managed', '--follow'];
      const { stdout } = await typed(...submit, '--target', target);
      expect(stdout).toBe('trained\n');
    }
  } finally {
    server.kill('SIGTERM');
  }
  expect(await ended).toEqual([0, null]);
  expect(warnings).toBe('');
});

it('an older Node is told which one is needed', async () => {
  const failed = await run(await nodeOf(18), [command, 'up']).catch((error: { code: number; stderr: string }) => error);
  expect(failed).toMatchObject({ code: 1 });
  expect(failed.stderr).toMatch(
    /^Stellwerk needs Node 24 or newer, and this is Node 18\.\d+\.\d+\.\nInstall a newer Node/,
  );
});
