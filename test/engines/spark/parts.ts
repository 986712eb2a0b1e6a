// What the Spark of the tests is made of, from PyPI and Maven Central: made once, outside the checkout, where every user of this machine and
// of those that see its disk can read it, and kept for as long as nothing changes that it is made from.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

/** That of the system, which every Unix user may start. */
const python = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';
const requirements = ['pyspark==3.5.*', 'numpy==1.26.*'];
const pom = join(import.meta.dirname, 'livy', 'pom.xml');
const above = `/var/tmp/stellwerk-engines-${process.getuid!()}`;

export interface PySpark {
  python: string;
  /** As SPARK_HOME has it. */
  home: string;
}

export function pySpark(): PySpark {
  const version = execFileSync(python, ['--version'], { encoding: 'utf8' });
  const folder = made('pyspark', [version, ...requirements], (place) => {
    quietly(python, '-m', 'venv', place);
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'setuptools<80', 'wheel'];
    quietly(join(place, 'bin', 'python'), ...install);
    quietly(join(place, 'bin', 'python'), ...install.slice(0, 5), '--no-build-isolation', ...requirements);
  });
  const library = join(folder, 'lib');
  return {
    python: join(folder, 'bin', 'python'),
    home: join(library, readdirSync(library)[0]!, 'site-packages', 'pyspark'),
  };
}

/** The folder with the jars of Livy's server. */
export function livyJars(): string {
  return made('livy', [readFileSync(pom)], (place) => {
    mkdirSync(place);
    copyFileSync(pom, join(place, 'pom.xml'));
    const copy = ['dependency:copy-dependencies', `-DoutputDirectory=${join(place, 'jars')}`];
    quietly('mvn', '--quiet', '--batch-mode', '-f', join(place, 'pom.xml'), ...copy);
  });
}

function made(name: string, from: (string | Buffer)[], make: (place: string) => void): string {
  const key = createHash('sha256').update(from.join('\0')).digest('hex').slice(0, 16);
  const folder = join(above, `${name}-${key}`);
  if (existsSync(join(folder, 'complete'))) return folder;
  mkdirSync(above, { recursive: true, mode: 0o755 });
  rmSync(folder, { recursive: true, force: true });
  make(folder); // a virtual environment cannot be moved, so it is made where it stays
  quietly('chmod', '-R', 'a+rX', folder);
  writeFileSync(join(folder, 'complete.new'), '');
  renameSync(join(folder, 'complete.new'), join(folder, 'complete'));
  return folder;
}

function quietly(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}
