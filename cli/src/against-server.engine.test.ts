// The command line as it is typed, against a real server, in folders with spaces, Unicode and CRLF.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const command = join(import.meta.dirname, 'main.ts');
const folder = mkdtempSync(join(tmpdir(), 'cli mit Ümlaut '));
const work = join(folder, 'meine Arbeit');
const environment: Record<string, string> = {
  ...(Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('STELLWERK_'))) as Record<
    string,
    string
  >),
  XDG_CONFIG_HOME: join(folder, 'config'),
  XDG_DATA_HOME: join(folder, 'share'),
  STELLWERK_RUN_LEASE_MS: '3000',
  NO_COLOR: '1',
};
const server = { url: '', signIn: '', stop: async () => {} };

interface Ended {
  code: number;
  out: string;
  err: string;
}

function type(args: string[], { input = '', cwd = work, env = environment } = {}): Promise<Ended> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', command, ...args], { cwd, env });
  const ended: Ended = { code: -1, out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    ended.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    ended.err += text;
  });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  return new Promise((resolve) => child.on('close', (code) => resolve({ ...ended, code: code ?? -1 })));
}

async function ask<T = Record<string, unknown>>(...args: string[]): Promise<T> {
  const { code, out, err } = await type([...args, '--json']);
  expect(err, args.join(' ')).toBe('');
  expect(code).toBe(0);
  return JSON.parse(out) as T;
}

beforeAll(async () => {
  mkdirSync(work);
  const args = ['up', '--data', join(folder, 'data'), '--port', '0', '--json'];
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', command, ...args], {
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve);
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  Object.assign(server, JSON.parse(line), {
    stop: () =>
      new Promise((resolve) => {
        child.once('exit', resolve);
        child.kill('SIGTERM');
      }),
  });
  const signedIn = await type(['login', server.signIn]);
  expect(signedIn).toMatchObject({ code: 0, out: expect.stringContaining('an administrator') });
  expect(await type(['init', 'team', '--create'])).toMatchObject({ code: 0 });
});
afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe('signing in', () => {
  it('keeps the token for this user alone, and the link was good once', async () => {
    expect(statSync(join(folder, 'config', 'stellwerk', 'credentials.json')).mode & 0o777).toBe(0o600);
    const again = await type(['login', server.signIn]);
    expect(again.code).toBe(1);
    expect(again.err).toMatch(/Hint: {2}A sign-in link is good once/);
  });

  it('works with a token from standard input or the environment, and ends with logout', async () => {
    const { token } = await ask<{ token: string }>(
      'token',
      'create',
      'for ci',
      '--workspace',
      'team',
      '--role',
      'reader',
    );
    const elsewhere = { ...environment, XDG_CONFIG_HOME: join(folder, 'other config') };
    expect(await type(['login', server.url, '--token-stdin'], { input: `${token}\n`, env: elsewhere })).toMatchObject({
      code: 0,
    });
    const refused = await type(['experiment', 'create', 'x', '--workspace', 'team'], { env: elsewhere });
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(/^Error: .+\nHint: {2}Ask an Owner/);
    expect(await type(['logout'], { env: elsewhere })).toMatchObject({ code: 0 });
    const out = await type(['me', 'get', '--url', server.url], { env: elsewhere });
    expect(out).toMatchObject({ code: 1, err: expect.stringContaining('stellwerk login') });
  });

  it('a new user sets a password with the link and signs in with it', async () => {
    const { signIn } = await ask<{ signIn: { url: string } }>('user', 'create', 'maria', '--display-name', 'María Ü');
    const elsewhere = { ...environment, XDG_CONFIG_HOME: join(folder, 'config of maria') };
    const password = 'correct horse battery';
    const set = ['login', signIn.url, '--set-password', '--password-stdin'];
    expect(await type(set, { input: password, env: elsewhere })).toMatchObject({ code: 0 });
    const login = ['login', server.url, '--user', 'maria', '--password-stdin'];
    expect(await type(login, { input: 'wrong password', env: elsewhere })).toMatchObject({ code: 1 });
    expect(await type(login, { input: `${password}\r\n`, env: elsewhere })).toMatchObject({
      code: 0,
      out: expect.stringContaining('maria'),
    });
  });
});

describe('usage', () => {
  it('wrong usage ends with 2 and says what to do', async () => {
    expect(await type(['run', 'get'])).toMatchObject({
      code: 2,
      err: expect.stringContaining("missing required argument 'run'"),
    });
    expect(await type(['model', 'list', '--page-size', '0'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('--page-size'),
    });
    expect(await type(['nonsense'])).toMatchObject({ code: 2 });
    expect(await type(['run', 'query', '--nonsense'])).toMatchObject({ code: 2 });
    expect(await type(['run', 'get', 'x'], { cwd: folder })).toMatchObject({
      code: 2,
      err: expect.stringContaining('--workspace'),
    });
  });

  it('a refusal ends with 1, in JSON for programs', async () => {
    const { code, err } = await type(['run', 'get', 'does not exist', '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(err)).toMatchObject({ error: { reason: 'run.not-found' } });
  });

  it('the shell completes commands and flags', async () => {
    const { out } = await type(['completion', 'bash']);
    const completed = (...words: string[]) => {
      const asked = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _stellwerk; echo "\${COMPREPLY[@]}"`;
      return spawnSync('bash', ['-c', `${out}\n${asked}`], { encoding: 'utf8' }).stdout.trim();
    };
    expect(completed('stellwerk', 'serv')).toBe('service server');
    expect(completed('stellwerk', 'run', 'su')).toBe('submit');
    expect(completed('stellwerk', 'run', 'submit', '--experi')).toBe('--experiment');
    for (const shell of ['zsh', 'fish']) expect((await type(['completion', shell])).out).toContain('regenerate-key');
  });

  it('the workspace is found from any folder below', async () => {
    const deep = join(work, 'a', 'b c');
    mkdirSync(deep, { recursive: true });
    expect(await type(['workspace', 'get'], { cwd: deep })).toMatchObject({
      code: 0,
      out: expect.stringContaining('team'),
    });
  });
});

describe('files', () => {
  const put = (path: string, content: string) => {
    mkdirSync(join(work, path, '..'), { recursive: true });
    writeFileSync(join(work, path), content);
  };

  it('folders go to a datastore and come back as they were', async () => {
    put('daten ü/eins zwei.csv', 'a;b\r\n1;2\r\n');
    put('daten ü/tief/𝄞%2e#?.bin', '\u0000\u0001');
    put('daten ü/leer', '');
    expect(await type(['datastore', 'upload', 'default', 'daten ü', 'in/put'])).toMatchObject({
      code: 0,
      out: expect.stringContaining('3 files'),
    });
    const { defaultDatastore } = await ask<{ defaultDatastore: string }>('workspace', 'get');
    const { items } = await ask<{ items: { path: string }[] }>('datastore', 'list-files', defaultDatastore, '--all');
    expect(items.map(({ path }) => path).sort()).toEqual([
      'in/put/eins zwei.csv',
      'in/put/leer',
      'in/put/tief/𝄞%2e#?.bin',
    ]);
    expect(await type(['datastore', 'download', 'default', 'in', '--output', 'zurück'])).toMatchObject({ code: 0 });
    for (const path of ['eins zwei.csv', 'tief/𝄞%2e#?.bin', 'leer'])
      expect(readFileSync(join(work, 'zurück', 'in', 'put', path))).toEqual(readFileSync(join(work, 'daten ü', path)));
    const again = await type(['datastore', 'upload', 'default', 'daten ü', 'in/put']);
    expect(again).toMatchObject({ code: 1, err: expect.stringContaining('overwrite') });
    expect(await type(['datastore', 'upload', 'default', 'daten ü', 'in/put', '--overwrite'])).toMatchObject({
      code: 0,
    });
  });

  it('models go up from a file or a folder, are found by alias, and come back', async () => {
    put('modell ü/weights 1.bin', 'weights');
    put('modell ü/sub/config.json', '{}\r\n');
    const first = await ask(
      'model',
      'register',
      'modell ü',
      '--name',
      'my model',
      '--tags',
      'kind=a=b',
      '--framework',
      'Own',
    );
    expect(first).toMatchObject({ id: 'my model:1', isFolder: true, fileCount: 2, tags: { kind: 'a=b' } });
    const second = await ask('model', 'register', join('modell ü', 'weights 1.bin'), '--name', 'my model');
    expect(second).toMatchObject({ version: 2, isFolder: false });
    await ask('model', 'set-alias', 'my model', 'champion', '1');
    expect(await ask('model', 'get', 'my model:champion')).toMatchObject({ version: 1, aliases: ['champion'] });
    expect(await ask('model', 'get', 'my model')).toMatchObject({ version: 2 });
    expect(await type(['model', 'download', 'my model:champion', '--output', 'geladen'])).toMatchObject({ code: 0 });
    expect(readdirSync(join(work, 'geladen'), { recursive: true }).sort()).toEqual([
      'sub',
      'sub/config.json',
      'weights 1.bin',
    ]);
    const occupied = await type(['model', 'download', 'my model:champion', '--output', 'geladen']);
    expect(occupied).toMatchObject({ code: 2, err: expect.stringContaining('--overwrite') });
    const table = await type(['model', 'list', '--latest']);
    expect(table.out).toMatch(/name +version/);
    expect(table.out).toMatch(/my model +2/);
  });
});

describe('runs', () => {
  const script = [
    'import os, sys',
    "print('hällo', sys.argv[1:], os.environ.get('GREETING'))",
    "os.makedirs('outputs', exist_ok=True)",
    "open('outputs/ergebnis ü.txt', 'w').write('fertig')",
    "sys.exit(int(os.environ.get('CODE', '0')))",
    '',
  ].join('\r\n');

  it.each(['local', 'host'])(
    'a script with its folder runs on %s, its output is followed, its files come back',
    async (target) => {
      const place = join(work, `skripte auf ${target}`);
      mkdirSync(place);
      writeFileSync(join(place, 'mein skript.py'), script);
      writeFileSync(
        join(place, 'so.runconfig'),
        `script: mein skript.py\r\ntarget: ${target}\r\nenvironment:\r\n  userManaged: true\r\n`,
      );
      const submit = [
        'run',
        'submit',
        place,
        '--configuration',
        join(place, 'so.runconfig'),
        '--experiment',
        'cli ü',
        '--follow',
      ];
      const ended = await type([
        ...submit,
        '--environment-variables',
        'GREETING=grüß dich',
        '--tags',
        'a=b',
        '--',
        '--alpha',
        '0.1',
      ]);
      expect(ended.err).toMatch(/completed/);
      expect(ended.code).toBe(0);
      expect(ended.out).toContain("hällo ['--alpha', '0.1'] grüß dich");
      const { items } = await ask<{ items: { id: string; tags: object; parameters: object }[] }>(
        'run',
        'list',
        '--filter',
        `tags.a = 'b'`,
      );
      const { id, parameters } = items[0]!;
      expect(parameters).toEqual({ alpha: 0.1 });
      expect((await type(['run', 'logs', id])).out).toBe(ended.out);
      expect(await type(['run', 'download', id, 'outputs', '--output', `aus ${target}`])).toMatchObject({ code: 0 });
      expect(readFileSync(join(work, `aus ${target}`, 'outputs', 'ergebnis ü.txt'), 'utf8')).toBe('fertig');
      expect(await type(['snapshot', 'download', id, '--output', `${target}.zip`])).toMatchObject({ code: 0 });
    },
  );

  it('a configuration made of flags is kept and used again', async () => {
    const place = join(work, 'skripte auf local');
    const kept = join(work, 'kept.runconfig');
    const flags = [
      '--script',
      'mein skript.py',
      '--environment.user-managed',
      '--environment-variables',
      'GREETING=a: b',
    ];
    const first = await type([
      'run',
      'submit',
      place,
      ...flags,
      '--save-configuration',
      kept,
      '--follow',
      '--',
      'x',
      '1',
    ]);
    expect(first).toMatchObject({ code: 0, out: expect.stringContaining("hällo ['x', '1'] a: b") });
    const again = await type(['run', 'submit', place, '--configuration', kept, '--follow']);
    expect(again).toMatchObject({ code: 0, out: first.out });
  });

  it('runs that were logged without a server are brought to it', async () => {
    const offline = [
      'from stellwerk.core import Run',
      'run = Run.get_context()',
      "run.log('mse', 0.25)",
      'run.complete()',
    ].join('\n');
    const env = { ...environment, PYTHONPATH: join(import.meta.dirname, '..', '..', 'python', 'src') };
    const nowhere = { ...env, XDG_CONFIG_HOME: join(folder, 'no sign-in'), XDG_DATA_HOME: join(folder, 'offline') };
    const logged = spawnSync('python3', ['-c', offline], { env: nowhere, encoding: 'utf8', cwd: folder });
    expect(logged.status, logged.stderr).toBe(0);
    const sync = ['run', 'sync', '--experiment', 'from offline', join(folder, 'offline', 'stellwerk-runs')];
    expect(await type(sync)).toMatchObject({ code: 0, out: expect.stringContaining('1 runs') });
    const { items } = await ask<{ items: { metrics: object[] }[] }>(
      'run',
      'list',
      '--experiment',
      'from offline',
      '--metrics',
      'mse',
    );
    expect(items[0]?.metrics).toMatchObject([{ name: 'mse', last: 0.25 }]);
  });

  it('who follows a run is told that its runner is not heard of any more', async () => {
    const place = join(work, 'skripte die warten');
    mkdirSync(place);
    writeFileSync(join(place, 'wait.py'), "print('waiting', flush=True)\nimport time; time.sleep(60)\n");
    const args = ['run', 'submit', place, '--script', 'wait.py', '--environment.user-managed', '--follow'];
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', command, ...args], {
      cwd: work,
      env: environment,
    });
    const ended = once(child, 'exit');
    let told = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        told += text;
      });
    await expect.poll(() => told, { timeout: 20_000 }).toContain('waiting');
    const [, id] = /^Run (\S+) of/m.exec(told)!;
    const runs = join(folder, 'share', 'stellwerk-runs');
    const own = readdirSync(runs).find((name) => name.startsWith(id!.slice(0, 8)))!;
    process.kill(JSON.parse(readFileSync(join(runs, own, 'runner.json'), 'utf8')).pid, 'SIGKILL');
    await expect.poll(() => told, { timeout: 30_000 }).toMatch(/The run \S+ is lost/);
    child.kill('SIGINT');
    expect((await ended)[0]).toBe(130);
    expect(told).toContain(`stellwerk run logs ${id} --follow`);
    expect(await type(['run', 'cancel', id!])).toMatchObject({ code: 0 });
  });

  it('a script that fails makes the command fail, with its reason', async () => {
    const place = join(work, 'skripte auf local');
    const failing = [
      'run',
      'submit',
      place,
      '--script',
      'mein skript.py',
      '--environment.user-managed',
      '--experiment',
      'x',
      '--follow',
    ];
    const ended = await type([...failing, '--environment-variables', 'CODE=3']);
    expect(ended).toMatchObject({ code: 1, err: expect.stringMatching(/failed.*exit code 3/s) });
    expect(await type(['run', 'submit', place, '--script', 'none.py'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('none.py'),
    });
  });
});
