// All that is measured, in the order in which it is.

import * as artifact from './artifact.ts';
import * as compute from './compute.ts';
import * as createRun from './create-run.ts';
import type { Figure } from './figure.ts';
import * as image from './image.ts';
import * as ingest from './ingest.ts';
import * as resubmit from './resubmit.ts';
import * as sdk from './sdk.ts';
import * as search from './search.ts';
import * as series from './series.ts';
import * as start from './start.ts';
import * as submit from './submit.ts';
import * as visible from './visible.ts';

export interface Suite {
  names: readonly string[];
  /** `asked`: the names on the command line; none: all. */
  measure(asked: readonly string[]): AsyncIterable<Figure>;
}

export const suites: readonly Suite[] = [
  start,
  sdk,
  visible,
  ingest,
  createRun,
  series,
  search,
  submit,
  resubmit,
  artifact,
  image,
  compute,
];
