// `stellwerk secret set`: the value comes from standard input, a file, or is asked for; never from the command line, which others can read.
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { ask, readInput } from '../ask.ts';
import { UsageError } from '../failures.ts';
import { line, printJson } from '../print.ts';
import type { Session } from '../session.ts';
import { recordOf } from '../show/record.ts';

export function setSecretCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('set')
    .argument('<name>')
    .option('--file <file>', 'Take the value from a file, as it is.')
    .option('--stdin', 'Take the value from standard input; a line end at its end is left out.');
  return command.action(async (name: string) => {
    const session = sessionOf(command);
    const value = await valueFrom(command.opts());
    const client = await session.client();
    const kept = await client.secrets.set({ workspace: session.workspace, name, value });
    if (session.json) printJson(kept);
    else line(recordOf(kept));
  });
}

async function valueFrom({ file, stdin }: { file?: string; stdin?: boolean }): Promise<string> {
  if (file !== undefined && stdin) throw new UsageError('Give --file or --stdin, not both.');
  if (stdin) return (await readInput()).replace(/\r?\n$/, '');
  if (file === undefined) return ask('Value: ', '--stdin or --file');
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError(`The file ${JSON.stringify(file)} cannot be read: ${(error as Error).message}.`);
  }
}
