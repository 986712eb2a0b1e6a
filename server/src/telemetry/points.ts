// The points of a series as columns, in memory and as they lie in a chunk.
import type { MetricSummary } from '@stellwerk/contract/telemetry.ts';
import type { PointChunkRow } from './store.ts';

export type OddValue = string | boolean | null;
type MetricNumber = NonNullable<MetricSummary['min']>;

export class Points {
  numbers: number[] = [];
  /** NaN: without a step. */
  steps: number[] = [];
  times: number[] = [];
  /** What is no number, by index; its number is NaN. */
  odd: [number, OddValue][] = [];

  get count(): number {
    return this.numbers.length;
  }

  add(value: number, step: number | null, time: number): void {
    this.numbers.push(value);
    this.steps.push(step ?? Number.NaN);
    this.times.push(time);
  }

  addOdd(value: OddValue, step: number | null, time: number): void {
    this.odd.push([this.numbers.length, value]);
    this.add(Number.NaN, step, time);
  }

  static of(chunk: ChunkColumns): Points {
    const points = new Points();
    points.numbers = Array.from(doubles(chunk.numbers));
    points.times = Array.from(doubles(chunk.times));
    points.steps = Array.from(stepsOf(chunk, points.count));
    points.odd = chunk.odd === null ? [] : JSON.parse(chunk.odd);
    return points;
  }

  append(others: Points): void {
    const count = this.count;
    this.numbers = this.numbers.concat(others.numbers);
    this.steps = this.steps.concat(others.steps);
    this.times = this.times.concat(others.times);
    for (const [at, value] of others.odd) this.odd.push([count + at, value]);
  }

  slice(start: number, end: number): Points {
    const part = new Points();
    part.numbers = this.numbers.slice(start, end);
    part.steps = this.steps.slice(start, end);
    part.times = this.times.slice(start, end);
    part.odd = this.odd.filter(([at]) => at >= start && at < end).map(([at, value]) => [at - start, value]);
    return part;
  }

  columns(): ChunkColumns {
    const [first, last] = [this.steps[0]!, this.steps.at(-1)!];
    const distance = this.count > 1 ? (last - first) / (this.count - 1) : 0;
    const isEven = this.steps.every((step, at) => Object.is(step, first + at * distance));
    return {
      numbers: bytesOf(this.numbers),
      first_step: stepOf(first),
      last_step: stepOf(last),
      steps: isEven || this.steps.every(Number.isNaN) ? null : bytesOf(this.steps),
      times: bytesOf(this.times),
      odd: this.odd.length === 0 ? null : JSON.stringify(this.odd),
    };
  }

  /** Of the numbers; null if there is none. */
  extremes(): Extremes {
    return extremesOf(this.numbers);
  }

  /** Null if no point has a step. */
  extremeSteps(): Extremes {
    return extremesOf(this.steps);
  }

  /** The value at an index as the summary's columns hold it. */
  valueAt(index: number): { number: number | null; text: string | null } {
    const number = this.numbers[index]!;
    // A column of numbers keeps no sign of a zero.
    if (!Number.isNaN(number)) return { number, text: Object.is(number, -0) ? '-0.0' : null };
    const found = this.odd.find(([at]) => at === index);
    return { number: null, text: JSON.stringify(found ? found[1] : 'NaN') };
  }
}

interface Extremes {
  min: number | null;
  max: number | null;
}

function extremesOf(values: readonly number[]): Extremes {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value < min) min = value;
    if (value > max) max = value;
  }
  // Infinities alone leave one of the two where it began, which is right then.
  return values.some((value) => !Number.isNaN(value)) ? { min, max } : { min: null, max: null };
}

/** How a chunk keeps its points. Without `steps` they are even: at equal distances from the first to the last, or none at all. */
export type ChunkColumns = Pick<PointChunkRow, 'numbers' | 'steps' | 'times' | 'odd' | 'first_step' | 'last_step'>;

/** The steps of a chunk; NaN for none. */
export function stepsOf(chunk: Pick<ChunkColumns, 'steps' | 'first_step' | 'last_step'>, count: number): Float64Array {
  if (chunk.steps) return doubles(chunk.steps);
  const first = chunk.first_step ?? Number.NaN;
  const distance = count > 1 ? ((chunk.last_step ?? Number.NaN) - first) / (count - 1) : 0;
  return Float64Array.from({ length: count }, (_, at) => first + at * distance);
}

/** A view of doubles on a copy: what the database gives need not be aligned. */
export function doubles(bytes: Uint8Array): Float64Array {
  return new Float64Array(bytes.slice().buffer);
}

function bytesOf(values: readonly number[]): Uint8Array {
  return new Uint8Array(Float64Array.from(values).buffer);
}

/** As it travels in JSON. */
export function wireNumber(value: number): MetricNumber {
  return Number.isFinite(value) ? value : (String(value) as 'NaN' | 'Infinity' | '-Infinity');
}

export function stepOf(step: number | null | undefined): number | null {
  return step == null || Number.isNaN(step) ? null : step;
}
