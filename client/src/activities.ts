// Waiting for long operations without polling by hand: `waitForActivity`, and `onActivityChange` with a callback.
import type { Activity } from '@stellwerk/contract/activity.ts';
import type { Client } from './client.ts';

export interface WaitOptions {
  signal?: AbortSignal | undefined;
  /** Told the activity as it is first, and after every change. */
  onChange?: ((activity: Activity) => void) | undefined;
}

/** A stream that opens tells what changes from then on: it is looked then, and now and again for good measure. */
const lookAgainMs = 10_000;

/** Gives the activity as it ended. A failed one is given like any other: its `error` says why. */
export async function waitForActivity(
  client: Client,
  which: { workspace: string; activity: string },
  options: WaitOptions = {},
): Promise<Activity> {
  let seen: string | undefined;
  const tell = (activity: Activity) => {
    const text = JSON.stringify(activity);
    if (text !== seen) options.onChange?.(activity);
    seen = text;
    return hasEnded(activity);
  };
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  let opened = Promise.withResolvers<'opened'>();
  const events = client.activities.watch(which, { signal, onOpen: () => opened.resolve('opened') });
  try {
    let next = quiet(events.next());
    for (;;) {
      const activity = await client.activities.get(which, { signal });
      if (tell(activity)) return activity;
      for (;;) {
        const event = await Promise.race([next, opened.promise, after(lookAgainMs)]);
        options.signal?.throwIfAborted();
        if (event === 'opened') opened = Promise.withResolvers();
        if (event === undefined || event === 'opened' || event.done) break;
        if (tell(event.value.activity)) return event.value.activity;
        next = quiet(events.next());
      }
    }
  } finally {
    stop.abort();
  }
}

/** It is awaited later, and must not count as unhandled meanwhile. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** Calls back on every change until it is stopped; errors of the stream go to `onError`. */
export function onActivityChange(
  client: Client,
  which: { workspace: string; activity?: string | undefined; after?: number | undefined },
  callback: (activity: Activity) => void,
  onError: (error: unknown) => void = () => {},
): { stop(): void } {
  const stop = new AbortController();
  const { activity, after } = which;
  const input = {
    workspace: which.workspace,
    ...(activity === undefined ? {} : { activity }),
    ...(after === undefined ? {} : { after }),
  };
  const listen = async () => {
    for await (const event of client.activities.watch(input, { signal: stop.signal })) callback(event.activity);
  };
  listen().catch((error: unknown) => {
    if (!stop.signal.aborted) onError(error);
  });
  return { stop: () => stop.abort() };
}

export function hasEnded(activity: Activity): boolean {
  return activity.state === 'succeeded' || activity.state === 'failed' || activity.state === 'canceled';
}

function after(ms: number): Promise<undefined> {
  return new Promise((resolve) => {
    setTimeout(resolve, Math.max(ms, 0), undefined).unref?.();
  });
}
