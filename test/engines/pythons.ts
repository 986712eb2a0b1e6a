// Pythons with packages that every user of this machine, and of those that see its disk, can start.
import { join } from 'node:path';
import { keptFolder, quietly } from './kept.ts';

export const pythonWithScikitLearn = () => pythonWith('scikit-learn==1.5.*', 'joblib');
export const pythonWithMpi = () => pythonWith('mpi4py==4.1.*');

function pythonWith(...packages: string[]): string {
  const pythonIn = (folder: string) => join(folder, 'bin', 'python');
  const folder = keptFolder('python', packages, (place) => {
    quietly('/usr/bin/python3', '-m', 'venv', place);
    quietly(pythonIn(place), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...packages);
  });
  return pythonIn(folder);
}
