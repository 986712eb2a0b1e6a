// What the model itself predicts: loaded and asked by the Python of the run's own environment, without any of our code between.
import { execFile } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { StepFailed } from './shell.ts';

const program = `
import json, sys, joblib, numpy
model = joblib.load(sys.argv[1])
print(json.dumps(model.predict(numpy.array(json.loads(sys.argv[2])["data"])).tolist()))
`;

export async function predictionOf(modelFile: string, data: string): Promise<number[]> {
  const { stdout } = await promisify(execFile)(environmentPython(), ['-c', program, modelFile, data]);
  return JSON.parse(stdout) as number[];
}

/** The environment that was used last: a runner marks the one it uses. */
function environmentPython(): string {
  const cache =
    process.env.STELLWERK_CACHE_FOLDER || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stellwerk');
  const folder = join(cache, 'environments');
  const usedAt = (name: string) =>
    statSync(join(folder, name, '.stellwerk.json'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const [last] = readdirSync(folder)
    .filter((name) => usedAt(name) > 0)
    .sort((a, b) => usedAt(b) - usedAt(a));
  if (last === undefined) throw new StepFailed(`No environment was built below ${folder}.`);
  return join(folder, last, 'bin', 'python');
}

/** Floating point survives JSON exactly; another order of additions on another library may change the last digits. */
export function isSame(a: readonly number[], b: readonly number[]): boolean {
  return (
    a.length === b.length && a.length > 0 && a.every((value, at) => Math.abs(value - b[at]!) <= 1e-9 * Math.abs(b[at]!))
  );
}
