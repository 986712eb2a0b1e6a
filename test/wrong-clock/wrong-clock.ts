// A machine whose clock is wrong: a library that is compiled once, and what a process needs in its environment to be told another time by it.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { keptFile, quietly } from '../engines/kept.ts';

const source = join(import.meta.dirname, 'off-by.c');
const has = (command: string) => spawnSync(command, ['-v'], { stdio: 'ignore' }).error === undefined;
export const whyNoWrongClock = process.platform === 'linux' && has('tcc') ? '' : 'needs Linux and tcc';

export const clockLibrary = (): string =>
  keptFile('clock.so', [readFileSync(source)], (place) => quietly('tcc', '-shared', '-nostdlib', '-o', place, source));

/** Where the library is as it is named. */
export const clockOffBy = (hours: number, library = clockLibrary()): Record<string, string> => ({
  LD_PRELOAD: library,
  OFF_BY_SECONDS: String(hours * 3_600),
});
