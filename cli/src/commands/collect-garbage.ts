// `stellwerk server collect-garbage`: begins a collection, waits for it, and tells kind by kind what it freed.
import { setTimeout as pause } from 'node:timers/promises';
import type { Collection, CollectionReport } from '@stellwerk/contract/server.ts';
import { serverVerbs } from '@stellwerk/contract/server.ts';
import { Command } from 'commander';
import { CommandFailed } from '../failures.ts';
import { flagsOf, inputFrom, schemaOf } from '../flags.ts';
import { line, printJson } from '../print.ts';
import type { Session } from '../session.ts';
import { shownSize } from '../show/values.ts';

const lookEveryMs = 300;

export function collectCommand(sessionOf: (command: Command) => Session): Command {
  const flags = flagsOf(schemaOf(serverVerbs.server.collectGarbage.input), new Set());
  const command = new Command('collect-garbage');
  for (const { option } of flags) command.addOption(option);
  return command.action(async () => {
    const session = sessionOf(command);
    const client = await session.client();
    const input = await inputFrom(flags, command.opts());
    let collection: Collection = await client.server.collectGarbage(input);
    while (!collection.endedAt) {
      await pause(lookEveryMs);
      collection = await client.server.getCollection({ collection: collection.id });
    }
    if (session.json) printJson(collection);
    if (collection.state !== 'succeeded')
      throw new CommandFailed(collection.error?.message ?? collection.progress.message);
    if (!session.json) tell(collection);
  });
}

function tell({ dryRun, report }: Collection): void {
  const { trash, freedBytes, ...kinds } = report as CollectionReport;
  for (const [kind, { count, sizeBytes }] of Object.entries(kinds))
    if (count > 0) line(`${kind.padEnd(10)} ${String(count).padStart(8)}  ${shownSize(sizeBytes)}`);
  if (trash.count > 0) line(`${dryRun ? 'It would empty' : 'Emptied'} ${trash.count} entries of the trash.`);
  line(`${dryRun ? 'It would free' : 'Freed'} ${shownSize(freedBytes)}.`);
}
