// Work that several callers want at the same time is done once: all of them get its result and its log from the start.
// It is stopped only when each of them has given up; one that gives up returns at once.
export class Once<T> {
  readonly #running = new Map<string, Work<T>>();

  get(key: string, watch: Watch, make: (watch: Required<Watch>) => Promise<T>): Promise<T> {
    watch.signal?.throwIfAborted();
    const joined = this.#running.get(key);
    const work = joined && !joined.stop.signal.aborted ? joined : this.#start(key, make);
    for (const line of work.lines) watch.log?.(line);
    return join(work, watch);
  }

  #start(key: string, make: (watch: Required<Watch>) => Promise<T>): Work<T> {
    const stop = new AbortController();
    const work: Work<T> = { stop, lines: [], watchers: new Set(), result: Promise.resolve() as Promise<T> };
    const log = (line: string) => {
      work.lines.push(line);
      for (const watcher of work.watchers) watcher.log?.(line);
    };
    work.result = Promise.resolve()
      .then(() => make({ signal: stop.signal, log }))
      .finally(() => {
        if (this.#running.get(key) === work) this.#running.delete(key);
      });
    work.result.catch(() => {}); // told to each of those that wait; nobody may be left
    this.#running.set(key, work);
    return work;
  }
}

export interface Watch {
  log?: (line: string) => void;
  signal?: AbortSignal;
}

interface Work<T> {
  stop: AbortController;
  lines: string[];
  watchers: Set<Watch>;
  result: Promise<T>;
}

function join<T>(work: Work<T>, watch: Watch): Promise<T> {
  const watcher = { ...watch };
  work.watchers.add(watcher);
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const leave = () => {
    work.watchers.delete(watcher);
    if (work.watchers.size === 0) work.stop.abort();
    reject(watch.signal?.reason);
  };
  watch.signal?.addEventListener('abort', leave, { once: true });
  work.result.then(resolve, reject).finally(() => {
    work.watchers.delete(watcher);
    watch.signal?.removeEventListener('abort', leave);
  });
  return promise;
}
