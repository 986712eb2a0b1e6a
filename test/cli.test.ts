// Item 14: the command line has every verb, explains itself, and prints for people, for programs and for shells.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eachOf } from '@stellwerk/client/uploads.ts';
import { verbs } from '@stellwerk/contract/verbs.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { comforts } from '../cli/src/comforts.ts';
import { kebab, nounOf } from '../cli/src/names.ts';
import { execute, Installation } from './installation.ts';
import { asked, typed } from './typing.ts';
import { workFolder } from './work-folder.ts';

let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start();
});
afterAll(() => installation?.[Symbol.asyncDispose]());

const ofContract = Object.entries(verbs).flatMap(([noun, table]) =>
  Object.keys(table).map((verb) => [nounOf(noun), kebab(verb)]),
);
const ofComforts = comforts.map(({ name }) => name.split(' '));
const commands = [...new Map([...ofContract, ...ofComforts].map((words) => [words.join(' '), words])).values()];

test('every noun and every verb answers --help, with what it does and what it takes', async () => {
  expect(commands.length).toBeGreaterThan(80);
  const silent: string[] = [];
  const whole = await typed(installation, '--help');
  await eachOf(commands, 3, async (words) => {
    expect(whole).toContain(words[0]);
    const { code, stdout } = await installation.cli([...words, '--help']);
    if (code !== 0 || !stdout.startsWith(`Usage: stellwerk ${words.join(' ')}`) || stdout.split('\n').length < 5)
      silent.push(words.join(' '));
  });
  expect(silent).toEqual([]);
});

test('lists are tables for people and JSON for programs; what others wrote does not steer the terminal', async () => {
  for (const name of ['größe 日本', 'b', 'a rather long name of an experiment'])
    await typed(installation, 'experiment', 'create', name, '--tags', 'note=\u001b[31mred\u001b]0;title\u0007');
  const table = (await typed(installation, 'experiment', 'list')).trimEnd().split('\n');
  expect(table[0]).toMatch(/^name +/);
  expect(table).toHaveLength(4);
  expect(table.join('\n')).toContain('größe 日本');
  for (const shown of [table.join('\n'), await typed(installation, 'experiment', 'get', 'b')])
    expect(shown.includes('\u001b')).toBe(false);
  const { items } = await asked<{ items: { name: string; tags: object }[] }>(installation, 'experiment', 'list');
  expect(items.map(({ name }) => name).sort()).toEqual(['a rather long name of an experiment', 'b', 'größe 日本']);
  expect(items[0]!.tags).toEqual({ note: '\u001b[31mred\u001b]0;title\u0007' });
});

test('all pages of a long list come with --all, one page without', async () => {
  for (let at = 0; at < 5; at++) await typed(installation, 'experiment', 'create', `page ${at}`);
  const names = async (...args: string[]) =>
    (
      await asked<{ items: { name: string }[] }>(installation, 'experiment', 'list', '--page-size', '2', ...args)
    ).items.map(({ name }) => name);
  expect(await names()).toHaveLength(2);
  const all = await names('--all');
  expect(all.length).toBeGreaterThanOrEqual(5);
  expect(new Set(all).size).toBe(all.length);
});

test('errors go to standard error in a sentence with what to do, and the exit code tells whose fault it is', async () => {
  const refused = await installation.cli(['run', 'get', 'nicht da']);
  expect(refused).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/^Error: .*nicht da.*\nHint: {2}\S/),
  });
  const misused = await installation.cli(['run', 'get']);
  expect(misused).toMatchObject({ code: 2, stdout: '' });
  const away = await installation.cli(['run', 'list', '--url', 'http://127.0.0.1:9'], {
    env: { STELLWERK_TOKEN: 'x' },
  });
  expect(away).toMatchObject({ code: 1, stderr: expect.stringContaining('http://127.0.0.1:9') });
});

test('bash completes nouns, verbs and flags from the completion script', async () => {
  const folder = workFolder(installation.folder, {});
  const script = await typed(installation, 'completion', 'bash');
  writeFileSync(join(folder, 'completion.bash'), script);
  const complete = async (...words: string[]) => {
    const given = words.map((word) => `'${word}'`).join(' ');
    const program = `set -u; source ./completion.bash; complete -p stellwerk >/dev/null; COMP_WORDS=(stellwerk ${given}); COMP_CWORD=${words.length}; _stellwerk; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { code, stdout, stderr } = await execute('bash', ['-c', program], {
      cwd: folder,
      env: installation.environment,
    });
    expect([code, stderr]).toEqual([0, '']);
    return stdout.trim().split('\n');
  };
  expect(await complete('da')).toEqual(['datastore']);
  expect(await complete('run', 'su')).toEqual(['submit']);
  expect(await complete('run', 'submit', '--exp')).toEqual(['--experiment']);
  expect(await complete('service', 'regenerate')).toEqual(['regenerate-key']);
  for (const shell of ['zsh', 'fish'])
    expect(await typed(installation, 'completion', shell)).toContain('regenerate-key');
});
