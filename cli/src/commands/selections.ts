// `stellwerk run delete-many`, `run archive-many`, `trash empty`: what they are about is told first, and asked about; then it is done.
import { createInterface } from 'node:readline/promises';
import type { Client } from '@stellwerk/client/client.ts';
import type { Activity } from '@stellwerk/contract/activity.ts';
import { runVerbs } from '@stellwerk/contract/run.ts';
import type { SelectionReport } from '@stellwerk/contract/run-selection.ts';
import { Command, Option } from 'commander';
import { awaitActivity } from '../await-activity.ts';
import { CommandFailed, UsageError } from '../failures.ts';
import { flagsOf, inputFrom, schemaOf } from '../flags.ts';
import { line, printJson } from '../print.ts';
import type { Session } from '../session.ts';
import { shownSize } from '../show/values.ts';
import { surroundings } from '../surroundings.ts';

type Begin = (client: Client, dryRun: boolean) => Promise<Activity>;

const yes = () => new Option('--yes', 'Do not ask.');
const dryRun = () => new Option('--dry-run', 'Only tell what it would be.');

export function selectionCommand(
  sessionOf: (command: Command) => Session,
  verb: 'archiveMany' | 'deleteMany',
): Command {
  const flags = flagsOf(schemaOf(runVerbs.runs[verb].input), new Set(['workspace', 'dryRun']));
  const command = new Command(verb === 'archiveMany' ? 'archive-many' : 'delete-many');
  for (const { option } of flags) command.addOption(option);
  return command
    .addOption(dryRun())
    .addOption(yes())
    .action(async () => {
      const session = sessionOf(command);
      const selection = await inputFrom(flags, command.opts());
      if (Object.keys(selection).length === 0)
        throw new UsageError('Say which: --filter, --experiment, --parent or --ancestor.');
      const { workspace } = session;
      const doing = verb === 'archiveMany' ? 'Archive' : 'Put into the trash';
      await askThenDo(session, command.opts(), doing, (client, dry) =>
        client.runs[verb]({ ...selection, workspace, dryRun: dry }),
      );
    });
}

export function emptyCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('empty').argument('[entry]', 'Only this entry; all unless given.');
  return command
    .addOption(dryRun())
    .addOption(yes())
    .action(async (given: string | undefined) => {
      const session = sessionOf(command);
      if (given !== undefined && !/^\d+$/.test(given)) throw new UsageError(`An entry is a number, not ${given}.`);
      const entry = given === undefined ? {} : { entry: Number(given) };
      const { workspace } = session;
      await askThenDo(session, command.opts(), 'Delete for good', (client, dry) =>
        client.trash.empty({ ...entry, workspace, dryRun: dry }),
      );
    });
}

async function askThenDo(
  session: Session,
  { yes, dryRun }: { yes?: boolean; dryRun?: boolean },
  doing: string,
  begin: Begin,
): Promise<void> {
  const client = await session.client();
  const run = async (dry: boolean) => {
    const { report } = await awaitActivity((await begin(client, dry)).id, session);
    return report as SelectionReport;
  };
  if (!yes || dryRun) {
    const foreseen = await run(true);
    if (dryRun) return tell(foreseen, session);
    const nothing = foreseen.runs + (foreseen.models ?? 0) === 0;
    if (nothing) return tell(foreseen, session);
    await confirm(`${doing}: ${inWords(foreseen)}?`);
  }
  tell(await run(false), session);
}

function tell(report: SelectionReport, session: Session): void {
  if (session.json) printJson(report);
  else line(`${inWords(report)}.`);
}

export function inWords({ runs, models, files, sizeBytes, freedBytes, points, skipped }: SelectionReport): string {
  const parts = [
    `${runs} runs`,
    ...(models ? [`${models} models`] : []),
    ...(files === undefined ? [] : [`${files} files of ${shownSize(sizeBytes ?? 0)}`]),
    ...(points ? [`${points} points`] : []),
    ...(freedBytes === undefined ? [] : [`of which ${shownSize(freedBytes)} belong to nothing else`]),
  ];
  const rest = skipped ? `; ${skipped} have not ended, or have descendants that have not, and stay` : '';
  return `${parts.join(', ')}${rest}`;
}

async function confirm(question: string): Promise<void> {
  if (!surroundings.isTerminal || !process.stdin.isTTY)
    throw new CommandFailed(question, 'Nobody can be asked here: add --yes to do it, or --dry-run to only look.');
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await asking.question(`${question} [y/N] `).finally(() => asking.close());
  if (!/^y(es)?$/i.test(answer.trim())) throw new CommandFailed('Nothing was done.');
}
