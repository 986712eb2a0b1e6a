// Starts what is measured in Python, beside this process, and reads the JSON that it prints.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** What the last line of a program in this folder says. */
export async function answerOf<T>(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
  python = 'python3',
): Promise<T> {
  const { stdout } = await promisify(execFile)(python, [join(import.meta.dirname, program), ...args], { env });
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as T;
}
