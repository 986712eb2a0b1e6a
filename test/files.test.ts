// Item 10: outputs, snapshots and datastores. Bytes are sent once, arrive whole, and come back as they were, whatever they are called.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CuttingProxy } from './cutting-proxy.ts';
import { execute, Installation } from './installation.ts';
import { runOf } from './submission.ts';
import { asked, typed } from './typing.ts';
import { untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start();
});
afterAll(() => installation?.[Symbol.asyncDispose]());

const unpack = async (archive: string, into: string) => {
  const program =
    'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall(sys.argv[2])';
  const { code, stderr } = await execute('python3', ['-c', program, archive, into], {
    cwd: installation.folder,
    env: {},
  });
  expect(code, stderr).toBe(0);
};

/** All files below a folder, with their contents. */
function contents(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    files.map(({ parentPath, name }) => [
      join(parentPath, name).slice(folder.length + 1),
      readFileSync(join(parentPath, name)).toString('latin1'),
    ]),
  );
}

/** Names and contents that have been a trap to somebody. */
const traps = {
  'mit Leerzeichen.csv': 'a;b\r\n1;2\r\n',
  'Größe/ñandú 日本語 🚂.txt': 'ä\r\n\n\r',
  "it's %2e%2e #1?&=+.bin": '\u0000\u0001\u00ff',
  leer: '',
  '-rf': 'no flag',
  'ascii\r\nbreak\n': 'x',
  'Zeile\r\nund ü/\u001b[31m rot\t\n.txt': 'x\r\ny',
};

describe('snapshots', () => {
  test('the folder of a script is browsed file by file, and downloaded as an archive, as it was when it was submitted', async () => {
    const ran = await runOf(installation, {
      environment: { userManaged: true },
      files: { ...traps, '.amlignore': 'secret*\n', 'secret.txt': 'not to be sent' },
      code: "open('leer', 'w').write('changed by the script')",
    });
    expect(ran.state, ran.reason).toBe('completed');
    const { items } = await asked<{ items: { path: string; sizeBytes: number }[] }>(
      installation,
      'snapshot',
      'list-files',
      ran.snapshot!,
    );
    expect(items.map(({ path }) => path).sort()).toEqual(
      ['.amlignore', 'it.runconfig', 'main.py', ...Object.keys(traps)].sort(),
    );
    const { client, workspace } = installation;
    for (const [path, content] of Object.entries(traps)) {
      const file = await client.snapshots.getFile({ workspace, snapshot: ran.snapshot!, path });
      expect(Buffer.from(await file.arrayBuffer()).toString(), path).toBe(content);
    }
    await typed(installation, 'snapshot', 'download', ran.id, '--output', 'snapshot.zip');
    const back = workFolder(installation.folder, {});
    await unpack(join(installation.folder, 'snapshot.zip'), back);
    expect(contents(back)).toMatchObject(
      Object.fromEntries(
        Object.entries(traps).map(([path, content]) => [path, Buffer.from(content).toString('latin1')]),
      ),
    );
    expect(readdirSync(back)).not.toContain('secret.txt');
  });

  test('ten thousand files are sent once: submitted again unchanged, nothing is uploaded; of a change, the change alone', async () => {
    await using proxy = await CuttingProxy.before(installation.url);
    const folder = workFolder(installation.folder, { 'main.py': 'print(1)' });
    for (let at = 0; at < 100; at++) mkdirSync(join(folder, `d${at}`));
    for (let at = 0; at < 10_000; at++)
      writeFileSync(join(folder, `d${at % 100}`, `${at}.txt`), `This is file ${at}.\n`);
    const submit = async (by: 'cli' | 'python') => {
      proxy.passed.length = 0;
      const env = { STELLWERK_URL: proxy.url, STELLWERK_TOKEN: installation.token };
      const script = `
from stellwerk.core import *
configuration = ScriptRunConfig(".", "main.py", run_config=RunConfiguration())
configuration.run_config.target = "host"
configuration.run_config.environment.python.user_managed_dependencies = True
print(Experiment(Workspace.from_config(), "many").submit(configuration).id)`;
      const submitted =
        by === 'cli'
          ? await installation.cli(
              ['run', 'submit', '.', '--script', 'main.py', '--target', 'host', '--environment.user-managed', '--json'],
              { env, cwd: folder },
            )
          : await installation.python(['-c', script], { env, cwd: folder });
      expect(submitted.code, submitted.stderr).toBe(0);
      const sent = proxy.passed.filter(({ path }) => /\/(snapshots|blobs)\b/.test(path));
      return {
        id: by === 'cli' ? (JSON.parse(submitted.stdout) as Run).id : submitted.stdout.trim(),
        sent,
        bytes: sent.reduce((sum, { sentBytes }) => sum + sentBytes, 0),
      };
    };
    const { client, workspace } = installation;
    const first = await submit('cli');
    await client.runs.cancel({ workspace, run: first.id }); // it is about the way up
    expect(first.bytes).toBeGreaterThan(100_000);
    for (const by of ['cli', 'python'] as const) {
      const again = await submit(by);
      await client.runs.cancel({ workspace, run: again.id });
      expect(
        again.sent.filter(({ method }) => method !== 'GET'),
        by,
      ).toEqual([]);
      expect(again.bytes).toBe(0);
    }
    writeFileSync(join(folder, 'd7', '7.txt'), 'changed');
    const changed = await submit('cli');
    const uploads = changed.sent.filter(({ method }) => method === 'PUT');
    expect(uploads.length).toBeGreaterThan(0);
    expect(uploads.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeLessThan(1_000);
    const ended = await untilEnded({ client, workspace, run: changed.id });
    expect(ended.state, ended.reason).toBe('completed');
  });
});

describe('uploads that are cut', () => {
  const size = 40 * 1024 * 1024;

  test.each(['the command line', 'Python'])('a big file goes on where it was, from %s', async (by) => {
    await using proxy = await CuttingProxy.before(installation.url);
    proxy.cutAfterBytes = 5 * 1024 * 1024;
    const content = randomBytes(size);
    const folder = workFolder(installation.folder, { 'big.bin': content });
    const env = { STELLWERK_URL: proxy.url, STELLWERK_TOKEN: installation.token };
    const target = `big/${by}.bin`;
    const script = `
from stellwerk.core import *
Workspace.from_config().get_default_datastore().upload_files(["big.bin"], target_path="big from Python")`;
    const uploaded =
      by === 'Python'
        ? await installation.python(['-c', script], { env, cwd: folder })
        : await installation.cli(['datastore', 'upload', 'default', 'big.bin', target], { env, cwd: folder });
    expect(uploaded.code, uploaded.stderr).toBe(0);
    const parts = proxy.passed.filter(({ method, path }) => method === 'PUT' && path.includes('/blobs/'));
    expect(parts.filter(({ cut }) => cut)).toHaveLength(1);
    expect(parts.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeLessThan(size + 9 * 1024 * 1024);
    const { client, workspace } = installation;
    const { defaultDatastore: datastore } = await client.workspaces.get({ workspace });
    const path = by === 'Python' ? 'big from Python/big.bin' : target;
    const back = Buffer.from(await (await client.datastores.getFile({ workspace, datastore, path })).arrayBuffer());
    expect(back.equals(content)).toBe(true);
  });
});

describe('files of runs', () => {
  test('outputs are collected after a failure too; files and folders that a script uploads are there as they were then', async () => {
    const ran = await runOf(installation, {
      environment: { userManaged: true },
      files: traps,
      code: `
import os, sys
from stellwerk.core import Run
run = Run.get_context()
os.makedirs('outputs/tief/er', exist_ok=True)
open('outputs/tief/er/ein Modell ü.bin', 'wb').write(bytes(range(256)))
open('logs/eigenes.log', 'w').write('a log of its own')
open('logs/Zeile\\r\\n \\x1b[2J ü.log', 'w').write('odd')
open('outputs/a\\nb\\r', 'w').write('odd')
run.upload_file('von Hand\\r\\n/x', 'ascii\\r\\nbreak\\n')
run.upload_file('gelesen/ä.csv', 'mit Leerzeichen.csv')
run.upload_folder('Ordner ü', 'Größe')
open('mit Leerzeichen.csv', 'w').write('changed afterwards')
sys.exit(3)`,
    });
    expect(ran).toMatchObject({ state: 'failed', exitCode: 3 });
    await typed(installation, 'run', 'download', ran.id, '--output', 'alles');
    expect(contents(join(installation.folder, 'alles'))).toEqual({
      'outputs/tief/er/ein Modell ü.bin': Buffer.from(Array.from({ length: 256 }, (_, at) => at)).toString('latin1'),
      'logs/eigenes.log': 'a log of its own',
      'logs/Zeile\r\n \u001b[2J ü.log': 'odd',
      'outputs/a\nb\r': 'odd',
      'von Hand\r\n/x': 'x',
      'gelesen/ä.csv': 'a;b\r\n1;2\r\n',
      'Ordner ü/ñandú 日本語 🚂.txt': Buffer.from('ä\r\n\n\r').toString('latin1'),
    });
    const names = Object.keys(contents(join(installation.folder, 'alles'))).sort();
    const listed = await asked<{ items: { path: string }[] }>(installation, 'run', 'list-files', ran.id);
    expect(listed.items.map(({ path }) => path).sort()).toEqual(names);
    const table = await installation.cli(['run', 'list-files', ran.id]);
    expect(table.stdout).toContain('logs/Zeile\\r\\n \\u001b[2J ü.log');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(table.stdout).not.toMatch(/[\r\u001b]/);
    const script = `
import json
from stellwerk.core import Experiment, Run, Workspace
run = Run(Experiment(Workspace.from_config(), ${JSON.stringify(ran.experiment)}), ${JSON.stringify(ran.id)})
run.download_file('logs/Zeile\\r\\n \\x1b[2J ü.log', 'geholt/a\\r\\nb')
print(json.dumps(sorted(run.get_file_names())))`;
    const python = await installation.python(['-c', script], { cwd: installation.folder });
    expect(python.code, python.stderr).toBe(0);
    expect(JSON.parse(python.stdout)).toEqual(names);
    expect(readFileSync(join(installation.folder, 'geholt', 'a\r\nb'), 'utf8')).toBe('odd');
  });

  test('a part of a file is read without the rest', async () => {
    const { client, workspace } = installation;
    const ran = await runOf(installation, {
      environment: { userManaged: true },
      code: "open('outputs/zahlen', 'w').write('0123456789')",
    });
    const part = await client.runs.getFile({ workspace, run: ran.id, path: 'outputs/zahlen' }, { range: [2, 4] });
    expect([part.status, await part.text()]).toEqual([206, '234']);
  });
});

describe('the default datastore', () => {
  test('folders go up, are listed, come back and are deleted, with the command line and with Python', async () => {
    const folder = workFolder(installation.folder, traps);
    const expected = contents(folder);
    const python = async (text: string) => {
      const script = `from stellwerk.core import *\nstore = Workspace.from_config().get_default_datastore()\n${text}`;
      const { code, stdout, stderr } = await installation.python(['-c', script], { cwd: installation.folder });
      expect(code, stderr).toBe(0);
      return stdout.trim();
    };
    await typed(installation, 'datastore', 'upload', 'default', folder, 'von der Konsole');
    await python(`store.upload(${JSON.stringify(folder)}, "von Python", show_progress=False)`);
    for (const place of ['von der Konsole', 'von Python']) {
      await typed(installation, 'datastore', 'download', 'default', place, '--output', `cli ${place}`);
      expect(contents(join(installation.folder, `cli ${place}`, place)), place).toEqual(expected);
      await python(
        `store.download(${JSON.stringify(`py ${place}`)}, prefix=${JSON.stringify(place)}, show_progress=False)`,
      );
      expect(contents(join(installation.folder, `py ${place}`, place)), place).toEqual(expected);
      expect(Number(await python(`print(len(store.list_files(${JSON.stringify(place)})))`))).toBe(
        Object.keys(traps).length,
      );
    }
    const datastore = (await asked<{ defaultDatastore: string }>(installation, 'workspace', 'get')).defaultDatastore;
    expect(await asked(installation, 'datastore', 'delete-files', datastore, 'von der Konsole')).toEqual({
      deleted: Object.keys(traps).length,
    });
    expect(await python('print(store.delete_files("von Python"))')).toBe(String(Object.keys(traps).length));
    const { items } = await asked<{ items: { path: string }[] }>(
      installation,
      'datastore',
      'list-files',
      datastore,
      '--prefix',
      'von Python',
    );
    expect(items).toEqual([]);
  });
});
