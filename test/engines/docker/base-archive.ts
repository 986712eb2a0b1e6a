// The root of a small Debian with Python, as an archive that is imported as an image: nothing can be pulled from outside. Made once on a machine,
// since it takes half a minute, and named after what it is made from.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const suite = 'bookworm';
/** With sshd, for machines that are made of it. */
const packages = ['python3', 'python3-venv', 'ca-certificates', 'openssh-server'];

export function baseArchive(): string {
  const above = `/var/tmp/stellwerk-engines-${process.getuid!()}`;
  const name = createHash('sha256')
    .update(JSON.stringify([suite, packages]))
    .digest('hex')
    .slice(0, 12);
  const archive = join(above, `docker-base-${name}.tar`);
  if (existsSync(archive)) return archive;
  mkdirSync(above, { recursive: true, mode: 0o755 });
  const making = `${archive}.${process.pid}.tar`;
  try {
    execFileSync('mmdebstrap', ['--quiet', '--variant=minbase', `--include=${packages.join(',')}`, suite, making], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    renameSync(making, archive);
  } finally {
    rmSync(making, { force: true });
  }
  return archive;
}
