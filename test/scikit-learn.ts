// Packages that the examples train with, for stories on machines and in images.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** Python with scikit-learn, and the folder of its packages, which a Python of the same minor can use elsewhere. Made once. */
export function scikitLearn(): { python: string; packages: string } {
  const above = `/var/tmp/stellwerk-engines-${process.getuid!()}`;
  const folder = join(above, 'scikit-learn-3.11');
  const [python, packages] = [join(folder, 'bin', 'python'), join(folder, 'lib', 'python3.11', 'site-packages')];
  if (existsSync(join(folder, 'complete'))) return { python, packages };
  mkdirSync(above, { recursive: true, mode: 0o755 });
  rmSync(folder, { recursive: true, force: true });
  const quietly = (command: string, ...args: string[]) =>
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  quietly('/usr/bin/python3.11', '-m', 'venv', folder);
  quietly(python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'scikit-learn==1.5.*', 'joblib');
  quietly('chmod', '-R', 'a+rX', folder);
  quietly('touch', join(folder, 'complete'));
  return { python, packages };
}
