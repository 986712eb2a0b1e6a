// Rows of what runs report: how far each journal is durable, a summary per series, and the series' points and rows in chunks.
// A chunk's points are columns of doubles; a series has few short chunks at its end, since each new one takes in those that are
// not longer than itself: appending a point costs about as much for the first as for the millionth.
import type { MetricKind } from '@stellwerk/contract/telemetry.ts';
import type { Migration } from '../db/migrations.ts';

/** The summary of a series. Not every number fits a column: `NaN`, and what is no number, stand in the text columns alone, as JSON; the negative zero there too. */
export interface MetricRow {
  id: number;
  run_key: number;
  name: string;
  kind: MetricKind;
  points: number;
  rows: number;
  chunks: number;
  row_chunks: number;
  first: number | null;
  last: number | null;
  first_text: string | null;
  last_text: string | null;
  min: number | null;
  max: number | null;
  last_step: number | null;
  /** Seconds since 1970. */
  last_at: number;
  /** The newest attempt of the run that logged it; 0 where that is not known. */
  attempt: number;
}

/** Of the points, by number: headers first, so that a chart can skip the columns. */
export interface PointChunkRow {
  metric: number;
  number: number;
  start: number;
  count: number;
  min: number | null;
  max: number | null;
  last: number | null;
  first_step: number | null;
  last_step: number | null;
  /** Of all its points; null if none has a step. */
  min_step: number | null;
  max_step: number | null;
  /** Doubles. A value that is no number is NaN here and stands in `odd`. */
  numbers: Uint8Array;
  /** Doubles, NaN for none; null if no point has a step. */
  steps: Uint8Array | null;
  times: Uint8Array;
  /** JSON: pairs of index in the chunk and value. */
  odd: string | null;
}

export interface RowChunkRow {
  metric: number;
  number: number;
  start: number;
  count: number;
  /** JSON: an array of [step, time, row]. */
  rows: string;
}

declare module '../db/schema.ts' {
  interface Schema {
    journal: { run_key: number; name: string; offset: number };
    metric: MetricRow;
    point_chunk: PointChunkRow;
    row_chunk: RowChunkRow;
    run_log: { run_key: number; name: string; complete: number; cut: number; size_bytes: number };
  }
}

export const telemetryMigrations: Migration[] = [
  {
    name: '0008-telemetry',
    up: `
      CREATE TABLE journal (
        run_key INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, name TEXT NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (run_key, name)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE metric (
        id INTEGER PRIMARY KEY, run_key INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, name TEXT NOT NULL, kind TEXT NOT NULL, points INTEGER NOT NULL,
        rows INTEGER NOT NULL, chunks INTEGER NOT NULL, row_chunks INTEGER NOT NULL, first REAL, last REAL, first_text TEXT, last_text TEXT, min REAL, max REAL,
        last_step INTEGER, last_at REAL NOT NULL
      ) STRICT;
      CREATE UNIQUE INDEX metric_by_run ON metric (run_key, name);
      CREATE INDEX metric_by_last ON metric (name, last, run_key);
      CREATE INDEX metric_by_min ON metric (name, min, run_key);
      CREATE INDEX metric_by_max ON metric (name, max, run_key);
      CREATE TABLE point_chunk (
        metric INTEGER NOT NULL REFERENCES metric ON DELETE CASCADE, number INTEGER NOT NULL, start INTEGER NOT NULL, count INTEGER NOT NULL,
        min REAL, max REAL, last REAL, first_step INTEGER, last_step INTEGER, numbers BLOB NOT NULL, steps BLOB, times BLOB NOT NULL, odd TEXT,
        PRIMARY KEY (metric, number)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE row_chunk (
        metric INTEGER NOT NULL REFERENCES metric ON DELETE CASCADE, number INTEGER NOT NULL, start INTEGER NOT NULL, count INTEGER NOT NULL,
        rows TEXT NOT NULL, PRIMARY KEY (metric, number)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE run_log (
        run_key INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, name TEXT NOT NULL, complete INTEGER NOT NULL, PRIMARY KEY (run_key, name)
      ) STRICT, WITHOUT ROWID;
    `,
  },
  {
    // Finds the chunk of a step without reading any. Of chunks with uneven steps from before it is not known: they are looked into.
    name: '0021-step-of-a-metric',
    up: `
      ALTER TABLE point_chunk ADD COLUMN min_step INTEGER;
      ALTER TABLE point_chunk ADD COLUMN max_step INTEGER;
      UPDATE point_chunk SET min_step = CASE WHEN steps IS NULL THEN min(first_step, last_step) ELSE -9007199254740991 END,
        max_step = CASE WHEN steps IS NULL THEN max(first_step, last_step) ELSE 9007199254740991 END;
      CREATE INDEX point_chunk_by_step ON point_chunk (metric, min_step, max_step) WHERE min_step IS NOT NULL;
    `,
  },
  { name: '0061-log-limit', up: 'ALTER TABLE run_log ADD COLUMN cut INTEGER NOT NULL DEFAULT 0' },
  // At least so many bytes of it are durable.
  { name: '0063-log-size', up: 'ALTER TABLE run_log ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0' },
  {
    name: '0064-metric-orders',
    up: `
      CREATE INDEX metric_by_first ON metric (name, first, run_key);
      CREATE INDEX metric_by_count ON metric (name, (points + rows), run_key);
    `,
  },
  { name: '0091-metric-attempt', up: 'ALTER TABLE metric ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0' },
];
