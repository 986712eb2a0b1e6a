// Processes that may have been started by an earlier life of this server: recognised by more than their number, which the
// system gives to others later. Linux only; reads /proc.
import { readdirSync, readFileSync } from 'node:fs';

/** A process for ever: its number, its start in ticks since boot, and which boot. */
export interface ProcessIdentity {
  pid: number;
  startTicks: number;
  bootId: string;
}

export function identify(pid: number): ProcessIdentity | undefined {
  const startTicks = startOf(pid);
  return startTicks === undefined ? undefined : { pid, startTicks, bootId: bootId() };
}

export function isAlive(process: ProcessIdentity): boolean {
  return bootId() === process.bootId && startOf(process.pid) === process.startTicks;
}

/** The processes whose environment holds this variable with this value, as they were started with it. */
export function processesMarked(name: string, value: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => isMarked(pid, name, value));
}

export function isMarked(pid: number, name: string, value: string): boolean {
  return (read(`/proc/${pid}/environ`) ?? '').split('\0').includes(`${name}=${value}`);
}

export function killProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Undefined for a process that is gone, and for one that has ended and only waits to be noticed. */
function startOf(pid: number): number | undefined {
  const stat = read(`/proc/${pid}/stat`);
  // The program's name, in parentheses, may hold spaces and parentheses itself.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields === undefined || fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]);
}

let boot: string | undefined;
function bootId(): string {
  boot ??= read('/proc/sys/kernel/random/boot_id')?.trim() ?? 'unknown';
  return boot;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // gone, or not ours to look into
  }
}
