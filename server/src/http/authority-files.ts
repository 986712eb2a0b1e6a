// Where an authority of this installation's own, and what it makes, lie in the data folder.
import { join } from 'node:path';

export function authorityFiles(data: string) {
  const folder = join(data, 'authority');
  return {
    folder,
    authority: join(folder, 'authority.pem'),
    authorityKey: join(folder, 'authority-key.pem'),
    certificate: join(folder, 'server.pem'),
    key: join(folder, 'server-key.pem'),
  };
}
