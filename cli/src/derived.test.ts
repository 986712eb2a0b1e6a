import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathFields } from '@stellwerk/contract/verb.ts';
import { eachVerb, verbs } from '@stellwerk/contract/verbs.ts';
import { Command } from 'commander';
import { expect, it } from 'vitest';
import { flagsOf, inputFrom, schemaOf } from './flags.ts';
import { kebab, nounOf, positionalsOf, splitReference } from './names.ts';
import { buildProgram, calledBy } from './program.ts';

/** What a verb's flags make of what is typed. */
async function typed(input: Parameters<typeof schemaOf>[0], words: string[]): Promise<Record<string, unknown>> {
  const flags = flagsOf(schemaOf(input));
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  for (const { option } of flags) command.addOption(option);
  command.parse(words, { from: 'user' });
  return await inputFrom(flags, command.opts());
}

it('has a command for every verb, in the singular', async () => {
  const program = await buildProgram(undefined);
  for (const { noun, verb, name } of eachVerb()) {
    const group = program.commands.find((command) => command.name() === nounOf(noun));
    expect(
      group?.commands.map((command) => command.name()),
      name,
    ).toContain(kebab(verb));
  }
  const nouns = program.commands.map((command) => command.name());
  expect(nouns).toEqual(
    expect.arrayContaining(['activity', 'compute', 'package-index', 'me', 'audit', 'server', 'sign-in', 'up']),
  );
  expect(new Set(nouns).size).toBe(nouns.length);
});

it('the command that is called is found behind options, and is built whole', async () => {
  expect(calledBy(['--workspace', 'run', '--json', 'model', 'get', 'x'])).toEqual(['model', 'get']);
  expect(calledBy(['help', 'run', 'submit'])).toEqual(['run', 'submit']);
  const flags = async (...typed: string[]) => {
    const group = (await buildProgram(calledBy(typed))).commands.find((command) => typed.includes(command.name()));
    return group?.commands.find((command) => typed.includes(command.name()))?.options.map(({ long }) => long);
  };
  expect(await flags('run', 'query')).toContain('--order-by');
  expect(await flags('run', 'submit')).toContain('--experiment');
});

it('every field of every verb can be given, as a flag or without one', () => {
  for (const { name, declaration } of eachVerb()) {
    const positional = positionalsOf(name, declaration).map(({ field }) => field);
    const flags = flagsOf(schemaOf(declaration.input), new Set(positional)).map(({ path }) => path[0]);
    expect([...new Set([...positional, ...flags])].sort(), name).toEqual(
      [...new Set([...Object.keys(declaration.input.shape), ...positional])].sort(),
    );
    expect(positional.concat('workspace')).toEqual(expect.arrayContaining(pathFields(declaration.path)));
    const names = flagsOf(schemaOf(declaration.input)).map(({ option }) => option.long);
    expect(new Set(names).size, `${name} has a flag twice: ${names.join(' ')}`).toBe(names.length);
  }
});

it('lists repeat their flag, records take key=value, numbers and truth values are what they look like', async () => {
  expect(
    await typed(verbs.runs.start.input, [
      ...['--experiment', 'my first', '--tags', 'kind=ridge', '--tags', 'formula=a=b', '--parameters', 'alpha=0.1'],
      ...[
        '--parameters',
        'name=x',
        '--parameters',
        'deep=true',
        '--parameters',
        'none',
        '--git.commit',
        'abc',
        '--git.dirty',
      ],
    ]),
  ).toEqual({
    experiment: 'my first',
    tags: { kind: 'ridge', formula: 'a=b' },
    parameters: { alpha: 0.1, name: 'x', deep: true, none: null },
    git: { commit: 'abc', dirty: true },
  });
  expect(await typed(verbs.models.list.input, ['--tag', 'a', '--tag', 'b=1', '--latest', '--page-size', '5'])).toEqual({
    tag: ['a', 'b=1'],
    latest: true,
    pageSize: 5,
  });
  expect(await typed(verbs.users.update.input, ['--no-disabled'])).toEqual({ disabled: false });
  expect(await typed(verbs.packageIndexes.set.input, ['--no-index', '--no-proxy', 'a.example,b.example'])).toEqual({
    noIndex: true,
    noProxy: 'a.example,b.example',
  });
  expect(await typed(verbs.models.update.input, ['--tags', 'gone', '--tags', 'empty='])).toEqual({
    tags: { gone: null, empty: '' },
  });
});

it('the settings of a kind are flags of their own', async () => {
  const words = ['--name', 'runners', '--kind', 'host', '--user', 'runner', '--max-concurrent-runs', '2'];
  expect(await typed(verbs.compute.attach.input, words)).toEqual({
    name: 'runners',
    settings: { kind: 'host', user: 'runner', maxConcurrentRuns: 2 },
  });
});

it('an object comes from a file in JSON or YAML, and single flags go before it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cli ü '));
  try {
    writeFileSync(
      join(folder, 'c.yml'),
      '\ufeffscript: train.py\r\narguments:\r\n  - --alpha\r\n  - 0.1\r\nenvironment:\r\n  python: "3.10"\r\n',
    );
    writeFileSync(join(folder, 'e.json'), '{"python": "3.11", "requirements": ["six"]}');
    const input = await typed(verbs.runs.submit.input, [
      ...['--configuration', `@${join(folder, 'c.yml')}`, '--configuration.target', 'host'],
      ...['--configuration.environment', `@${join(folder, 'e.json')}`],
    ]);
    expect(input.configuration).toEqual({
      script: 'train.py',
      arguments: ['--alpha', 0.1],
      target: 'host',
      environment: { python: '3.11', requirements: ['six'] },
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('a record never gets a prototype from what is typed', async () => {
  const input = await typed(verbs.runs.start.input, ['--tags', '__proto__=x', '--tags', '{"constructor":"y"}']);
  expect(Object.keys(input.tags as object).sort()).toEqual(['__proto__', 'constructor']);
  expect(({} as Record<string, unknown>).x).toBeUndefined();
});

it('a model is named by name, name:version or name:alias', () => {
  expect(splitReference('diabetes')).toEqual({ name: 'diabetes', version: 'latest' });
  expect(splitReference('a:b:3')).toEqual({ name: 'a:b', version: '3' });
  expect(splitReference('diabetes', 'champion')).toEqual({ name: 'diabetes', version: 'champion' });
});
