// A later Slurm than this machine's own: that of Debian's next release, as a system of its own below which the cluster's machines are. It keeps no accounts.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { keptFolder, keptPath } from '../kept.ts';
import { installed, whyNoSlurm } from './packages.ts';

const release = 'trixie';
const packages = [
  'slurmctld',
  'slurmd',
  'slurm-client',
  'slurmrestd',
  'slurm-wlm-jwt-plugin',
  'munge',
  'python3-minimal',
  'python3-venv',
  'procps',
  'openssh-server',
  'iproute2',
  'curl',
];
const made = [release, ...packages];
const name = 'slurm-newer';
const answersWithinMs = 20_000;

/** Where this machine has its own packages from. */
function mirror(): string {
  const told = execFileSync('apt-get', ['indextargets', '--format', '$(REPO_URI) $(RELEASE)', 'Identifier: Packages'], {
    encoding: 'utf8',
  });
  const plain = told.split('\n').find((line) => /\/debian\/? [a-z]+$/.test(line));
  if (plain === undefined) throw new Error('no source of Debian packages is configured');
  return plain.split(' ')[0]!.replace(/\/*$/, '/');
}

/** Why this machine cannot have it, or undefined. */
export async function whyNoNewerRelease(): Promise<string | undefined> {
  if (whyNoSlurm || existsSync(join(keptPath(name, made), 'complete'))) return whyNoSlurm;
  try {
    const asked = { method: 'HEAD', signal: AbortSignal.timeout(answersWithinMs) };
    const { ok } = await fetch(`${mirror()}dists/${release}/Release`, asked);
    return ok ? undefined : `needs Debian's release ${release}, which its source of packages does not have`;
  } catch (error) {
    return `needs Debian's release ${release}: ${(error as Error).message}`;
  }
}

/** Made once; the folder is only read. */
export function newerRelease(): string {
  const place = keptFolder(name, made, (folder) => {
    installed(['debootstrap']);
    const root = join(folder, 'root');
    mkdirSync(root);
    const include = `--include=${packages.join(',')}`;
    const done = spawnSync('debootstrap', ['--variant=minbase', include, release, root, mirror()], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
    });
    if (done.status !== 0) throw new Error(`debootstrap failed: ${(done.stderr + done.stdout).slice(-2_000)}`);
  });
  return join(place, 'root');
}
