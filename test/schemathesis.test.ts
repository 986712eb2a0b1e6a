// Schemathesis, which knows how APIs are got wrong, against /openapi.json of a running server with every check it has: as an
// administrator anywhere, and as an administrator and a Reader in a workspace that has something in it. The document and the server must agree.

import { randomInt, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { uploadFile } from '@stellwerk/client/uploads.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { execute, Installation, repository } from './installation.ts';

const version = '4.32.5';
const folder = join(repository, 'test', 'schemathesis');
/** The same for everybody, so that what passed once passes again; `SCHEMATHESIS_SEED=random` looks further. */
const asked = process.env.SCHEMATHESIS_SEED ?? '558939';
const seed = asked === 'random' ? randomInt(1_000_000) : Number(asked);
/** The first ends the sign-in that all others need; the second has no end, so that no answer of it can be checked. Both have tests of their own. */
const without = ['signIns.delete', 'activities.watch'];
let installation: Installation;
let python: string;

/** In a virtual environment that is made once on this machine. */
async function install(): Promise<string> {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const place = join(cache, 'stellwerk', 'tools', `schemathesis-${version}`);
  const made = join(place, 'is-complete');
  const program = join(place, 'bin', 'python');
  if (existsSync(made)) return program;
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  const options = { cwd: place, env: process.env as Record<string, string> };
  for (const [command, ...args] of [
    ['python3', '-m', 'venv', place],
    [program, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `schemathesis==${version}`],
  ] as const) {
    const ended = await execute(command, args, options);
    expect(ended.code, ended.stderr).toBe(0);
  }
  writeFileSync(made, '');
  return program;
}

/** Nothing found, or all that it found. */
async function findings(token: string, workspace: string | undefined, ...args: string[]): Promise<string> {
  const settings = workspace === undefined ? 'anywhere.toml' : 'in-workspace.toml';
  const ended = await execute(
    python,
    [
      ...['-c', 'from schemathesis.cli import schemathesis; schemathesis()'],
      ...['--config-file', join(folder, settings), 'run', `${installation.url}/openapi.json`],
      ...['--checks', 'all', '--workers', '1', '--no-shrink', '--request-timeout', '30', '--seed', String(seed)],
      ...without.flatMap((name) => ['--exclude-operation-id', name]),
      ...['--header', `Authorization: Bearer ${token}`],
      ...args,
    ],
    {
      cwd: installation.folder,
      env: { ...(process.env as Record<string, string>), PYTHONPATH: folder, SCHEMATHESIS_HOOKS: 'hooks' },
    },
  );
  const passed = Number(/generated, (\d+) passed/.exec(ended.stdout)?.[1] ?? 0);
  return ended.code === 0 && passed > 100 ? '' : `seed ${seed}\n${ended.stdout.slice(0, 20_000)}\n${ended.stderr}`;
}

beforeAll(async () => {
  process.stdout.write(`schemathesis: SCHEMATHESIS_SEED=${seed}\n`);
  python = await install();
  installation = await Installation.start();
  const { client, workspace } = installation;
  // What the second configuration names. The run has not ended, so that the workspace cannot be deleted meanwhile.
  await client.runs.start({ workspace, experiment: 'experiment', id: 'run' });
  const { digest } = await uploadFile(client, workspace, Buffer.from('content'));
  await client.models.register({ workspace, name: 'model', files: [{ path: 'file', digest }] });
});
afterAll(() => installation?.[Symbol.asyncDispose]());

/** Of somebody new, and not a sign-in: setting a password ends those. */
async function newUser(administrator: boolean): Promise<{ name: string; token: string }> {
  const name = `user-${randomUUID().slice(0, 8)}`;
  const { signIn } = await installation.client.users.create({ name, administrator });
  const { token } = await installation.clientWith(undefined).signIns.redeem({ code: signIn!.code });
  return { name, token: (await installation.clientWith(token).tokens.create({ name: 'schemathesis' })).token };
}

test('an administrator who asks anything finds that the server does what its document says', async () => {
  expect(await findings((await newUser(true)).token, undefined, '--max-examples', '4')).toBe('');
}, 900_000);

test('so does an administrator in a workspace with something in it', async () => {
  const phases = ['--max-examples', '6', '--phases', 'fuzzing'];
  expect(await findings((await newUser(true)).token, installation.workspace, ...phases)).toBe('');
});

test('so does a Reader', async () => {
  const { client, workspace } = installation;
  const { name, token } = await newUser(false);
  await client.members.set({ workspace, user: name, role: 'reader' });
  expect(await findings(token, workspace, '--max-examples', '3', '--phases', 'fuzzing')).toBe('');
});
