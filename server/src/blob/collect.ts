// Frees what nothing refers to, while others write. Invariants: a content goes from its workspace, in one transaction, only if
// nothing refers to it then; its file goes afterwards, and only while nobody brings it anew (`FileBytes.remove`); a file that a
// killed server left without a row is found by walking the store.
import type { Database } from '../db/database.ts';
import type { Digest } from './bytes.ts';
import type { FileBytes } from './files.ts';
import { type Before, blobReadings, blobTransactions, type Held, ownWorkspace } from './store.ts';

export interface Freed {
  count: number;
  sizeBytes: number;
}

export interface CollectNeeds {
  db: Database;
  bytes: FileBytes;
}

export interface Collecting {
  before: Before;
  dryRun: boolean;
  signal: AbortSignal;
  /** Told what was freed, piece by piece. */
  freed(kind: 'contents' | 'layers' | 'orphans', freed: Freed): Promise<void>;
}

const rowsAtOnce = 2_000;
const removedAtOnce = 200;

export async function collectContents({ db, bytes }: CollectNeeds, collecting: Collecting): Promise<void> {
  const { before, dryRun, signal, freed } = collecting;
  let after: Held | undefined;
  do {
    signal.throwIfAborted();
    const part = await db.transact(blobReadings.unreferenced, { after, before, limit: rowsAtOnce });
    for (let at = 0; at < part.all.length; at += removedAtOnce) {
      const some = part.all.slice(at, at + removedAtOnce);
      for (const kind of ['contents', 'layers'] as const) {
        const all = some.filter(({ workspace }) => (workspace === ownWorkspace) === (kind === 'layers'));
        if (all.length === 0) continue;
        const gone = dryRun ? await onlyHere(db, all, before) : await remove(all);
        if (gone.count > 0) await freed(kind, gone);
      }
    }
    after = part.last;
  } while (after);

  async function remove(all: Held[]): Promise<Freed> {
    const release = (free: Digest[]) => {
      const wanted = new Set<Digest>(free);
      return db.transact(blobTransactions.release, { all: all.filter(({ digest }) => wanted.has(digest)), before });
    };
    return sum(await bytes.remove([...new Set(all.map(({ digest }) => digest))], release));
  }
}

/** Of what would be taken from a workspace, what no other one refers to: counted once, where the last of them has it. */
async function onlyHere(db: Database, all: (Held & { sizeBytes: number })[], before: Before): Promise<Freed> {
  const last = await db.transact(blobReadings.lastHolders, { all, before });
  return sum(all.filter((_, at) => last[at]));
}

/** Files of the store that belong to no workspace: of a workspace that was deleted, or from a crash between row and file. */
export async function collectOrphans(
  { db, bytes }: CollectNeeds,
  collecting: Omit<Collecting, 'before'>,
): Promise<void> {
  const unheld = (digests: Digest[]) => db.transact(blobReadings.unheld, { digests });
  for await (const digests of bytes.all()) {
    collecting.signal.throwIfAborted();
    const orphans = await unheld(digests);
    for (let at = 0; at < orphans.length; at += removedAtOnce) {
      const some = orphans.slice(at, at + removedAtOnce);
      const gone = collecting.dryRun ? await sizesOf(bytes, some) : await bytes.remove(some, unheld);
      if (gone.length > 0) await collecting.freed('orphans', sum(gone));
    }
  }
}

async function sizesOf(bytes: FileBytes, digests: Digest[]): Promise<{ sizeBytes: number }[]> {
  return Promise.all(digests.map(async (digest) => ({ sizeBytes: await bytes.sizeOf(digest).catch(() => 0) })));
}

function sum(all: readonly { sizeBytes: number }[]): Freed {
  return { count: all.length, sizeBytes: all.reduce((total, { sizeBytes }) => total + sizeBytes, 0) };
}
