// Starts a run on this machine, with the same runner as everywhere: the server's own Python package, kept in the cache.
import { existsSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Client } from '@stellwerk/client/client.ts';
import { hashBytes } from '@stellwerk/client/file-hash.ts';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import { run } from '@stellwerk/server/exec/programs.ts';
import { CommandFailed } from './failures.ts';
import { surroundings } from './surroundings.ts';

export interface StartedRunner {
  folder: string;
  pid: number;
  startTime: number;
}

export async function startLocalRun(client: Client, job: Job): Promise<StartedRunner> {
  const wheel = await serverWheel(client);
  const ended = await run({
    command: surroundings.python,
    args: ['-m', 'stellwerk.runner', '--start', '-'],
    env: { ...surroundings.environment(), PYTHONPATH: wheel },
    input: JSON.stringify(job),
    timeoutMs: 60_000,
  }).catch((error: unknown) => {
    throw new CommandFailed(
      `Python could not be started for the run: ${(error as Error).message}`,
      'Install Python 3.8 or newer, or name one with STELLWERK_PYTHON.',
    );
  });
  if (ended.code !== 0)
    throw new CommandFailed(`The runner could not be started: ${ended.stderr.trim().split('\n').at(-1) ?? ''}`);
  return JSON.parse(ended.stdout) as StartedRunner;
}

/** What this machine has, or the container image that a run names: its environment is resolved for that. */
export async function thisMachine(client: Client, image?: string): Promise<EnvironmentTarget> {
  const ended = await run({
    command: surroundings.python,
    args: ['-m', 'stellwerk.runner', '--machine', ...(image === undefined ? [] : ['--image', image])],
    env: { ...surroundings.environment(), PYTHONPATH: await serverWheel(client) },
    timeoutMs: image === undefined ? 60_000 : 30 * 60_000, // it may have to be pulled
  });
  if (ended.code !== 0)
    throw new CommandFailed(ended.stderr.trim().split('\n').at(-1) ?? 'Python could not be started.');
  return JSON.parse(ended.stdout) as EnvironmentTarget;
}

/** The server's Python package on this machine, under its content: runs that are going on keep theirs. */
export async function serverWheel(client: Client): Promise<string> {
  const { wheel } = await client.server.get();
  if (!wheel) throw new CommandFailed('The server offers no Python package.', 'Submit to another target than `local`.');
  const { pathname } = new URL(wheel, `${client.connection.url}/`);
  const ownPath = new URL(client.connection.url).pathname.replace(/\/$/, '');
  const target = pathname.startsWith(`${ownPath}/`) ? pathname.slice(ownPath.length) : pathname;
  const response = await client.connection.send({ method: 'GET', target, repeatable: true });
  const bytes = new Uint8Array(await response.arrayBuffer());
  const folder = join(surroundings.cacheFolder, 'wheels', hashBytes(bytes).slice(7, 23));
  const file = join(folder, basename(pathname));
  if (existsSync(file)) return file;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}`;
  await writeFile(fresh, bytes);
  await rename(fresh, file);
  return file;
}
