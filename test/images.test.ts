// Item 12: images made by the server alone, the same everywhere, made anew only as far as something changed.
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Activity } from '@stellwerk/contract/activity.ts';
import type { Image } from '@stellwerk/contract/image.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ociArchiveOf, plainOf, unpacked } from './image-archive.ts';
import { execute, Installation, node, repository } from './installation.ts';
import { otherDay } from './other-day.ts';
import { processesWith } from './processes.ts';
import { asked, typed } from './typing.ts';
import { until } from './waiting.ts';
import { workFolder, writeFiles } from './work-folder.ts';

let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start();
});
afterAll(() => installation?.[Symbol.asyncDispose]());

const score = 'import six\ndef init(): pass\ndef run(data): return six.__version__\n';
const scoring = {
  'score.py': score,
  'extra/ä file.txt': 'extra',
  'extra/line\r\nbreak': 'odd',
  'requirements.txt': 'six==1.16.0\n',
};
const model = { 'weights.bin': '\u0000\u0001weights', 'sub/config.json': '{}' };

async function imageIn(place: Installation, folder: string, ...more: string[]): Promise<Image> {
  const args = ['--model', 'modell', '--environment.requirements-file', 'requirements.txt', ...more];
  return asked<Image>(place, 'image', 'create', folder, '--name', 'bild', ...args);
}

test('the same image, bit for bit, from two data folders with empty caches at different paths, on different days', async () => {
  using later = otherDay();
  const images: Image[] = [];
  for (const [name, within] of [['eins', []] as const, ['an einer ganz anderen Stelle', later.within] as const]) {
    const caches = mkdtempSync(join(tmpdir(), `stellwerk-cache-${name.length}-`));
    using removed = new DisposableStack();
    removed.defer(() => rmSync(caches, { recursive: true, force: true }));
    await using place = await Installation.start([], { XDG_CACHE_HOME: join(caches, name) }, within);
    await typed(place, 'model', 'register', workFolder(place.folder, model), '--name', 'modell');
    images.push(await imageIn(place, workFolder(place.folder, scoring)));
  }
  const [today, other] = images;
  expect(today).toMatchObject({ state: 'succeeded', digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) });
  expect(daysBetween(today!, other!)).toBeGreaterThan(otherDay.days - 1);
  expect(other!.digest).toBe(today!.digest);
});

const daysBetween = (a: Image, b: Image) => (Date.parse(b.createdAt) - Date.parse(a.createdAt)) / 86_400_000;

test('on that other day it is another day for every program that a build starts', async () => {
  using later = otherDay();
  for (const program of [
    [process.execPath, '--print', 'Date.now() / 1000'],
    ['python3', '-c', 'import time; print(time.time())'],
    ['date', '+%s'],
  ]) {
    const [command, ...args] = [...later.within, 'env', '-i', `PATH=${process.env.PATH}`, ...program];
    const { stdout, stderr } = await execute(command!, args, { cwd: later.folder, env: installation.environment });
    expect(Number(stdout) - Date.now() / 1_000, stderr).toBeGreaterThan((otherDay.days - 1) * 86_400);
  }
});

test('a changed score.py makes the layer of the code anew, and no other', async () => {
  const folder = workFolder(installation.folder, scoring);
  await typed(installation, 'model', 'register', workFolder(installation.folder, model), '--name', 'modell');
  const first = await imageIn(installation, folder);
  writeFiles(folder, { 'score.py': `${score}# changed\n` });
  const second = await imageIn(installation, folder);
  expect([first.id, second.id]).toEqual(['bild:1', 'bild:2']);
  const [before, after] = [await ociArchiveOf(installation, 'bild:1'), await ociArchiveOf(installation, 'bild:2')];
  expect(before.digest).toBe(first.digest);
  expect(after.diffIds).toHaveLength(before.diffIds.length);
  const changed = after.diffIds.flatMap((id, at) => (id === before.diffIds[at] ? [] : [at]));
  expect(changed).toHaveLength(1);
  const layer = after.layers[changed[0]!]!;
  const [, hex] = layer.digest.split(':');
  writeFileSync(join(after.folder, 'layer.tar'), plainOf(readFileSync(join(after.folder, 'blobs', 'sha256', hex!))));
  const listed = await execute('tar', ['--list', '--verbose', '--numeric-owner', '--utc', '-f', 'layer.tar'], {
    cwd: after.folder,
    env: { TZ: 'UTC' },
  });
  const files = listed.stdout.split('\n').filter((line) => line.startsWith('-'));
  expect(files.join('\n')).toContain('score.py');
  for (const line of files) expect(line).toMatch(/ 0\/0 .* 1970-01-01 00:00 /);

  const again = await imageIn(installation, folder);
  expect(again).toMatchObject({ version: 3, digest: second.digest });
});

test('an archive for docker has what docker loads: a name, a configuration, and layers with the right digests', async () => {
  await imageIn(installation, workFolder(installation.folder, scoring), '--tags', 'stage=test');
  const folder = await unpacked(installation, 'bild', 'docker');
  const [loaded] = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as {
    Config: string;
    Layers: string[];
    RepoTags: string[];
  }[];
  const { rootfs, os } = JSON.parse(readFileSync(join(folder, loaded!.Config), 'utf8'));
  expect(os).toBe('linux');
  expect(loaded!.RepoTags).toEqual([expect.stringMatching(/bild:\d+$/)]);
  const digests = loaded!.Layers.map(
    (file) =>
      `sha256:${createHash('sha256')
        .update(plainOf(readFileSync(join(folder, file))))
        .digest('hex')}`,
  );
  expect(digests).toEqual(rootfs.diff_ids);
});

test('images are found by name, tag and model', async () => {
  const folder = workFolder(installation.folder, { 'score.py': score });
  const found = async (...args: string[]) =>
    (await asked<{ items: Image[] }>(installation, 'image', 'list', ...args)).items.map(({ id }) => id);
  await typed(
    installation,
    'image',
    'create',
    folder,
    '--name',
    'anderes',
    '--tags',
    'zweck=suche',
    '--model',
    'modell',
  );
  await typed(installation, 'image', 'create', folder, '--name', 'drittes', '--tags', 'zweck=ablage');
  expect(await found('--tag', 'zweck=suche')).toEqual(['anderes:1']);
  expect(await found('--tag', 'zweck')).toEqual(['drittes:1', 'anderes:1']);
  expect(await found('--name', 'drittes')).toEqual(['drittes:1']);
  const withModel = await found('--model', 'modell:1');
  expect(withModel).toContain('anderes:1');
  expect(withModel).not.toContain('drittes:1');
});

test('a base image comes from an archive on a datastore: an OCI layout, a docker-save archive, a root filesystem', async () => {
  const folder = workFolder(installation.folder, { 'score.py': 'def init(): pass\ndef run(data): return 1\n' });
  const bases = workFolder(installation.folder, {});
  const made = await execute(
    node[0],
    [node[1], join(repository, 'tools', 'base-image.ts'), '--output', join(bases, 'layout.tar')],
    {
      cwd: bases,
      env: installation.environment,
    },
  );
  expect(made.code, made.stderr).toBe(0);
  await typed(installation, 'datastore', 'upload', 'default', join(bases, 'layout.tar'), 'bases/layout.tar');
  const { defaultDatastore } = await asked<{ defaultDatastore: string }>(installation, 'workspace', 'get');
  const on = async (file: string, name: string) =>
    asked<Image>(
      installation,
      'image',
      'create',
      folder,
      '--name',
      name,
      '--base-image',
      `datastore:${defaultDatastore}/bases/${file}`,
    );

  const onLayout = await on('layout.tar', 'auf-layout');
  expect(onLayout).toMatchObject({ state: 'succeeded', base: expect.stringContaining('sha256:') });
  const archive = await ociArchiveOf(installation, onLayout.id);

  await typed(
    installation,
    'image',
    'export',
    'auf-layout',
    '--format',
    'docker',
    '--output',
    join(bases, 'saved.tar'),
  );
  await typed(installation, 'datastore', 'upload', 'default', join(bases, 'saved.tar'), 'bases/saved.tar');
  const onSaved = await on('saved.tar', 'auf-gespeichertem');
  expect(onSaved.state).toBe('succeeded');
  expect((await ociArchiveOf(installation, onSaved.id)).diffIds.slice(0, archive.diffIds.length)).toEqual(
    archive.diffIds,
  );

  const [bottom] = archive.layers;
  writeFileSync(
    join(bases, 'root.tar'),
    plainOf(readFileSync(join(archive.folder, 'blobs', ...bottom!.digest.split(':')))),
  );
  await typed(installation, 'datastore', 'upload', 'default', join(bases, 'root.tar'), 'bases/root.tar');
  expect((await on('root.tar', 'auf-wurzel')).state).toBe('succeeded');
});

test('a build that fails tells its user why, and the image says so', async () => {
  const folder = workFolder(installation.folder, {
    'score.py': score,
    'requirements.txt': 'six==1.16.0\nsix==1.15.0\n',
  });
  const failed = await installation.cli([
    'image',
    'create',
    folder,
    '--name',
    'widerspruch',
    '--environment.requirements-file',
    'requirements.txt',
  ]);
  expect(failed.code).toBe(1);
  expect(failed.stderr).toMatch(/six==1\.16\.0.*six==1\.15\.0|six==1\.15\.0.*six==1\.16\.0/s);
  const image = await asked<Image>(installation, 'image', 'get', 'widerspruch:1');
  expect(image.state).toBe('failed');
  const activity = await asked<Activity>(installation, 'activity', 'get', image.activity);
  expect(activity).toMatchObject({ state: 'failed', error: { message: expect.stringContaining('six') } });
  const deployed = await installation.cli(['service', 'deploy', 'nie', '--image', 'widerspruch:1']);
  expect(deployed).toMatchObject({ code: 1, stderr: expect.stringContaining('widerspruch:1') });
});

test('a build that is cancelled ends, with the programs it started, and no image comes of it', async () => {
  const silent = createServer(() => {}); // an index that never answers
  await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
  const address = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/simple`;
  try {
    const folder = workFolder(installation.folder, {
      'score.py': score,
      'requirements.txt': `--extra-index-url ${address}\nnirgendwo==1\n`,
    });
    const image = await asked<Image>(
      installation,
      'image',
      'create',
      folder,
      '--name',
      'abgebrochen',
      '--environment.requirements-file',
      'requirements.txt',
      '--no-wait',
    );
    await until('the build asks the index', () => processesWith(address).length > 0);
    await typed(installation, 'activity', 'cancel', image.activity);
    await until(
      'the image is canceled',
      async () => (await asked<Image>(installation, 'image', 'get', image.id)).state === 'canceled',
    );
    await until('nothing of the build runs', () => processesWith(address).length === 0);
  } finally {
    silent.closeAllConnections();
    silent.close();
  }
});
