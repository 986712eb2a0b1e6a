// Waits for a long operation that a command has begun, showing how far it is; its failure is the command's failure.
import { waitForActivity } from '@stellwerk/client/activities.ts';
import type { Activity } from '@stellwerk/contract/activity.ts';
import { CommandFailed } from './failures.ts';
import { activityLine } from './print.ts';
import type { Session } from './session.ts';

export async function awaitActivity(activity: string, session: Session): Promise<Activity> {
  const client = await session.client();
  const which = { workspace: session.workspace, activity };
  let shown = '';
  const ended = await waitForActivity(client, which, {
    onChange: (changed) => {
      const text = activityLine(changed);
      const said = text.replace(/\d\d:\d\d:\d\d/, '');
      if (said !== shown && !session.json) process.stderr.write(`${text}\n`);
      shown = said;
    },
  });
  if (ended.state === 'succeeded') return ended;
  const told = ended.error ? `: ${ended.error.message}` : '.';
  throw new CommandFailed(
    `${ended.kind} ${ended.subject} ${ended.state === 'canceled' ? 'was canceled' : 'failed'}${told}`,
    ended.error?.hint ?? `Its log: stellwerk activity get-log ${activity}`,
  );
}
