// A real conda for tests, without conda's own channels: rattler's solver and installer behind micromamba's command line, and a channel of
// packages made here. By hand: `node test/engines/conda/conda.ts up` prints the folder for the PATH and the channel, `down` removes both.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { keptFolder, keptPath, quietly } from '../kept.ts';

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
const version = () => execFileSync(python, ['--version'], { encoding: 'utf8' });
const sources = () => ['micromamba.py', 'channel.py'].map((name) => readFileSync(join(here, name)));
const madeFrom = () => [rattler, version(), ...sources()];

export function condaUp(): Conda {
  const folder = keptFolder('conda', madeFrom(), (place) => {
    quietly(python, '-m', 'venv', join(place, 'venv'));
    const inside = join(place, 'venv', 'bin', 'python');
    quietly(inside, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', rattler);
    quietly(python, '-I', join(here, 'channel.py'), join(place, 'channel'));
    mkdirSync(join(place, 'bin'));
    copyFileSync(join(here, 'micromamba.py'), join(place, 'micromamba.py'));
    const started = `#!/bin/sh\nexec '${inside}' -I '${join(place, 'micromamba.py')}' "$@"\n`;
    writeFileSync(join(place, 'bin', 'micromamba'), started, { mode: 0o755 });
  });
  return { bin: join(folder, 'bin'), channel: `file://${folder}/channel`, python: /3\.\d+/.exec(version())![0] };
}

function condaDown(): void {
  rmSync(keptPath('conda', madeFrom()), { recursive: true, force: true });
}

if (import.meta.main) {
  if (process.argv[2] === 'down') condaDown();
  else console.log(JSON.stringify(condaUp(), undefined, 2));
}
