// `stellwerk activity wait <activity>`: until a long operation has ended, without polling.
import { Command } from 'commander';
import { awaitActivity } from '../await-activity.ts';
import { printAnswer } from '../print.ts';
import type { Session } from '../session.ts';

export function waitCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('wait').argument('<activity>', 'The activity.');
  return command.action(async (activity: string) => {
    const session = sessionOf(command);
    await printAnswer(await awaitActivity(activity, session), 'activities.get', session);
  });
}
