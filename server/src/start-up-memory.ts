// What starting made is garbage once it is done, but V8 keeps the room until there is pressure: an idle server would hold it for ever.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Long enough for the first requests, which make garbage of their own. */
const settleMs = 1_500;

type Collect = (options: { type: 'major'; execution: 'async'; flavor: 'last-resort' }) => Promise<void>;

/** Gives it back to the machine, once, when the thread has settled: about 25 MB of the server's, 5 MB of each database worker's. */
export function giveBackStartUpMemory(): void {
  setTimeout(() => {
    setFlagsFromString('--expose-gc'); // of all threads: none may take it back, another may be at this line
    const collect = runInNewContext('globalThis.gc') as Collect | undefined;
    void collect?.({ type: 'major', execution: 'async', flavor: 'last-resort' });
  }, settleMs).unref();
}
