// `stellwerk run sync`: sends the runs that were logged on this machine without a server.

import { run } from '@stellwerk/server/exec/programs.ts';
import { Command } from 'commander';
import { CommandFailed } from '../failures.ts';
import { serverWheel } from '../local-run.ts';
import { line } from '../print.ts';
import type { Session } from '../session.ts';
import { plain } from '../show/plain.ts';
import { surroundings } from '../surroundings.ts';

export function syncCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('sync').argument(
    '[folders...]',
    'Folders of offline runs; all of this user unless given.',
  );
  command.option('--experiment <name>', 'Where they are filed; as each says itself unless given.');
  return command.action(async (folders: string[]) => {
    const session = sessionOf(command);
    const client = await session.client();
    const { experiment } = command.opts<{ experiment?: string }>();
    const filed = experiment === undefined ? [] : ['--experiment', experiment];
    const ended = await run({
      command: surroundings.python,
      args: ['-m', 'stellwerk', 'sync', '--workspace', session.workspace, ...filed, '--', ...folders],
      env: {
        ...surroundings.environment(),
        PYTHONPATH: await serverWheel(client),
        STELLWERK_URL: session.url,
        ...(session.caBundleFile ? { STELLWERK_CA_BUNDLE: session.caBundleFile } : {}),
        ...(session.token ? { STELLWERK_TOKEN: session.token } : {}),
      },
      onLine: (text) => line(plain(text)),
    });
    if (ended.code !== 0)
      throw new CommandFailed('Not all runs could be sent; see above.', 'Nothing is lost: sync again later.');
  });
}
