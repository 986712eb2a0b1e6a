// What the Spark of the tests is made of, from PyPI and Maven Central.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { keptFolder, quietly } from '../kept.ts';

/** That of the system, which every Unix user may start. */
const python = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';
const requirements = ['pyspark==3.5.*', 'numpy==1.26.*'];

export interface PySpark {
  python: string;
  /** As SPARK_HOME has it. */
  home: string;
}

export function pySpark(): PySpark {
  const version = execFileSync(python, ['--version'], { encoding: 'utf8' });
  const folder = keptFolder('pyspark', [version, ...requirements], (place) => {
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

/** As a class path has them: the jars of Livy's server, or of YARN's daemons. */
export function jarsOf(which: 'livy' | 'yarn'): string {
  const pom = join(import.meta.dirname, which, 'pom.xml');
  const folder = keptFolder(which, [readFileSync(pom)], (place) => {
    copyFileSync(pom, join(place, 'pom.xml'));
    const copy = ['dependency:copy-dependencies', `-DoutputDirectory=${join(place, 'jars')}`];
    quietly('mvn', '--quiet', '--batch-mode', '-f', join(place, 'pom.xml'), ...copy);
  });
  return `${join(folder, 'jars')}/*`;
}
