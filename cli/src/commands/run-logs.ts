// `stellwerk run logs <run>`: what the script printed; with --follow live until the run has ended.
import { Command } from 'commander';
import { followRun } from '../follow.ts';
import { noteLoss, printLog } from '../print.ts';
import type { Session } from '../session.ts';

export function logsCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('logs')
    .argument('<run>', 'The run.')
    .option('--follow', 'Go on until the run has ended.')
    .option('--name <path>', 'Another log than output.txt.');
  return command.action(async (run: string) => {
    const session = sessionOf(command);
    const { follow, name } = command.opts<{ follow?: boolean; name?: string }>();
    const client = await session.client();
    const which = { workspace: session.workspace, run };
    if (follow) return void (await followRun(client, which, { write: printLog, onLost: noteLoss, name }));
    const response = await client.logs.get({ ...which, ...(name ? { name } : {}) });
    const decoder = new TextDecoder();
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>)
      printLog(decoder.decode(chunk, { stream: true }));
  });
}
