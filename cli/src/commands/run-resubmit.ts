// `stellwerk run resubmit <run>`: does a run again; where it runs on this machine, it is started here.
import { runVerbs } from '@stellwerk/contract/run.ts';
import type { InputOf } from '@stellwerk/contract/verbs.ts';
import { Command, Option } from 'commander';
import { flagsOf, inputFrom, schemaOf } from '../flags.ts';
import { note, printAnswer } from '../print.ts';
import type { Session } from '../session.ts';
import { follow, secretValues, startHere } from './run-submit.ts';

/** What the command does by itself. */
const notTyped = new Set(['workspace', 'run', 'secrets']);

export function resubmitCommand(sessionOf: (command: Command) => Session): Command {
  const flags = flagsOf(schemaOf(runVerbs.runs.resubmit.input), notTyped);
  const command = new Command('resubmit')
    .argument('<run>', 'The run; the values of its secrets are taken from the environment variables of their names.')
    .addOption(new Option('--follow', 'Show the output live, and end as the script ends.'));
  for (const { option } of flags) command.addOption(option);
  return command.action(async (first: string) => {
    const session = sessionOf(command);
    const typed = command.opts();
    const { workspace } = session;
    const client = await session.client();
    const { configuration } = await client.runs.get({ workspace, run: first });
    const secrets = secretValues(configuration?.secrets ?? []);
    const input = { ...(await inputFrom(flags, typed)), workspace, run: first, ...secrets };
    const run = await client.runs.resubmit(input as InputOf<'runs', 'resubmit'>);
    if (run.target === 'local') await startHere(client, workspace, run);
    if (!session.json) for (const difference of run.differences ?? []) note(difference);
    if (typed.follow) await follow(run, session);
    else await printAnswer(run, 'runs.get', session);
  });
}
