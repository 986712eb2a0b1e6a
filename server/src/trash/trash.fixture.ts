// For tests of rooms whose things go into the trash: it, on a clock that the test sets, and what empties it.
import { randomUUID } from 'node:crypto';
import type { TrashEntry, TrashKind } from '@stellwerk/contract/trash.ts';
import type { Database } from '../db/database.ts';
import { type Discarded, Trash } from './trash.ts';

export interface TrashRig {
  trash: Trash;
  /** Sets the clock so many days later than it is. */
  days(later: number): void;
  /** Removes an entry for good, as the activity does. */
  remove(entry: TrashEntry): Promise<boolean>;
}

const none: Discarded = { restore: async () => {}, remove: async () => {} };

/** `kinds`: what the rooms of the test have; the others have nothing to do. */
export function trashRig(db: Database, kinds: Partial<Record<TrashKind, () => Discarded>>, keepDays = 7): TrashRig {
  let later = 0;
  const kind = (name: TrashKind): Discarded => ({
    restore: (entry) => (kinds[name]?.() ?? none).restore(entry),
    remove: (...of) => (kinds[name]?.() ?? none).remove(...of),
  });
  const trash = new Trash({
    db,
    now: () => Date.now() + later,
    newId: randomUUID,
    keepMs: keepDays * 86_400_000,
    kinds: { run: kind('run'), experiment: kind('experiment'), model: kind('model') },
  });
  return {
    trash,
    days: (days) => {
      later = days * 86_400_000;
    },
    remove: async ({ id }) => {
      const [row] = await trash.entries({ entry: id });
      return row !== undefined && (await trash.remove(row, new AbortController().signal));
    },
  };
}
