// Makes an installation of an archive: beside its place first, every byte checked, the database looked through; then one rename.
// Invariants: only an empty place is taken; what is cut off, changed, or does not hold together leaves nothing behind; ids stay.
// Nothing restored takes a process of the machine that the backup was made on for its own, also where that is this machine.
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type Migration, migrate } from '../db/migrations.ts';
import { ArchiveRefused, databaseName, type FoundFile, keyName, type Manifest, readArchive } from './archive.ts';
import { verify } from './verify.ts';

export interface RestoreOptions {
  archive: string;
  data: string;
  /** The master key, where the archive has none. */
  key?: string;
}

export async function restore(options: RestoreOptions, migrations: readonly Migration[]): Promise<Manifest> {
  const data = resolve(options.data);
  await requireEmpty(data);
  await mkdir(dirname(data), { recursive: true });
  const beside = await mkdtemp(join(dirname(data), `.${basename(data)}-restoring-`));
  try {
    const manifest = await readArchive(options.archive, (file) => write(beside, file));
    await placeKey(beside, options);
    await migrate(join(beside, databaseName), migrations);
    await requireWhole(beside, options.archive, migrations);
    settle(join(beside, databaseName), manifest.data, data);
    if (existsSync(data)) await rmdir(data);
    await rename(beside, data);
    return manifest;
  } catch (error) {
    await rm(beside, { recursive: true, force: true });
    throw error;
  }
}

async function requireEmpty(data: string): Promise<void> {
  const there = await readdir(data).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (there.length > 0)
    throw new ArchiveRefused(`The folder ${data} is not empty. A backup is restored into an empty one: name another.`);
}

async function write(beside: string, { path, chunks }: FoundFile): Promise<void> {
  const place = join(beside, path);
  await mkdir(dirname(place), { recursive: true, mode: 0o700 });
  await using file = await open(place, 'wx', path.startsWith('blobs/') ? 0o444 : 0o600);
  for await (const chunk of chunks) await file.writeFile(chunk);
  await file.datasync();
}

async function placeKey(beside: string, { archive, key }: RestoreOptions): Promise<void> {
  const place = join(beside, keyName);
  if (existsSync(place)) return;
  if (key === undefined)
    throw new ArchiveRefused(
      `${archive} was made without the master key. Give the file of it with --key: without it the secrets of the installation cannot be read.`,
    );
  await copyFile(key, place);
  await using file = await open(place, 'r+');
  await file.chmod(0o600);
}

/** Every byte was checked while it was written: here it is seen whether all belongs together. */
async function requireWhole(beside: string, archive: string, migrations: readonly Migration[]): Promise<void> {
  const { problems } = await verify({ data: beside, hashes: false }, migrations);
  if (problems.length === 0) return;
  const told = problems.slice(0, 5).map(({ what }) => what);
  throw new ArchiveRefused(`${archive} does not hold a whole installation. ${told.join(' ')}`);
}

/** Runs that were under way and replicas that served did so over there: what is kept of their processes must not fit to any here. */
function settle(file: string, from: string, to: string): void {
  const database = new DatabaseSync(file);
  try {
    database.exec('PRAGMA synchronous = FULL; BEGIN IMMEDIATE');
    for (const [table, key] of [
      ['run_private', 'run_key'],
      ['web_replica', 'id'],
    ]) {
      const set = database.prepare(`UPDATE ${table} SET handle = ? WHERE ${key} = ?`);
      for (const row of database.prepare(`SELECT ${key} AS key, handle FROM ${table} WHERE handle IS NOT NULL`).all())
        set.run(JSON.stringify(elsewhere(JSON.parse(String(row.handle)), from, to)), row.key!);
    }
    // Layers that no image has are not in the archive: they are made again.
    database.exec('DELETE FROM image_layer WHERE digest NOT IN (SELECT digest FROM blob_held)');
    database.exec('COMMIT');
  } finally {
    database.close();
  }
}

/** A handle as it is here: its paths lead into this data folder, and its process belongs to no boot of any machine. */
function elsewhere(value: unknown, from: string, to: string): unknown {
  if (typeof value === 'string') return value.startsWith(from) ? to + value.slice(from.length) : value;
  if (Array.isArray(value)) return value.map((item) => elsewhere(item, from, to));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, name === 'bootId' ? 'another life' : elsewhere(item, from, to)]),
  );
}
