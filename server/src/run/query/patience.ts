// No query holds up the others: each may look at so many runs one by one, and take so long in all.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { sql as raw } from 'kysely';
import { sqlFunction } from '../../db/transactions.ts';
import type { Sql } from './conditions.ts';
import { isFound } from './patterns.ts';

/** Not at each row: asking what time it is takes longer than reading a row. */
const rowsBetween = 64;

class StepsUsedUp extends Error {}

// Queries run one after another in the worker's thread, each to its end: what is counted is the one that runs.
let stepsLeft = Number.POSITIVE_INFINITY;
let until = Number.POSITIVE_INFINITY;

sqlFunction(
  'query_step',
  (_key: number) => {
    if (--stepsLeft < 0) throw new StepsUsedUp();
    return 1;
  },
  { steady: false },
);
sqlFunction(
  'query_in_time',
  () => {
    if (performance.now() > until) throw tooCostly();
    return 1;
  },
  { steady: false },
);
sqlFunction(
  'query_matches',
  (pattern: string, text: string | null) => {
    if (text === null) return 0;
    if (performance.now() > until) throw tooCostly();
    return isFound(pattern, text) ? 1 : 0;
  },
  { steady: true },
);

/** True; or the end of the query. */
export function unlessTooCostly(key: Sql): Sql {
  return raw`(${key} % ${raw.lit(rowsBetween)} or query_in_time())`;
}

/** True so many times. Of a row: else the database would ask once for all of them. */
export function countedStep(key: Sql): Sql {
  return raw`query_step(${key})`;
}

/** What `act` reads is refused once it takes too long. */
export function withPatience<T>(ms: number, act: () => T): T {
  until = performance.now() + ms;
  try {
    return act();
  } finally {
    until = Number.POSITIVE_INFINITY;
  }
}

/** Undefined if more steps would be needed. */
export function withinSteps<T>(steps: number, act: () => T): T | undefined {
  stepsLeft = steps;
  try {
    return act();
  } catch (error) {
    if (error instanceof StepsUsedUp) return undefined;
    throw error;
  } finally {
    stepsLeft = Number.POSITIVE_INFINITY;
  }
}

function tooCostly(): ServiceError {
  return new ServiceError(
    'failed-precondition',
    'query.too-costly',
    'The query was ended before it was done: it would have to look at too much of too many runs.',
  );
}
