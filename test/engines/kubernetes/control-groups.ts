// The control groups that a cluster's pods are in: made before the kubelet is started, which wants them, and taken away with the cluster.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const above = '/sys/fs/cgroup';

/** One hierarchy, or one for each controller. */
function hierarchies(): string[] {
  if (existsSync(join(above, 'cgroup.controllers'))) return [above];
  return readdirSync(above, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(above, name));
}

export function makeGroups(name: string): void {
  for (const hierarchy of hierarchies()) {
    const group = join(hierarchy, name);
    mkdirSync(group, { recursive: true });
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (hierarchy.endsWith('cpuset')) writeFileSync(join(group, file), readFileSync(join(hierarchy, file)));
  }
}

export async function removeGroups(name: string): Promise<void> {
  for (const hierarchy of hierarchies()) {
    const group = join(hierarchy, name);
    for (let tries = 0; tries < 100 && existsSync(group); tries++) {
      spawnSync('find', [group, '-depth', '-type', 'd', '-delete'], { stdio: 'ignore' });
      if (existsSync(group)) await pause(100);
    }
  }
}

/** Whatever the version of cgroups is: a process says itself where it is. */
export function processesIn(name: string): string[] {
  const { stdout } = spawnSync('sh', ['-c', `grep -l -F '/${name}/' /proc/[0-9]*/cgroup 2>/dev/null`], {
    encoding: 'utf8',
  });
  return stdout.split('\n').flatMap((line) => line.split('/')[2] ?? []);
}

export function statusOf(pid: number | string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return 'State: Z';
  }
}

export function wordsOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** Within which its id means something. */
export function spaceOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return '';
  }
}
