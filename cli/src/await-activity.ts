// Waits for a long operation that a command has begun, showing how far it is; its failure is the command's failure.
import { waitForActivity } from '@stellwerk/client/activities.ts';
import type { Activity } from '@stellwerk/contract/activity.ts';
import { CommandFailed } from './failures.ts';
import { activityLine } from './print.ts';
import type { Session } from './session.ts';
import { plain } from './show/plain.ts';
import { activityBar } from './show/progress.ts';
import { surroundings } from './surroundings.ts';

export async function awaitActivity(activity: string, session: Session): Promise<Activity> {
  const client = await session.client();
  const watcher = session.json ? silent : surroundings.showsProgress ? onBar() : inLines();
  try {
    const which = { workspace: session.workspace, activity };
    const ended = await waitForActivity(client, which, { onChange: watcher.changed });
    if (ended.state !== 'succeeded') throw failed(ended);
    return ended;
  } finally {
    watcher.stop();
  }
}

interface Watcher {
  changed(activity: Activity): void;
  stop(): void;
}

const silent: Watcher = { changed: () => {}, stop: () => {} };

function onBar(): Watcher {
  let bar: ReturnType<typeof activityBar> | undefined;
  return {
    changed: ({ kind, subject, progress }) => {
      bar ??= activityBar(`${kind} ${plain(subject)}`);
      bar.show(progress.fraction, plain(progress.message));
    },
    stop: () => bar?.stop(),
  };
}

/** Without a terminal each change that says something new is a line. */
function inLines(): Watcher {
  let shown = '';
  return {
    changed: (activity) => {
      const said = `${activity.state} ${activity.progress.message}`;
      if (said !== shown) process.stderr.write(`${activityLine(activity)}\n`);
      shown = said;
    },
    stop: () => {},
  };
}

function failed({ id, kind, subject, state, error }: Activity): CommandFailed {
  const told = error ? `: ${error.message}` : '.';
  return new CommandFailed(
    `${kind} ${subject} ${state === 'canceled' ? 'was canceled' : 'failed'}${told}`,
    error?.hint ?? `Its log: stellwerk activity get-log ${id}`,
  );
}
