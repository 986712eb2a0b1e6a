// A copy of the database as it is at one moment, while others go on reading and writing: in one step, since a commit between two
// would begin it anew. The file that comes of it is whole and on the disk.
import { open } from 'node:fs/promises';
import { backup, DatabaseSync } from 'node:sqlite';

const allPages = 2 ** 31 - 1;

export async function copyDatabase(from: string, to: string): Promise<void> {
  const source = new DatabaseSync(from, { readOnly: true });
  try {
    await backup(source, to, { rate: allPages });
  } finally {
    source.close();
  }
  await using file = await open(to, 'r+');
  await file.chmod(0o600);
  await file.sync();
}
