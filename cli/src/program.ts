// All commands: one for every verb of the contract, and the comforts on top, which take the place of the verb of the same name.
// Only the commands of the noun that is called are built, so that the start is quick.
import type { Verb } from '@stellwerk/contract/verb.ts';
import { Command, Option } from 'commander';
import { comforts } from './comforts.ts';
import type { DerivedVerb } from './derived.ts';
import { kebab, nounOf } from './names.ts';
import { type GlobalOptions, Session } from './session.ts';
import { version } from './version.ts';

export interface Comfort {
  /** `run submit`; `up` stands alone. */
  name: string;
  build: (sessionOf: (command: Command) => Session) => Promise<Command> | Command;
  summary: string;
}

function sessionOf(command: Command): Session {
  return new Session(command.optsWithGlobals<GlobalOptions>());
}

/** The noun and the verb that are called; what is not called is built as a name and a summary only. */
export type Called = readonly [noun?: string, verb?: string];

/** `undefined` builds everything. */
export async function buildProgram(called: Called | undefined): Promise<Command> {
  const program = new Command('stellwerk')
    .description('Train, log, compare, register, build images, deploy.')
    .version(version, '-V, --version', 'Show the version.')
    .enablePositionalOptions()
    .showHelpAfterError('Add --help to see what the command takes.')
    .exitOverride();
  addGlobalOptions(program);
  const alone = comforts.find(({ name }) => name === called?.[0]);
  if (alone) return program.addCommand(await commandOf(alone.name, undefined, called));
  const table = await nouns();
  const names = new Set([...comforts.map(({ name }) => name.split(' ')[0]!), ...table.keys()]);
  for (const name of names) program.addCommand(await commandOf(name, table.get(name), called));
  return program;
}

/** Words that are no options, without the values of options that may stand in front. */
export function calledBy(typed: readonly string[]): Called {
  const words = typed.filter((word, at) => !word.startsWith('-') && !/^--(workspace|url)$/.test(typed[at - 1] ?? ''));
  return (words[0] === 'help' ? words.slice(1, 3) : words.slice(0, 2)) as [string?, string?];
}

interface NounOfTable {
  noun: string;
  verbs: [verb: string, declaration: Verb][];
}

/** By its name on the command line. */
async function nouns(): Promise<Map<string, NounOfTable>> {
  const { verbs } = await import('@stellwerk/contract/verbs.ts');
  return new Map(
    Object.entries(verbs).map(([noun, declared]) => [
      nounOf(noun),
      { noun, verbs: Object.entries(declared as Record<string, Verb>) },
    ]),
  );
}

async function commandOf(name: string, inTable: NounOfTable | undefined, called: Called | undefined): Promise<Command> {
  const own = comforts.filter((comfort) => comfort.name.split(' ')[0] === name);
  const isCalled = called === undefined || called[0] === name;
  const alone = own.find((comfort) => comfort.name === name);
  if (alone) return finished(isCalled ? await alone.build(sessionOf) : new Command(name), alone.summary);
  const group = new Command(name).description(describe(inTable, own)).exitOverride();
  if (!isCalled) return group;
  const isWanted = (verb: string) => called === undefined || called[1] === verb;
  for (const { name: full, summary, build } of own) {
    const verb = full.split(' ')[1]!;
    group.addCommand(finished(isWanted(verb) ? await build(sessionOf) : new Command(verb), summary));
  }
  for (const [verb, declaration] of inTable?.verbs ?? []) {
    if (own.some((comfort) => comfort.name === `${name} ${kebab(verb)}`)) continue;
    const derived = { noun: inTable!.noun, verb, declaration };
    const command = isWanted(kebab(verb)) ? await derivedFrom(derived) : new Command(kebab(verb));
    group.addCommand(finished(command, declaration.summary));
  }
  return group;
}

async function derivedFrom(derived: DerivedVerb): Promise<Command> {
  return (await import('./derived.ts')).derivedCommand(derived, sessionOf);
}

function finished(command: Command, summary: string): Command {
  return addGlobalOptions(command.description(summary).exitOverride());
}

function describe(inTable: NounOfTable | undefined, own: readonly Comfort[]): string {
  const verbs = [
    ...own.map((comfort) => comfort.name.split(' ')[1]!),
    ...(inTable?.verbs ?? []).map(([verb]) => kebab(verb)),
  ];
  return [...new Set(verbs)].join(', ');
}

function addGlobalOptions(command: Command): Command {
  const add = (option: Option) => {
    if (!command.options.some((known) => known.long === option.long)) command.addOption(option);
  };
  add(new Option('--workspace <name>', 'The workspace; that of this folder unless given.'));
  add(new Option('--url <url>', 'The server; the one signed in to unless given.'));
  add(new Option('--json', 'Give the answer as JSON.'));
  return command;
}
