// Follows what goes on on the server: a log as it grows, going on where it was when the connection breaks; a run until it ends.
import type { CallOptions, Client } from '@stellwerk/client/client.ts';
import { pause } from '@stellwerk/client/connection.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { endStates } from '@stellwerk/contract/run-state.ts';

const livedMs = 60_000;
const lookMs = 5_000;

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
    const begun = performance.now();
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
      // A connection that lived for long and was silent is no failure: scripts may say nothing for hours.
      failures = offset > before || performance.now() - begun > livedMs ? 0 : failures + 1;
      if (failures > 20) throw error;
      await pause(Math.min(250 * 2 ** failures, 5_000), signal).catch(() => {});
    }
  }
}

const runHasEnded = (run: Run) => endStates.includes(run.state);

interface Following {
  write(text: string): void;
  /** Told once when nothing is heard of the runner any more; the run may come back. */
  onLost(run: Run): void;
  /** Another log than the output. */
  name?: string | undefined;
}

/** Streams the run's output until the run has ended, and gives the run. */
export async function followRun(
  client: Client,
  which: { workspace: string; run: string },
  { write, onLost, name }: Following,
): Promise<Run> {
  const done = new AbortController();
  void tellLoss(client, which, onLost, done.signal);
  try {
    await outputOf(client, { ...which, ...(name ? { name } : {}) }, write);
    for (;;) {
      const run = await client.runs.get(which);
      if (runHasEnded(run)) return run;
      await pause(300);
    }
  } finally {
    done.abort();
  }
}

async function outputOf(
  client: Client,
  which: { workspace: string; run: string; name?: string },
  write: (text: string) => void,
): Promise<void> {
  for (;;) {
    try {
      return await followLog((offset, options) => client.logs.get({ ...which, offset, follow: true }, options), write);
    } catch (error) {
      // A run that has printed nothing yet has no log yet.
      if (!(error instanceof ServiceError && error.reason === 'run.file-not-found')) throw error;
      const { workspace, run } = which;
      if (runHasEnded(await client.runs.get({ workspace, run }))) return;
      await pause(500);
    }
  }
}

async function tellLoss(
  client: Client,
  which: { workspace: string; run: string },
  onLost: (run: Run) => void,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const run = await client.runs.get(which, { signal }).catch(() => undefined); // whoever follows hears of failures
    if (run?.state === 'lost') return onLost(run);
    await pause(lookMs, signal).catch(() => {});
  }
}
