// Places on a machine: so many runs at a time, each with its share of CPUs and memory and GPUs of its own. In line, a higher priority comes
// first; among equals users take turns, whoever has less running first; of one user, first in, first out.
// Invariants: nobody is overtaken by who stands behind, however small: what waits for much is not starved; no GPU is given to two runs.
// Whoever frees a place wakes the next that waits.
import { gpusOf, type ReadResources, wordsOfGpus } from '@stellwerk/contract/resources.ts';
import type { Capacity } from '../compute/computes.ts';
import type { Transaction } from '../db/transactions.ts';
import { line } from './line.ts';
import { type Moment, moveRun, wakeNext } from './moves.ts';
import { type RunRow, runOf, setPrivate, setRun } from './store.ts';

/** What runs may have there together. */
export interface Room {
  places: number;
  capacity?: Capacity | undefined;
}

type Asked = Pick<ReadResources, 'cpus' | 'memoryBytes' | 'gpus' | 'gpuType'>;

/** Takes a place for a waiting run, and begins its attempt. False if there is none for it, or it is another's turn. */
export function takePlace(tx: Transaction, key: number, room: Room, moment: Moment): boolean {
  const row = runOf(tx, key);
  if (row.state !== 'queued' || row.queue === null) return false;
  const left = leftOf(tx, row.queue, room);
  for (const standing of line(tx, row.queue)) {
    const share = shareOf(left, askedBy(standing));
    if (typeof share === 'string') {
      if (standing.key === key) waitFor(tx, row, share);
      else wakeNext(tx, row.queue, moment);
      return false;
    }
    if (standing.key === key) {
      // One that is begun again has its number already.
      const set = { placed: 1, attempt: Math.max(row.attempt, 1), reason: null, gpus: JSON.stringify(share) };
      setRun(tx, key, set);
      moveRun(tx, { ...row, ...set }, { to: 'preparing' }, moment);
      return true;
    }
  }
  return false;
}

/** After nothing of the job is left on the machine. */
export function freePlace(tx: Transaction, key: number, moment: Moment): void {
  const row = runOf(tx, key);
  setPrivate(tx, key, { handle: null });
  if (row.placed === 0) return;
  setRun(tx, key, { placed: 0, gpus: null });
  if (row.queue !== null) wakeNext(tx, row.queue, moment);
}

/**
 * Stands in line again for another attempt, at the end of what was one. Its number is that of the next attempt from now on, so that the one
 * before is fenced off, should it not be gone after all.
 */
export function standAgain(tx: Transaction, key: number, reason: string, moment: Moment): boolean {
  freePlace(tx, key, moment);
  const row = runOf(tx, key);
  if (row.state !== 'lost') return false;
  const set = { attempt: row.attempt + 1, leased: 0, job: null };
  setRun(tx, key, set);
  setPrivate(tx, key, { ended_for: null });
  moveRun(tx, { ...row, ...set }, { to: 'queued', reason }, moment);
  return true;
}

/** Of each run that waits there: 1 is the next to start. */
export function positions(tx: Transaction, queue: string): Map<number, number> {
  return new Map(line(tx, queue).map(({ key }, at) => [key, at + 1]));
}

interface Left {
  places: number;
  cpus: number;
  memoryBytes: number;
  gpus: Capacity['gpus'];
}

function leftOf(tx: Transaction, queue: string, { places, capacity }: Room): Left {
  const placed = tx
    .statement<Pick<RunRow, 'asked' | 'gpus'>>('SELECT asked, gpus FROM run WHERE queue = ? AND placed = 1')
    .all(queue);
  const asked = placed.map((row) => askedBy(row));
  const given = new Set(placed.flatMap(({ gpus }) => (gpus === null ? [] : (JSON.parse(gpus) as string[]))));
  const sum = (of: (one: Asked) => number | undefined) => asked.reduce((total, one) => total + (of(one) ?? 0), 0);
  return {
    places: places - placed.length,
    cpus: (capacity?.cpus ?? Number.POSITIVE_INFINITY) - sum(({ cpus }) => cpus),
    memoryBytes: (capacity?.memoryBytes ?? Number.POSITIVE_INFINITY) - sum(({ memoryBytes }) => memoryBytes),
    gpus: (capacity?.gpus ?? []).filter(({ uuid }) => !given.has(uuid)),
  };
}

/** Takes it from what is left, and gives the GPUs; or says what is waited for. */
function shareOf(left: Left, { cpus = 0, memoryBytes = 0, gpus, gpuType }: Asked): string[] | string {
  if (left.places < 1) return 'Waits for a place on the compute target.';
  if (left.cpus < cpus) return `Waits for ${cpus} free CPUs.`;
  if (left.memoryBytes < memoryBytes) return `Waits for ${memoryBytes.toLocaleString('en')} bytes of free memory.`;
  const fitting = gpusOf(left.gpus, gpuType).slice(0, gpus);
  if (fitting.length < gpus) return `Waits for ${wordsOfGpus(gpus, gpuType, 'free ')}.`;
  left.places--;
  left.cpus -= cpus;
  left.memoryBytes -= memoryBytes;
  left.gpus = left.gpus.filter((one) => !fitting.includes(one));
  return fitting.map(({ uuid }) => uuid);
}

function askedBy({ asked }: Pick<RunRow, 'asked'>): Asked {
  return asked === null ? { gpus: 0 } : (JSON.parse(asked) as Asked);
}

function waitFor(tx: Transaction, row: RunRow, reason: string): void {
  if (row.reason !== reason) setRun(tx, row.key, { reason });
}
