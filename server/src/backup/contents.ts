// Which contents a database says there are.
import type { DatabaseSync } from 'node:sqlite';

export interface HeldContent {
  digest: string;
  sizeBytes: number;
}

const atOnce = 1_000;

/** In the order of their digests, by pages: a long walk holds up nobody. */
export function* contentsOf(database: DatabaseSync): Generator<HeldContent> {
  const next = database.prepare(
    'SELECT digest, max(size_bytes) AS sizeBytes FROM blob_held WHERE digest > ? GROUP BY digest ORDER BY digest LIMIT ?',
  );
  for (let after = ''; ; ) {
    const page = next.all(after, atOnce) as unknown as HeldContent[];
    yield* page;
    if (page.length < atOnce) return;
    after = page.at(-1)!.digest;
  }
}
