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
const startedAt = new Date().toISOString();
const counts = new Map<string, number>();

type Part = Record<string, unknown> | undefined;

/** A change by its transaction, what it changes to, and the how manieth of these it is. */
function nameOf({ name, input }: Call): string {
  const { change, report, move, set, kept, ...rest } = (input ?? {}) as Record<string, Part>;
  const words = [change, report, move, set].flatMap((part) => [part?.state, part?.message, part?.progress, part?.to]);
  if (name === 'activity.change') words.unshift(change?.message); // its state is the same all the time
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

/** Sees what a worker is sent before it, and what it answers before whoever waits for that. */
function watch(worker: threads.Worker): void {
  const claims = new Set<number>();
  /** Activities from before this server's start: what it does for them is not what the story is about. */
  const old = new Set<unknown>();
  /** The call after whose answer the server dies. */
  let last: number | undefined;
  worker.on('message', ({ answers = [] }: { answers?: { id: number; value?: unknown }[] }) => {
    for (const { id, value } of answers) {
      if (claims.delete(id)) told(claimed(value as Claimed[], old));
      if (id === last) die(); // what was committed is on the disk, and nobody has acted on it
    }
  });
  const post = worker.postMessage.bind(worker);
  worker.postMessage = (value: unknown, transfer?: readonly threads.Transferable[]) => {
    const call = value as Call;
    if (call.name === 'activity.claim') claims.add(call.id);
    else if (call.name !== undefined && !isAbout(call, old)) {
      const name = nameOf(call);
      told([`before ${name}`]);
      if (changes) appendFileSync(changes, `after ${name}\n`);
      if (diesAt === `after ${name}`) last = call.id;
    }
    post(value, transfer);
  };
}

interface Claimed {
  id: string;
  kind: string;
  created_at: string;
}

/** Most claims find nothing and change nothing: what one has taken is known afterwards. */
function claimed(taken: Claimed[], old: Set<unknown>): string[] {
  for (const { id, created_at } of taken) if (created_at < startedAt) old.add(id);
  return taken.filter(({ id }) => !old.has(id)).map(({ kind }) => `after ${counted(`activity.claim: ${kind}`)}`);
}

function isAbout({ name, input }: Call, activities: Set<unknown>): boolean {
  return name!.startsWith('activity.') && activities.has((input as { id?: unknown } | undefined)?.id);
}

function told(points: string[]): void {
  if (changes) for (const point of points) appendFileSync(changes, `${point}\n`);
  if (points.some((point) => point === diesAt)) die();
}

if (threads.isMainThread) {
  threads.Worker = new Proxy(threads.Worker, {
    construct(target, [file, options], made) {
      const worker = Reflect.construct(target, [file, options], made) as threads.Worker;
      if (options?.workerData?.mode === 'writer') watch(worker);
      return worker;
    },
  });
  syncBuiltinESMExports();
}
