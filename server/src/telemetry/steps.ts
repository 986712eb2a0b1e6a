// The value of a metric at a step, for queries: the headers of its chunks tell which to look into.
import { type RawBuilder, sql as raw } from 'kysely';
import { sqlFunction } from '../db/transactions.ts';
import { doubles } from './points.ts';

sqlFunction(
  'point_at',
  (
    step: number,
    count: number,
    first: number | null,
    last: number | null,
    numbers: Uint8Array,
    steps: Uint8Array | null,
  ) => {
    const at = steps ? doubles(steps).lastIndexOf(step) : evenIndex(step, count, first, last);
    if (at === undefined || at < 0) return null;
    const value = new DataView(numbers.buffer, numbers.byteOffset).getFloat64(at * 8, true);
    return Number.isNaN(value) ? 'NaN' : value; // the database has no NaN
  },
  { steady: true },
);

/** Of points at even distances; the last of those that share a step. */
function evenIndex(step: number, count: number, first: number | null, last: number | null): number | undefined {
  if (first === null || last === null) return undefined;
  if (first === last) return step === last ? count - 1 : undefined;
  const at = ((step - first) * (count - 1)) / (last - first);
  return Number.isInteger(at) && at >= 0 && at < count ? at : undefined;
}

/** What was logged last at that step; null if nothing was, or it is no number. `metric` is the id of a series. */
export function valueAtStep(metric: RawBuilder<unknown>, step: number): RawBuilder<number | null> {
  return raw`(select iif(typeof(value) = 'real', value, null) from (
    select number, point_at(${step}, count, first_step, last_step, numbers, steps) as value from point_chunk indexed by point_chunk_by_step
    where metric = ${metric} and min_step <= ${step} and max_step >= ${step}
  ) where value is not null order by number desc limit 1)`;
}
