// What the tests need of a machine beside Node, Python and git: installs Debian's packages that are missing, where that is
// possible (root on Debian), and otherwise says what is missing.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { isSlurmThere, slurmPackages } from '../test/engines/slurm/packages.ts';

interface Need {
  what: string;
  isThere: () => boolean;
  packages: string[];
  /** Where it cannot be installed, the tests that need it are skipped by name. */
  isOptional?: true;
}

const works = (command: string, ...args: string[]) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

const needs: Need[] = [
  {
    what: 'Python 3 with venv and pip',
    isThere: () => works('python3', '-c', 'import venv, ensurepip'),
    packages: ['python3', 'python3-venv', 'python3-pip'],
  },
  { what: 'openssl', isThere: () => works('openssl', 'version'), packages: ['openssl'] },
  { what: 'git', isThere: () => works('git', '--version'), packages: ['git'] },
  { what: 'unshare (util-linux)', isThere: () => works('unshare', '--version'), packages: ['util-linux'] },
  { what: 'faketime', isThere: () => works('faketime', '--version'), packages: ['faketime'] },
  {
    what: 'certificates',
    isThere: () => existsSync('/etc/ssl/certs/ca-certificates.crt'),
    packages: ['ca-certificates'],
  },
  {
    what: 'libfaketime',
    isThere: () => readdirSync('/usr/lib').some((name) => existsSync(`/usr/lib/${name}/faketime/libfaketime.so.1`)),
    packages: ['libfaketime'],
    isOptional: true,
  },
  {
    what: 'sshd and ip',
    isThere: () => existsSync('/usr/sbin/sshd') && works('ip', '-V'),
    packages: ['openssh-server', 'iproute2'],
    isOptional: true,
  },
  {
    what: 'a Docker Engine and a registry',
    isThere: () =>
      works('dockerd', '--version') &&
      works('iptables', '-V') &&
      works('mmdebstrap', '--version') &&
      works('docker-registry', '--version'),
    packages: ['docker.io', 'iptables', 'mmdebstrap', 'docker-registry'],
    isOptional: true,
  },
  { what: 'tcc', isThere: () => works('tcc', '-v'), packages: ['tcc'], isOptional: true },
  { what: 'Slurm and Open MPI', isThere: isSlurmThere, packages: slurmPackages, isOptional: true },
  { what: 'Java', isThere: () => works('java', '-version'), packages: ['openjdk-17-jre-headless'], isOptional: true },
  { what: 'Maven', isThere: () => works('mvn', '-version'), packages: ['maven'], isOptional: true },
  { what: 'skopeo', isThere: () => works('skopeo', '--version'), packages: ['skopeo'], isOptional: true },
];

export function prepareMachine(): void {
  const missing = needs.filter(({ isThere }) => !isThere());
  if (missing.length === 0) return;
  const names = missing.map(({ what }) => what).join(', ');
  if (process.getuid?.() !== 0 || !works('apt-get', '--version')) {
    if (missing.every(({ isOptional }) => isOptional)) return;
    throw new Error(`This machine lacks ${names}. Install: ${missing.flatMap(({ packages }) => packages).join(' ')}.`);
  }
  process.stdout.write(`Installing what this machine lacks: ${names}.\n`);
  spawnSync('apt-get', ['update', '-q'], { stdio: 'inherit' });
  // At runlevel 1 no package starts its service.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  spawnSync('apt-get', ['install', '-yq', '--no-install-recommends', ...missing.flatMap(({ packages }) => packages)], {
    stdio: 'inherit',
    env,
  });
  const still = needs.filter(({ isThere, isOptional }) => !isOptional && !isThere());
  if (still.length > 0) throw new Error(`This machine still lacks ${still.map(({ what }) => what).join(', ')}.`);
}
