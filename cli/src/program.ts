// All commands: one for every verb of the contract, and the comforts on top, which take the place of the verb of the same name.
// Only the commands of the noun that is called are built, so that the start is quick.
import type { Verb } from '@stellwerk/contract/verb.ts';
import { Command, Option } from 'commander';
import { comforts } from './comforts.ts';
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

export async function buildProgram(called: string | undefined): Promise<Command> {
  const program = new Command('stellwerk')
    .description('Train, log, compare, register, build images, deploy.')
    .version(version, '-V, --version', 'Show the version.')
    .enablePositionalOptions()
    .showHelpAfterError('Add --help to see what the command takes.')
    .exitOverride();
  addGlobalOptions(program);
  const table = await nouns();
  const names = [...new Set([...comforts.map((comfort) => comfort.name.split(' ')[0]!), ...table.keys()])];
  for (const name of names) {
    const built = await commandOf(
      name,
      table.get(name),
      called === undefined || called === name || called === 'completion',
    );
    program.addCommand(built);
  }
  return program;
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

async function commandOf(name: string, inTable: NounOfTable | undefined, whole: boolean): Promise<Command> {
  const own = comforts.filter((comfort) => comfort.name.split(' ')[0] === name);
  const alone = own.find((comfort) => comfort.name === name);
  if (alone) {
    const command = whole ? await alone.build(sessionOf) : new Command(name);
    return addGlobalOptions(command.description(alone.summary).exitOverride());
  }
  const group = new Command(name).description(describe(inTable, own)).exitOverride();
  if (!whole) return group;
  for (const comfort of own)
    group.addCommand(addGlobalOptions((await comfort.build(sessionOf)).description(comfort.summary).exitOverride()));
  const taken = new Set(own.map((comfort) => comfort.name.split(' ')[1]));
  const { derivedCommand } = await import('./derived.ts');
  for (const [verb, declaration] of inTable?.verbs ?? []) {
    if (taken.has(kebab(verb))) continue;
    const command = derivedCommand({ noun: inTable!.noun, verb, declaration }, sessionOf);
    group.addCommand(addGlobalOptions(command.exitOverride()));
  }
  return group;
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
