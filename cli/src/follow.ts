// Follows what goes on on the server: a log as it grows, going on where it was when the connection breaks; a run until it ends.
import type { CallOptions, Client } from '@stellwerk/client/client.ts';
import { pause } from '@stellwerk/client/connection.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { endStates, type Run } from '@stellwerk/contract/run.ts';

/** `open` gives the log from an offset. Ends when the server ends the log. */
async function followLog(
  open: (offset: number, options: CallOptions) => Promise<Response>,
  write: (text: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  const decoder = new TextDecoder();
  let offset = 0;
  for (let failures = 0; ; ) {
    const before = offset;
    try {
      const response = await open(offset, { signal });
      for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        offset += chunk.length;
        write(decoder.decode(chunk, { stream: true }));
      }
      return;
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof ServiceError && error.code !== 'unavailable') throw error;
      failures = offset > before ? 0 : failures + 1;
      if (failures > 20) throw error;
      await pause(Math.min(250 * 2 ** failures, 5_000), signal).catch(() => {});
    }
  }
}

const runHasEnded = (run: Run) => endStates.includes(run.state);

/** Streams the run's output until the run has ended, and gives the run. */
export async function followRun(
  client: Client,
  which: { workspace: string; run: string },
  write: (text: string) => void,
  name?: string,
): Promise<Run> {
  for (;;) {
    try {
      await followLog(
        (offset, options) => client.logs.get({ ...which, ...(name ? { name } : {}), offset, follow: true }, options),
        write,
      );
      break;
    } catch (error) {
      // A run that has printed nothing yet has no log yet.
      if (!(error instanceof ServiceError && error.reason === 'run.file-not-found')) throw error;
      if (runHasEnded(await client.runs.get(which))) break;
      await pause(500);
    }
  }
  for (;;) {
    const run = await client.runs.get(which);
    if (runHasEnded(run)) return run;
    await pause(300);
  }
}
