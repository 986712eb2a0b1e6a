// What the kernel says of a process and all that it started.
import { readdirSync, readFileSync } from 'node:fs';

/** Resident memory in MB: the sum over the process and its descendants, what they share counted once for each. */
export function memoryOf(pid: number): number {
  const family = new Set([pid]);
  const parents = new Map(processes().map((of) => [of.pid, of.parent]));
  for (let grown = true; grown; ) {
    const before = family.size;
    for (const [child, parent] of parents) if (family.has(parent)) family.add(child);
    grown = family.size > before;
  }
  return [...family].reduce((sum, member) => sum + residentMb(member), 0);
}

function processes(): { pid: number; parent: number }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), parent: Number(/^PPid:\s*(\d+)/m.exec(statusOf(name))?.[1] ?? 0) }));
}

function residentMb(pid: number): number {
  return Number(/^VmRSS:\s*(\d+) kB/m.exec(statusOf(String(pid)))?.[1] ?? 0) / 1_024;
}

/** Empty if it has ended meanwhile. */
function statusOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return '';
  }
}
