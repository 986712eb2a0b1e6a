// Pythons with packages that every user of this machine, and of those that see its disk, can start. Each is made once, and kept outside the checkout.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

export const pythonWithScikitLearn = () => pythonWith('scikit-learn==1.5.*', 'joblib');
export const pythonWithMpi = () => pythonWith('mpi4py==4.1.*');

function pythonWith(...packages: string[]): string {
  const above = `/var/tmp/stellwerk-engines-${process.getuid!()}`;
  const key = createHash('sha256').update(packages.join('\0')).digest('hex').slice(0, 12);
  const folder = join(above, `python-${key}`);
  const python = join(folder, 'bin', 'python');
  if (existsSync(join(folder, 'complete'))) return python;
  mkdirSync(above, { recursive: true, mode: 0o755 });
  rmSync(folder, { recursive: true, force: true });
  const quietly = (command: string, ...args: string[]) =>
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  quietly('/usr/bin/python3', '-m', 'venv', folder);
  quietly(python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...packages);
  quietly('chmod', '-R', 'a+rX', folder);
  quietly('touch', join(folder, 'complete'));
  return python;
}
