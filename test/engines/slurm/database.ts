// The database below Slurm's accounting, made once: making it takes longer than all the rest.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { keptFile } from '../kept.ts';

const setUp = `CREATE DATABASE slurm_acct_db;
CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';
CREATE USER slurm@localhost IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
`;

/** An archive with the database's folder. */
export function databaseArchive(): string {
  const version = execFileSync('/usr/sbin/mariadbd', ['--version'], { encoding: 'utf8' });
  return keptFile('slurm-database.tar', [version, setUp], (archive) => {
    const making = `${archive}.folder`;
    mkdirSync(making);
    try {
      const data = join(making, 'engine-database');
      const said = { stdio: ['pipe', 'ignore', 'ignore'] as ['pipe', 'ignore', 'ignore'] };
      const bare = ['--no-defaults', '--user=root', `--datadir=${data}`];
      execFileSync('mariadb-install-db', [...bare, '--auth-root-authentication-method=normal', '--skip-test-db'], said);
      const bootstrap = [...bare, '--bootstrap', '--skip-grant-tables=0'];
      execFileSync('/usr/sbin/mariadbd', bootstrap, { ...said, input: `FLUSH PRIVILEGES;\n${setUp}` });
      execFileSync('tar', ['-C', making, '-cf', archive, 'engine-database']);
    } finally {
      rmSync(making, { recursive: true, force: true });
    }
  });
}
