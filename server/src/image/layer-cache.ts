// Remembers in the database which layer was made of what, so that only layers whose content changed are made again.

import type { Digest } from '../blob/bytes.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import type { LayerCache } from './kinds/docker/image-layers.ts';
import { imageTransactions } from './store.ts';

export function imageLayerCache(db: Database): LayerCache {
  return {
    get: async (key) => {
      const row = await db.first(sql.selectFrom('image_layer').selectAll().where('key', '=', key));
      return row && { digest: row.digest as Digest, sizeBytes: row.size_bytes };
    },
    put: (key, { digest, sizeBytes }) =>
      db.transact(imageTransactions.putLayer, { key, digest, size_bytes: sizeBytes }),
  };
}
