// Loaded into a server before anything of it (`--import`): it dies, as by kill -9, right before or right after a change of the database
// that is given by name, or writes down which changes there are. So every point between two changes of state is met, on the real
// server, which knows nothing of it: all that it changes goes to its database worker as a named transaction.
import { appendFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import threads from 'node:worker_threads';

/** What a story gives in the environment of the server. */
export interface Death {
  /** `before run.keep`, `after activity.release: succeeded`. */
  STORY_DIES_AT?: string;
  /** A file that gets the names of the changes, a line each. */
  STORY_CHANGES?: string;
}

interface Call {
  id: number;
  name?: string;
  input?: unknown;
}

const { STORY_DIES_AT: diesAt, STORY_CHANGES: changes } = process.env as Death;
const counts = new Map<string, number>();

type Part = Record<string, unknown> | undefined;

/** A change by its transaction, what it changes to, and the how manieth of these it is. */
function nameOf({ name, input }: Call): string {
  const { change, report, move, set, kept, ...rest } = (input ?? {}) as Record<string, Part>;
  const words = [change, report, move, set].flatMap((part) => [part?.message, part?.state, part?.progress, part?.to]);
  words.push(rest.to, rest.state);
  const word = words.find((part) => typeof part === 'string') ?? Object.keys(kept ?? {}).join('+');
  return counted(word === '' ? String(name) : `${name}: ${String(word).replace(/\.$/, '')}`);
}

function counted(what: string): string {
  const count = (counts.get(what) ?? 0) + 1;
  counts.set(what, count);
  return count === 1 ? what : `${what} (${count})`;
}

const die = () => process.kill(process.pid, 'SIGKILL');

class DyingWorker extends threads.Worker {
  readonly #writes: boolean;
  /** The call after whose answer the server dies. */
  #last: number | undefined;
  readonly #claims = new Set<number>();

  constructor(file: string | URL, options?: threads.WorkerOptions) {
    super(file, options);
    this.#writes = options?.workerData?.mode === 'writer';
    // Before whoever waits for the answer: what was committed is on the disk, and nobody has acted on it.
    this.on('message', ({ answers = [] }: { answers?: { id: number; value?: unknown }[] }) => {
      for (const { id, value } of answers) if (id === this.#last || this.#diesWith(id, value)) die();
    });
  }

  override postMessage(value: unknown, transfer?: readonly threads.Transferable[]): void {
    const call = value as Call;
    if (this.#writes && call.name === 'activity.claim') this.#claims.add(call.id);
    else if (this.#writes && call.name !== undefined) {
      const name = nameOf(call);
      if (changes) appendFileSync(changes, `before ${name}\nafter ${name}\n`);
      if (diesAt === `before ${name}`) die();
      if (diesAt === `after ${name}`) this.#last = call.id;
    }
    super.postMessage(value, transfer);
  }

  /** Most claims find nothing and change nothing: what one has taken is known afterwards. */
  #diesWith(id: number, value: unknown): boolean {
    if (!this.#claims.delete(id)) return false;
    const taken = (value as { kind: string }[]).map(({ kind }) => `after ${counted(`activity.claim: ${kind}`)}`);
    if (changes && taken.length > 0) appendFileSync(changes, `${taken.join('\n')}\n`);
    return taken.some((name) => name === diesAt);
  }
}

if (threads.isMainThread) {
  threads.Worker = DyingWorker;
  syncBuiltinESMExports();
}
