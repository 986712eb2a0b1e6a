// Item 7: a private package index with a password is set once for all, and the password stays where it was put.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeWheel, servePackages } from '../server/src/environment/package-index.fixture.ts';
import { execute, Installation } from './installation.ts';
import { runOf, submit } from './submission.ts';
import { asked, typed } from './typing.ts';
import { untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const password = 'gehe1m-Pa55wort-nirgends-zu-sehen';
const user = { name: 'hausbote', password };

test('a private index is set once, and holds for resolving, for runs on host and local and for images; its password is nowhere', async () => {
  const cache = mkdtempSync(join(tmpdir(), 'stellwerk-cache-'));
  using removed = new DisposableStack();
  removed.defer(() => rmSync(cache, { recursive: true, force: true }));
  await using installation = await Installation.start([], { XDG_CACHE_HOME: cache });
  const seen: string[] = [];
  const wheel = await makeWheel('haus_eigen', '1.4', { 'haus_eigen.py': "greeting = 'aus dem Haus'\n" });
  await using index = await servePackages([wheel], user, () => {
    seen.push(...commandLines().filter((line) => line.includes(password)));
  });
  const settings = workFolder(installation.folder, {
    'credentials.json': JSON.stringify([{ url: index.url, username: user.name, password }]),
  });
  const credentials = `@${join(settings, 'credentials.json')}`;
  await typed(installation, 'package-index', 'set', '--extra-index-urls', index.url, '--credentials', credentials);
  rmSync(settings, { recursive: true });

  const { client, workspace } = installation;
  const submission = {
    environment: { requirements: ['haus-eigen==1.4'] },
    code: 'import haus_eigen; print(haus_eigen.greeting)',
  };
  // Two at once: their environment is new, and one of them alone builds it.
  const both = await Promise.all([submit(installation, submission), submit(installation, submission)]);
  const ended = await Promise.all(both.map(({ id }) => untilEnded({ client, workspace, run: id })));
  expect(ended.map(({ state, reason }) => reason ?? state)).toEqual(['completed', 'completed']);
  expect(index.asked.filter((path) => path.startsWith('/files/')).length).toBeGreaterThan(0);
  const told = await Promise.all(both.map(({ id }) => preparation(installation, id)));
  expect(
    told.filter((text) => text.includes('The environment was built')),
    told.join('\n'),
  ).toHaveLength(1);

  // Another environment, so that the local runner has to install it by itself.
  const local = await runOf(installation, {
    ...submission,
    target: 'local',
    environment: { requirements: ['haus-eigen==1.4', 'six==1.16.0'] },
  });
  expect(local.state, local.reason).toBe('completed');
  expect(local.printed).toContain('aus dem Haus');
  for (const { environment } of [...ended, local])
    expect(environment?.lock).toContain('haus-eigen==1.4 --hash=sha256:');

  const scoring = workFolder(installation.folder, {
    'score.py': 'import haus_eigen\ndef init(): pass\ndef run(data): return haus_eigen.greeting\n',
  });
  await typed(
    installation,
    'image',
    'create',
    scoring,
    '--name',
    'haus',
    '--environment.requirements',
    'haus-eigen==1.4',
  );
  await typed(installation, 'image', 'export', 'haus', '--format', 'oci', '--output', 'haus.tar');
  const layers = workFolder(installation.folder, {});
  const unpack = 'tar -xf ../haus.tar && for layer in blobs/sha256/*; do gzip -dcf $layer > $layer.plain; done';
  const unpacked = await execute('sh', ['-c', unpack], { cwd: layers, env: installation.environment });
  expect(unpacked.code, unpacked.stderr).toBe(0);
  expect(await filesWith('aus dem Haus', layers)).not.toEqual([]);

  expect(seen, 'on a command line').toEqual([]);
  // Database, contents, logs, environments, folders of runs, layers, caches: all that there is.
  expect(await filesWith(password, installation.folder)).toEqual([]);
  expect(await filesWith(password, cache)).toEqual([]);
  expect(await asked(installation, 'package-index', 'get')).toMatchObject({
    extraIndexUrls: [index.url],
    signIns: [{ username: user.name }],
  });
});

/** What was told while the run was made ready. */
async function preparation(place: Installation, run: string): Promise<string> {
  return (await place.client.logs.get({ workspace: place.workspace, run, name: 'preparation.txt' })).text();
}

function commandLines(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      } catch {
        return ''; // it has ended
      }
    });
}

async function filesWith(text: string, folder: string): Promise<string[]> {
  const args = ['--recursive', '--files-with-matches', '--binary-files=text', '--fixed-strings', text, '.'];
  const found = await execute('grep', args, { cwd: folder, env: {} });
  expect(found.code, found.stderr).toBeLessThan(2);
  return found.stdout.split('\n').filter((line) => line !== '');
}
