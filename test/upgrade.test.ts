// A data folder of an earlier release is brought up to date by `stellwerk up`, with a copy from before; one of a later version is refused.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { Installation } from './installation.ts';

const workspace = 'story';
const releases = readdirSync(join(import.meta.dirname, 'released')).filter((name) => name.endsWith('.sql'));
const token = 'of-the-one-who-had-it-before';

const fileOf = (installation: Installation) => join(installation.folder, 'data', 'stellwerk.db');

function made(release: string): Installation {
  const installation = Installation.prepare();
  mkdirSync(join(installation.folder, 'data'));
  const text = readFileSync(join(import.meta.dirname, 'released', release), 'utf8');
  const database = new DatabaseSync(fileOf(installation), { enableForeignKeyConstraints: false });
  database.exec(text.replace("'HASH'", `'${createHash('sha256').update(token).digest('hex')}'`));
  database.close();
  return installation;
}

function migrationsIn(file: string): string[] {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    return database
      .prepare('SELECT name FROM migration ORDER BY name')
      .all()
      .map(({ name }) => String(name));
  } finally {
    database.close();
  }
}

test.for(releases)('what %s left is there after the upgrade, and a copy of how it was', async (release) => {
  await using installation = made(release);
  const before = migrationsIn(fileOf(installation));
  await installation.up();
  const client = installation.clientWith(token);
  expect((await client.me.get()).user.name).toBe('admin');
  const { items } = await client.runs.query({ workspace, metrics: ['loss'], orderBy: ['createdAt asc'] });
  expect(items).toMatchObject([
    { id: 'released', state: 'completed', tags: { colour: 'blue' }, parameters: { rate: 0.1 }, childCount: 1 },
    { id: 'child', state: 'failed', reason: 'It had to.', parent: 'released' },
  ]);
  const { points, summary } = await client.metrics.getSeries({
    workspace,
    run: 'released',
    name: 'loss',
    limit: 1_000,
  });
  expect(points!.map(({ step, value }) => [step, value])).toEqual(
    Array.from({ length: 300 }, (_, step) => [step, 1 / (step + 1)]),
  );
  expect(summary).toMatchObject({ count: 300, min: 1 / 300, max: 1 });
  expect((await client.models.list({ workspace })).items).toMatchObject([{ name: 'weights', version: 1 }]);
  expect((await client.members.list({ workspace })).items).toHaveLength(2);
  const next = await client.runs.start({ workspace, experiment: 'kept' });
  expect(next.number).toBe(3); // it goes on counting
  await client.runs.cancel({ workspace, run: next.id });
  await installation.stop();
  const copies = join(installation.folder, 'data', 'backups');
  const after = migrationsIn(fileOf(installation));
  expect(after).toEqual(expect.arrayContaining(before));
  const copy = join(copies, `stellwerk-${before.at(-1)}.db`);
  expect(existsSync(copy)).toBe(after.length > before.length);
  if (existsSync(copy)) expect(migrationsIn(copy)).toEqual(before);
});

test('what a later version wrote is refused with what to do, and left as it is', async () => {
  await using installation = made(releases.at(-1)!);
  await installation.up();
  await installation.stop();
  const database = new DatabaseSync(fileOf(installation));
  database.exec("INSERT INTO migration VALUES ('9999-of-the-future', '2030-01-01T00:00:00.000Z')");
  database.close();
  const before = readFileSync(fileOf(installation));
  const data = join(installation.folder, 'data');
  const refused = await installation.cli(['up', '--data', data, '--port', '0']);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain(
    'was written by a newer Stellwerk (it has 9999-of-the-future). Start that version or newer; nothing was changed.',
  );
  expect(readFileSync(fileOf(installation)).equals(before)).toBe(true);
  const verified = await installation.cli(['verify', '--data', data]);
  expect(verified.stderr).toContain('newer Stellwerk');
});
