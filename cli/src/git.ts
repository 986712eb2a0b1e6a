// The state of the git working tree that a run is submitted from: commit, branch, remote without credentials, and whether it is dirty.
import type { InputOf } from '@stellwerk/contract/verbs.ts';
import { run } from '@stellwerk/server/exec/programs.ts';
import { surroundings } from './surroundings.ts';

type GitState = NonNullable<InputOf<'runs', 'submit'>['git']>;

export async function gitState(folder: string): Promise<GitState | undefined> {
  const git = async (...args: string[]) => {
    const ended = await run({ command: 'git', args, cwd: folder, env: surroundings.environment(), timeoutMs: 10_000 });
    return ended.code === 0 ? ended.stdout.trim() : undefined;
  };
  try {
    const commit = await git('rev-parse', 'HEAD');
    if (!commit) return undefined;
    const [branch, remote, changes] = await Promise.all([
      git('symbolic-ref', '--short', '-q', 'HEAD'),
      git('config', '--get', 'remote.origin.url'),
      git('status', '--porcelain', '--untracked-files=normal', '--', '.'),
    ]);
    return {
      commit,
      dirty: changes !== '',
      ...(branch ? { branch: branch.slice(0, 256) } : {}),
      ...(remote ? { remote: withoutCredentials(remote).slice(0, 2_000) } : {}),
    };
  } catch {
    return undefined; // no git on this machine
  }
}

export function withoutCredentials(remote: string): string {
  return remote.replace(/^([a-z][a-z\d+.-]*:\/\/)[^/@]*@/i, '$1');
}
