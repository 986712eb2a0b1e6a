// A real conda for tests, without conda's own channels: rattler's solver and installer behind micromamba's command line, and a channel of
// packages made here. By hand: `node test/engines/conda/conda.ts up` prints the folder for the PATH and the channel, `down` removes both.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Conda {
  /** With `micromamba` in it, for the PATH. */
  bin: string;
  channel: string;
  /** The minor of the channel's Python. */
  python: string;
}

const here = import.meta.dirname;
/** That of the system, which every Unix user may start. */
const python = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';
const rattler = 'py-rattler==0.28.0';
/** Not below a home, which other Unix users could not enter. */
const above = `/var/tmp/stellwerk-engines-${process.getuid!()}`;

/** Made once, kept for as long as nothing of it changes. */
export function condaUp(): Conda {
  const version = execFileSync(python, ['--version'], { encoding: 'utf8' });
  const sources = ['micromamba.py', 'channel.py'].map((name) => readFileSync(join(here, name)));
  const key = createHash('sha256')
    .update([rattler, version, ...sources].join('\0'))
    .digest('hex')
    .slice(0, 16);
  const folder = join(above, `conda-${key}`);
  const found = { bin: join(folder, 'bin'), channel: `file://${folder}/channel`, python: /3\.\d+/.exec(version)![0] };
  if (existsSync(join(folder, 'complete'))) return found;
  mkdirSync(above, { recursive: true, mode: 0o755 });
  rmSync(folder, { recursive: true, force: true });
  const quietly = (command: string, ...args: string[]) =>
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  // A virtual environment cannot be moved, so it is made where it stays.
  quietly(python, '-m', 'venv', join(folder, 'venv'));
  const inside = join(folder, 'venv', 'bin', 'python');
  quietly(inside, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', rattler);
  quietly(python, '-I', join(here, 'channel.py'), join(folder, 'channel'));
  mkdirSync(found.bin);
  writeFileSync(join(folder, 'micromamba.py'), sources[0]!);
  writeFileSync(
    join(found.bin, 'micromamba'),
    `#!/bin/sh\nexec '${inside}' -I '${join(folder, 'micromamba.py')}' "$@"\n`,
  );
  chmodSync(join(found.bin, 'micromamba'), 0o755);
  quietly('chmod', '-R', 'a+rX', folder);
  writeFileSync(join(folder, 'complete.new'), '');
  renameSync(join(folder, 'complete.new'), join(folder, 'complete'));
  return found;
}

export function condaDown(): void {
  rmSync(above, { recursive: true, force: true });
}

if (import.meta.main) {
  if (process.argv[2] === 'down') condaDown();
  else console.log(JSON.stringify(condaUp(), undefined, 2));
}
