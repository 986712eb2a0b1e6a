// For tests of garbage collection: the rooms whose things refer to contents, on one store; a collection at a call; and what must hold.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { CollectionReport } from '@stellwerk/contract/server.ts';
import { verbs } from '@stellwerk/contract/verbs.ts';
import type { Work } from '../activity/activities.ts';
import type { Digest } from '../blob/bytes.ts';
import { sql } from '../db/transactions.ts';
import { Models } from '../model/models.ts';
import { ada, type RunRooms, runRooms, workspace } from '../run/run-rooms.fixture.ts';
import { Snapshots } from '../snapshot/snapshots.ts';
import { type TrashRig, trashRig } from '../trash/trash.fixture.ts';
import { collect } from './collecting.ts';

export interface CollectionRig extends AsyncDisposable {
  rooms: RunRooms;
  bin: TrashRig;
  models: Models;
  snapshots: Snapshots;
  collect(input?: { dryRun?: boolean; graceHours?: number; unusedDays?: number }): Promise<CollectionReport>;
  /** Of all files in the store. */
  stored(): Digest[];
  storedBytes(): number;
  /** What runs, models, images and snapshots refer to, read from their own records and not from the references. */
  referred(): Promise<Set<string>>;
}

export const digestOf = (content: string | Buffer): Digest =>
  `sha256:${createHash('sha256').update(content).digest('hex')}`;

export async function collectionRig(): Promise<CollectionRig> {
  const rooms = await runRooms();
  const { scratch, blobs, bytes, runs, logs, activities, disposal } = rooms;
  const { db, folder } = scratch;
  const bin = trashRig(db, {
    run: () => disposal.runs,
    experiment: () => disposal.experiments,
    model: () => models.discarded,
  });
  const models: Models = new Models({
    stores: { db, bytes, trash: bin.trash },
    now: Date.now,
    sizeOf: (of, digest, caller) => blobs.sizeOf(of, digest, caller),
    filesOf: (...of) => runs.filesOf(...of),
    within: (...of) => runs.within(...of),
  });
  const snapshots = new Snapshots({
    db,
    bytes,
    blobs,
    folder: join(folder, 'uploads'),
    now: Date.now,
    snapshotOf: async () => undefined,
  });
  const collecting = {
    db,
    trash: bin.trash,
    blobs,
    snapshots,
    images: { forgetLayers: async () => {}, referToParts: async () => {} },
    files: { logs, activities, cache: async () => ({ count: 0, sizeBytes: 0 }) },
  };
  // What the fixture of runs pretends to have.
  await db.transact(
    { name: 'snapshot.remove', readOnly: false },
    { workspace, digest: `sha256:${'0'.repeat(64)}`, contents: [], before: '9' },
  );
  const stored = () => {
    const parts = readdirSync(join(folder, 'blobs', 'sha256'));
    return parts.flatMap((part) =>
      readdirSync(join(folder, 'blobs', 'sha256', part)).map((hex): Digest => `sha256:${hex}`),
    );
  };
  return {
    rooms,
    bin,
    models,
    snapshots,
    stored,
    storedBytes: () => stored().reduce((sum, digest) => sum + readFileSync(bytes.path(digest)).length, 0),
    collect: (input = {}) => {
      const checked = verbs.server.collectGarbage.input.parse({ graceHours: 0, unusedDays: 0, ...input });
      return collect(collecting, checked, Date.now() + 1_000, quietWork());
    },
    async referred() {
      const rows = async (table: 'run_file' | 'image') => db.all(sql.selectFrom(table).select('digest'));
      const all = new Set<string>();
      for (const { digest } of [...(await rows('run_file')), ...(await rows('image'))]) if (digest) all.add(digest);
      for (const { files } of await db.all(sql.selectFrom('model_files').select('files')))
        for (const { digest } of JSON.parse(files) as { digest: string }[]) all.add(digest);
      for (const { snapshot } of await db.all(sql.selectFrom('run').select('snapshot').distinct())) {
        if (snapshot === null) continue;
        all.add(snapshot);
        for (const digest of await snapshots.contentsOf(snapshot)) all.add(digest);
      }
      return all;
    },
    [Symbol.asyncDispose]: () => rooms[Symbol.asyncDispose](),
  };
}

function quietWork(): Work {
  const work: Partial<Work> = {
    activity: {} as Work['activity'],
    signal: new AbortController().signal,
    progress: async () => {},
    report: async () => {},
  };
  return work as Work;
}

export async function upload({ rooms }: CollectionRig, content: string, of = workspace): Promise<Digest> {
  const digest = digestOf(content);
  const body = Readable.from([Buffer.from(content)], { objectMode: false });
  await rooms.blobs.append({ workspace: of, digest, offset: 0, sizeBytes: Buffer.byteLength(content) }, ada, body);
  return digest;
}
