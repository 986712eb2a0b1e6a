import { createHash, randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { appendFile, open, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Blobs } from '../blob/blobs.ts';
import { FileBytes } from '../blob/files.ts';
import { type ScratchDatabase, scratchDatabase } from '../db/scratch-database.ts';
import { rawTar } from '../oci/hostile-tar.ts';
import { ada, runRooms, workspace } from '../run/run-rooms.fixture.ts';
import { migrations } from '../stores.ts';
import { logFile } from '../telemetry/logs.ts';
import { Vault } from '../vault/vault.ts';
import { Backups, restore, verify } from './backups.ts';

let scratch: ScratchDatabase;
let blobs: Blobs;
let bytes: FileBytes;
let backups: Backups;
let place = 0;
const contents = Array.from({ length: 30 }, (_, n) => randomBytes(n * 997));

beforeAll(async () => {
  scratch = await scratchDatabase(migrations);
  const { folder, db } = scratch;
  bytes = new FileBytes(join(folder, 'blobs'));
  blobs = new Blobs({ db, bytes, folder: join(folder, 'uploads'), now: Date.now });
  for (const content of contents) await bring(content);
  await Vault.open({ db, source: { from: 'file', file: join(folder, 'master.key') } });
  write('logs/demo/ab/one.log', 'first line\n');
  write('activities/a1.log', 'built\n');
  write(`datastores/demo/default/${'deep/'.repeat(60)}a file ü.bin`, randomBytes(3_000_000));
  write('datastores/demo/default/.stellwerk-partial/half', 'never');
  write('authority/authority-key.pem', 'a key');
  write('server.log', 'not kept');
  backups = new Backups({ folder, bytes, now: Date.now, version: '1.2.3' });
});
afterAll(() => scratch[Symbol.asyncDispose]());

function write(path: string, content: string | Uint8Array): void {
  mkdirSync(join(scratch.folder, path, '..'), { recursive: true });
  writeFileSync(join(scratch.folder, path), content);
}

async function bring(content: Buffer, workspace = 'demo') {
  const stored = await bytes.write([content] as never);
  await blobs.adopt(workspace, stored);
  return stored;
}

const fresh = (name: string) => join(scratch.folder, `${name}-${++place}`);

async function saved(input: { withoutKey?: boolean } = {}): Promise<string> {
  const file = fresh('archive.tar');
  const { stream } = await backups.create(input);
  await using handle = await open(file, 'w');
  await pipeline(stream, handle.createWriteStream());
  return file;
}

const restored = (archive: string, data = fresh('data'), key?: string) =>
  restore({ archive, data, ...(key !== undefined && { key }) }, migrations).then((manifest) => ({ data, manifest }));
const problemsOf = async (data: string) => (await verify({ data }, migrations)).problems.map(({ what }) => what);

/** Every file of what a backup holds, by its path, as a hash. */
function hashes(folder: string): Record<string, string> {
  const all = ['blobs/sha256', 'logs', 'activities', 'datastores', 'authority'].flatMap((top) =>
    readdirSync(join(folder, top), { recursive: true, encoding: 'utf8' }).map((path) => join(top, path)),
  );
  const files = all.filter((path) => statSync(join(folder, path)).isFile() && !path.includes('.stellwerk-partial'));
  return Object.fromEntries(
    [...files, 'master.key'].map((path) => [
      path,
      createHash('sha256')
        .update(readFileSync(join(folder, path)))
        .digest('hex'),
    ]),
  );
}

describe('a backup', () => {
  it('restored elsewhere has the same bytes, and is whole', async () => {
    const { data, manifest } = await restored(await saved());
    expect(hashes(data)).toEqual(hashes(scratch.folder));
    expect(manifest).toMatchObject({ version: '1.2.3', contents: { count: contents.length } });
    expect(readdirSync(data).sort()).not.toContain('server.log');
    expect(await problemsOf(data)).toEqual([]);
    expect(statSync(join(data, 'master.key')).mode & 0o777).toBe(0o600);
    expect(statSync(data).mode & 0o777).toBe(0o700);
  });

  it('is of one moment: what comes while it is sent is not in it, and does not disturb it', async () => {
    const { stream } = await backups.create({});
    const parts = stream[Symbol.asyncIterator]();
    const chunks = [(await parts.next()).value as Buffer];
    const late = await bring(Buffer.from('came later'));
    await appendFile(join(scratch.folder, 'logs/demo/ab/one.log'), 'second line\n');
    for (let part = await parts.next(); !part.done; part = await parts.next()) chunks.push(part.value as Buffer);
    const file = fresh('archive.tar');
    writeFileSync(file, Buffer.concat(chunks));
    const { data } = await restored(file);
    expect(existsSync(join(data, 'blobs', 'sha256', late.digest.slice(7, 9), late.digest.slice(7)))).toBe(false);
    expect(readFileSync(join(data, 'logs/demo/ab/one.log'), 'utf8')).toBe('first line\n');
    expect(await problemsOf(data)).toEqual([]);
  });

  it('goes on when files are deleted while it is sent', async () => {
    write('logs/demo/cd/going.log', 'of a run that is deleted for good\n');
    write('datastores/demo/default/going.bin', 'deleted meanwhile');
    const { stream } = await backups.create({});
    for (const path of ['logs/demo/cd/going.log', 'datastores/demo/default/going.bin'])
      rmSync(join(scratch.folder, path));
    const file = fresh('archive.tar');
    await using handle = await open(file, 'w');
    await pipeline(stream, handle.createWriteStream());
    const { data } = await restored(file);
    expect(readFileSync(join(data, 'logs/demo/cd/going.log'), 'utf8')).toBe('');
    expect(existsSync(join(data, 'datastores/demo/default/going.bin'))).toBe(false);
  });

  it('leaves no copy of the database behind, also if nobody reads it to its end', async () => {
    const sending = join(scratch.folder, 'backups', 'sending');
    const { stream } = await backups.create({});
    expect(readdirSync(sending).length).toBeGreaterThan(0);
    stream.destroy();
    await expect.poll(() => readdirSync(sending)).toEqual([]);
    await saved();
    expect(readdirSync(sending)).toEqual([]);
  });

  it('of what is not whole is refused before anything is sent', async () => {
    const { digest } = await bring(Buffer.from('to be lost'));
    await rm(bytes.path(digest), { force: true });
    await expect(backups.create({})).rejects.toMatchObject({
      reason: 'server.damaged',
      message: expect.stringContaining(`${digest} is missing`),
    });
    scratch.write(`DELETE FROM blob_held WHERE digest = '${digest}'`);
  });

  it('of a content that has rotted breaks off, instead of looking whole', async () => {
    const { digest } = await bring(Buffer.from('to rot away'));
    const file = bytes.path(digest);
    const before = readFileSync(file);
    await rm(file, { force: true });
    await writeFile(file, Buffer.from('to rot aWay'));
    await expect(saved()).rejects.toThrow('damaged on the disk');
    await writeFile(file, before);
  });

  it('without the key is restored only with the key', async () => {
    const archive = await saved({ withoutKey: true });
    const data = fresh('data');
    await expect(restored(archive, data)).rejects.toThrow('made without the master key');
    expect(existsSync(data)).toBe(false);
    await restored(archive, data, join(scratch.folder, 'master.key'));
    expect(readFileSync(join(data, 'master.key'))).toEqual(readFileSync(join(scratch.folder, 'master.key')));
    expect(existsSync(join(data, 'authority'))).toBe(false);
  });
});

describe('an archive', () => {
  const nothingLeft = (data: string) =>
    expect(readdirSync(scratch.folder).filter((name) => name.includes(data.split('/').at(-1)!))).toEqual([]);

  it('that is cut off anywhere is refused, and leaves nothing', async () => {
    const archive = await saved();
    const { size } = statSync(archive);
    for (const share of [0, 0.001, 0.3, 0.7, 0.999]) {
      const cut = fresh('cut.tar');
      cpSync(archive, cut);
      await truncate(cut, Math.floor((size - 2_000) * share));
      const data = fresh('data');
      await expect(restored(cut, data)).rejects.toThrow(/cut off|ends in the middle/);
      nothingLeft(data);
      rmSync(cut);
    }
  });

  it('of which a byte was changed is refused, and leaves nothing', async () => {
    const archive = await saved();
    for (const [at, what] of [
      [700, 'the database'],
      [statSync(archive).size / 2, 'a file'],
      [statSync(archive).size - 1_700, 'the manifest, or a content'],
    ] as const) {
      await using handle = await open(archive, 'r+');
      const kept = Buffer.alloc(1);
      await handle.read(kept, 0, 1, Math.floor(at));
      await handle.write(Buffer.from([kept[0]! ^ 0x20]), 0, 1, Math.floor(at));
      const data = fresh('data');
      await expect(restored(archive, data), what).rejects.toThrow();
      nothingLeft(data);
      await handle.write(kept, 0, 1, Math.floor(at));
    }
    await restored(archive);
  });

  it('whose manifest is no manifest is refused, and leaves nothing', async () => {
    const archive = fresh('other.tar');
    const deep = `{"format":7,"x":${'['.repeat(2_000)}${']'.repeat(2_000)}}`;
    for (const content of ['', 'null', '7', '{"format":1', deep, `${'["prop",'.repeat(30_000)}"key","value"]`]) {
      await writeFile(archive, rawTar({ name: 'manifest.json', content }));
      const data = fresh('data');
      await expect(restored(archive, data)).rejects.toThrow('The manifest of the archive cannot be read');
      nothingLeft(data);
    }
  });

  it('goes into an empty folder only', async () => {
    const archive = await saved();
    const data = fresh('data');
    mkdirSync(data);
    await restored(archive, data);
    const before = hashes(data);
    await expect(restored(archive, data)).rejects.toThrow('is not empty');
    expect(hashes(data)).toEqual(before);
  });

  it('whose rows do not belong together is refused', async () => {
    scratch.write('INSERT INTO run_private (run_key, token_until, cancel_asked) VALUES (7, 0, 0)');
    const archive = await saved();
    scratch.write('DELETE FROM run_private');
    const data = fresh('data');
    await expect(restored(archive, data)).rejects.toThrow('A row of run_private refers to one of run');
    nothingLeft(data);
  });
});

describe('verify', () => {
  it('names what is missing, damaged or loose, who uses it, and what to do', async () => {
    const { data } = await restored(await saved());
    const [one, two] = [contents[5]!, contents[6]!].map((content) =>
      createHash('sha256').update(content).digest('hex'),
    );
    const fileOf = (hex: string) => join(data, 'blobs', 'sha256', hex.slice(0, 2), hex);
    rmSync(fileOf(one!));
    rmSync(fileOf(two!));
    writeFileSync(fileOf(two!), randomBytes(contents[6]!.length));
    rmSync(join(data, 'master.key'));
    const database = new DatabaseSync(join(data, 'stellwerk.db'));
    database.exec(`DROP INDEX run_by_state;
      INSERT INTO blob_ref VALUES ('demo', 'sha256:${one}', 'model', '17'), ('demo', 'sha256:none', 'image', '4')`);
    database.close();
    const { problems } = await verify({ data }, migrations);
    const told = problems.map(({ what, hint }) => `${what} ${hint}`).join('\n');
    expect(told).toMatch(new RegExp(`sha256:${one} is missing. It is used by model 17 in demo.`));
    expect(told).toMatch(new RegExp(`sha256:${two} is damaged`));
    expect(told).toContain('The image 4 of demo refers to sha256:none, which is not there.');
    expect(told).toContain('The index run_by_state is missing in the database. Start the server again');
    expect(told).toContain('master.key is missing. Put the key from a backup there');
    expect(problems).toHaveLength(5);
  });

  it('names the logs that are shorter than what was acknowledged of them, or gone', async () => {
    await using rooms = await runRooms();
    const { id: run } = await rooms.start({ experiment: 'logs' });
    const print = (name: string, text: string, complete = false) =>
      rooms.logs.append(
        { workspace, run, name, offset: 0, complete },
        ada,
        Readable.from([Buffer.from(text)], { objectMode: false }),
      );
    const data = rooms.scratch.folder;
    const fileOf = (name: string) => logFile(join(data, 'logs'), workspace, run, name);
    await print('whole.txt', 'whole\n', true);
    await print('shorter.txt', 'shorter\n', true);
    await print('growing.txt', 'x'.repeat(100_000));
    await print('gone.txt', 'x'.repeat(100_000));
    await print('small.txt', 'short, and not at its end');
    const told = async () => (await problemsOf(data)).filter((what) => what.startsWith('The log'));
    expect(await told()).toEqual([]);
    writeFileSync(fileOf('shorter.txt'), 'short');
    writeFileSync(fileOf('growing.txt'), 'x'.repeat(99_999));
    rmSync(fileOf('gone.txt'));
    writeFileSync(fileOf('whole.txt'), 'whole\nand more\n');
    expect((await told()).sort()).toEqual([
      `The log gone.txt of the run ${run} of ${workspace} is missing.`,
      `The log growing.txt of the run ${run} of ${workspace} has 99999 bytes; 100000 had been kept.`,
      `The log shorter.txt of the run ${run} of ${workspace} has 5 bytes; 8 had been kept.`,
    ]);
    rooms.scratch.write(`INSERT INTO trash (id, workspace, kind, name, deleted_at, deleted_by, due_at, state)
      VALUES (7, '${workspace}', 'run', '${run}', '', 'ada', 0, 'going'); UPDATE run SET trash = 7`);
    expect(await told()).toEqual([]);
  });

  it('tells of a database that is damaged', async () => {
    const { data } = await restored(await saved());
    await using handle = await open(join(data, 'stellwerk.db'), 'r+');
    const { size } = await handle.stat();
    for (let at = 4096 * 3; at < size; at += 4096 * 2) await handle.write(Buffer.alloc(64, 0xff), 0, 64, at);
    expect((await problemsOf(data)).join()).toContain('The database is damaged');
  });

  it('may be asked while the server writes', async () => {
    const looking = verify({ data: scratch.folder }, migrations);
    await Promise.all(Array.from({ length: 50 }, (_, n) => bring(Buffer.from(`meanwhile ${n}`))));
    expect((await looking).problems).toEqual([]);
  });
});
