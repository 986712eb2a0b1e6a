// What runs on this machine, by what stands in the environment or the command line of each process.
import { readdirSync, readFileSync } from 'node:fs';

/** The ids of living processes that have the text in their environment or command line. */
export function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter(
      (pid) => pid !== process.pid && isAlive(pid) && (read(pid, 'environ') + read(pid, 'cmdline')).includes(text),
    );
}

export function isAlive(pid: number): boolean {
  const state = /\) (\S)/.exec(read(pid, 'stat'))?.[1];
  return state !== undefined && state !== 'Z' && state !== 'X';
}

function read(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return ''; // it has ended
  }
}
