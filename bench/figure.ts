// What a benchmark prints: one JSON line for each figure.

export type Unit = 'calls/s' | 'points/s' | 'runs/s' | 'MB/s' | 'ms' | 'MB' | '%';

export interface Figure {
  name: string;
  /** Per second for rates, milliseconds for times, MB for memory. */
  ours: number;
  /** The same of the peer in the same run; null where there is none. */
  peer: number | null;
  unit: Unit;
  /** Where it is not that of these two: both were measured at another size, say. */
  ratio?: number;
}

/** How many times better ours is: of rates the greater is better, of times and memory the smaller. */
function ratioOf({ ours, peer, unit }: Figure): number | null {
  if (peer === null) return null;
  return unit.endsWith('/s') ? ours / peer : peer / ours;
}

export function print(figure: Figure): void {
  const { name, ours, peer, unit } = figure;
  const ratio = figure.ratio ?? ratioOf(figure);
  const line = { name, ours: rounded(ours), peer: peer && rounded(peer), unit, ratio: ratio && rounded(ratio) };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** The smallest value that at least `part` of the values do not exceed. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN;
}

/** The durations of one call after another, in ms. */
export async function timesOf(rounds: number, act: (round: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    await act(round);
    times.push(performance.now() - begun);
  }
  return times;
}
