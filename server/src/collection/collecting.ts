// What a collection does, kind by kind, in pieces: first what lies in the trash for too long goes, then what nothing refers to.
import type { CollectionReport } from '@stellwerk/contract/server.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import type { Activities, Work } from '../activity/activities.ts';
import type { Blobs, Freed } from '../blob/blobs.ts';
import type { Database } from '../db/database.ts';
import { pathsInUse, type Removed, type Unused } from '../exec/unused.ts';
import type { Images } from '../image/images.ts';
import type { Snapshots } from '../snapshot/snapshots.ts';
import type { Logs } from '../telemetry/logs.ts';
import type { Trash } from '../trash/trash.ts';
import { collectionReadings, collectionTransactions } from './store.ts';

export interface Collecting {
  db: Database;
  trash: Pick<Trash, 'entries' | 'remove'>;
  blobs: Pick<Blobs, 'collect'>;
  snapshots: Pick<Snapshots, 'collect'>;
  images: Pick<Images, 'forgetLayers'> & {
    /** So that images of an older version of the server keep what they consist of. */
    referToParts(): Promise<void>;
  };
  files: {
    logs: Pick<Logs, 'sweep'>;
    activities: Pick<Activities, 'sweepLogs'>;
    /** Environments, layers and unpacked images in the cache folder. */
    cache(unused: Unused): Promise<Removed>;
  };
}

type Kind = Exclude<keyof CollectionReport, 'trash' | 'freedBytes'>;
const kinds: Kind[] = ['contents', 'snapshots', 'layers', 'orphans', 'uploads', 'logs', 'cache', 'database'];
const hourMs = 3_600_000;
const pagesAtOnce = 100;

export async function collect(
  { db, trash, blobs, snapshots, images, files }: Collecting,
  { dryRun, graceHours, unusedDays }: CheckedOf<'server', 'collectGarbage'>,
  now: number,
  work: Work,
): Promise<CollectionReport> {
  const { signal } = work;
  const report = reportFrom(dryRun ? undefined : work.activity.report);
  const freed = async (kind: Kind, { count, sizeBytes }: Freed) => {
    report[kind] = { count: report[kind].count + count, sizeBytes: report[kind].sizeBytes + sizeBytes };
    report.freedBytes += sizeBytes;
    await work.report(report);
  };
  const graceAt = now - graceHours * hourMs;
  const unusedAt = now - unusedDays * 24 * hourMs;

  await work.progress('Looking through the trash.');
  for (let after = 0; ; ) {
    const entries = await trash.entries({ due: true }, after);
    for (const entry of entries) if (dryRun || (await trash.remove(entry, signal))) report.trash.count++;
    if (entries.length < 1_000) break;
    after = entries.at(-1)!.id;
  }

  await work.progress('Looking for contents that nothing refers to.');
  await images.referToParts();
  const unannounced = await snapshots.collect(timeOf(graceAt), dryRun, signal);
  await freed('snapshots', { count: unannounced, sizeBytes: 0 });
  const before = { contents: timeOf(graceAt), own: timeOf(unusedAt) };
  await freed('uploads', await blobs.collect({ before, dryRun, signal, freed }, graceAt));
  if (!dryRun) await images.forgetLayers();

  await work.progress('Looking for logs and caches that nobody uses.');
  await freed('logs', await files.logs.sweep(dryRun));
  await freed('logs', await files.activities.sweepLogs(dryRun));
  signal.throwIfAborted();
  await freed('cache', await files.cache({ before: unusedAt, isInUse: await pathsInUse(), dryRun }));

  await work.progress('Giving free pages of the database back.');
  const { pages, pageBytes } = await db.transact(collectionReadings.freePages, undefined);
  for (let done = 0; done < pages; done += pagesAtOnce) {
    signal.throwIfAborted();
    const some = Math.min(pagesAtOnce, pages - done);
    if (!dryRun) await db.transact(collectionTransactions.shrink, { pages: some });
    await freed('database', { count: some, sizeBytes: some * pageBytes });
  }
  await work.report(report);
  return report;
}

function reportFrom(before: object | undefined): CollectionReport {
  const nothing = Object.fromEntries(kinds.map((kind) => [kind, { count: 0, sizeBytes: 0 }]));
  return { ...nothing, trash: { count: 0 }, freedBytes: 0, ...before } as CollectionReport;
}

const timeOf = (ms: number) => new Date(ms).toISOString();
