// A machine whose clock is wrong: a library that is compiled once, and what a process needs in its environment to be told another time by it.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';

const source = join(import.meta.dirname, 'off-by.c');
const has = (command: string) => spawnSync(command, ['-v'], { stdio: 'ignore' }).error === undefined;
export const whyNoWrongClock = process.platform === 'linux' && has('tcc') ? '' : 'needs Linux and tcc';

export function clockLibrary(): string {
  const above = `/var/tmp/stellwerk-engines-${process.getuid!()}`;
  const key = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 12);
  const library = join(above, `clock-${key}.so`);
  if (existsSync(library)) return library;
  mkdirSync(above, { recursive: true, mode: 0o755 });
  const making = `${library}.${process.pid}`;
  execFileSync('tcc', ['-shared', '-nostdlib', '-o', making, source]);
  renameSync(making, library);
  return library;
}

/** Where the library is as it is named. */
export const clockOffBy = (hours: number, library = clockLibrary()): Record<string, string> => ({
  LD_PRELOAD: library,
  OFF_BY_SECONDS: String(hours * 3_600),
});
