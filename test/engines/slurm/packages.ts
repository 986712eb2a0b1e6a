// What the cluster is made of: packages of Debian, installed at first use where that is possible.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

export const slurmPackages = [
  'slurm-wlm',
  'slurmrestd',
  'slurmdbd',
  'slurm-wlm-jwt-plugin',
  'slurm-wlm-mysql-plugin',
  'munge',
  'mariadb-server',
  'openmpi-bin',
  'libpmix-dev', // Slurm's plugin opens the library by the name that only this package has
  'openssh-server',
  'iproute2',
];

const programs = ['slurmctld', 'slurmd', 'slurmrestd', 'slurmdbd', 'munged', 'mariadbd', 'sshd'];

export function isSlurmThere(): boolean {
  return programs.every((name) => existsSync(`/usr/sbin/${name}`)) && existsSync('/usr/bin/mpirun');
}

/** Why this machine cannot have a cluster, or undefined. */
export const whyNoSlurm: string | undefined =
  process.getuid?.() !== 0
    ? 'needs root'
    : !isSlurmThere() && !existsSync('/usr/bin/apt-get')
      ? `needs Debian's packages ${slurmPackages.join(', ')}`
      : undefined;

export function installSlurm(): void {
  if (!isSlurmThere()) installed(slurmPackages);
}

export function installed(packages: readonly string[]): void {
  // At runlevel 1 no package starts its service.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  for (const words of [
    ['update', '-q'],
    ['install', '-yq', '--no-install-recommends', ...packages],
  ]) {
    const done = spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...words], { env, encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`apt-get ${words[0]} failed: ${done.stderr}`);
  }
}
