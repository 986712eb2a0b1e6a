// The database below Slurm's accounting, made once and kept outside the checkout: making it takes longer than all the rest.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const setUp = `CREATE DATABASE slurm_acct_db;
CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';
CREATE USER slurm@localhost IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
`;

/** An archive with the database's folder. */
export function databaseArchive(): string {
  const version = execFileSync('/usr/sbin/mariadbd', ['--version'], { encoding: 'utf8' });
  const key = createHash('sha256').update(version).update(setUp).digest('hex').slice(0, 16);
  const above = `/var/tmp/stellwerk-engines-${process.getuid!()}`;
  const archive = join(above, `slurm-database-${key}.tar`);
  if (existsSync(archive)) return archive;
  const making = join(above, `slurm-database-${process.pid}`);
  mkdirSync(making, { recursive: true });
  try {
    const data = join(making, 'engine-database');
    const said = { stdio: ['pipe', 'ignore', 'ignore'] as ['pipe', 'ignore', 'ignore'] };
    execFileSync(
      'mariadb-install-db',
      [
        '--no-defaults',
        '--user=root',
        `--datadir=${data}`,
        '--auth-root-authentication-method=normal',
        '--skip-test-db',
      ],
      said,
    );
    const bootstrap = ['--no-defaults', '--user=root', `--datadir=${data}`, '--bootstrap', '--skip-grant-tables=0'];
    execFileSync('/usr/sbin/mariadbd', bootstrap, { ...said, input: `FLUSH PRIVILEGES;\n${setUp}` });
    execFileSync('tar', ['-C', making, '-cf', `${archive}.${process.pid}`, 'engine-database']);
    execFileSync('mv', [`${archive}.${process.pid}`, archive]);
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
  return archive;
}
