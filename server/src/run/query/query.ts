// Finds runs: one page at a time, in a stable order. A page goes on from the sort key of the last row of the page before, so that
// runs that come meanwhile shift nothing. How it is found:
//   few      something that the filter asks for is had by few runs: these are looked at, and sorted
//   walk     else the runs are walked in the wanted order, each is looked at, and the page is full soon if many pass
//   collect  if it is not after so many steps: what passes each comparison is collected from its index, and walked through again;
//            unless something is had by some runs only: then these are looked at
// Of the runs of the page, and of nothing else, what is asked for is read.
import type { Run } from '@stellwerk/contract/run.ts';
import type { Archived } from '@stellwerk/contract/values.ts';
import { sql as raw } from 'kysely';
import { keyOf, pageFrom, rowsFor } from '../../db/paging.ts';
import { readings, type Transaction, written } from '../../db/transactions.ts';
import { requireRun } from '../lifecycle.ts';
import { recordsByKey } from '../records.ts';
import { keysBelow, runNamed } from '../store.ts';
import { wantedOf } from './columns.ts';
import { bound, conditionOf, joined, type Manner, type Sql } from './conditions.ts';
import type { PlainField } from './fields.ts';
import { type Filter, parseFilter, parseOrder } from './language.ts';
import {
  after,
  boundsOf,
  type Lead,
  lacks,
  orderBy,
  type Phase,
  phasesOf,
  plainIndexes,
  type SortKey,
  type SortValue,
  sortKeysOf,
  sortValues,
} from './order.ts';
import { countedStep, unlessTooCostly, withinSteps, withPatience } from './patience.ts';
import { conjuncts, fewRunsOf, type Source, timeBoundsOf } from './source.ts';

export interface RunQuery {
  workspace: string;
  experiment?: string | undefined;
  parent?: string | undefined;
  ancestor?: string | undefined;
  filter?: string | undefined;
  archived?: Archived | undefined;
  orderBy?: string[] | undefined;
  columns?: string[] | undefined;
  metrics?: string[] | undefined;
  page?: string | undefined;
  pageSize?: number | undefined;
  /** What relative times count from, in ms. */
  now: number;
  effort?: Effort;
}

export interface Effort {
  /** So many runs are looked at and sorted without further ado. */
  few: number;
  /** So many are if walking is in vain. */
  some: number;
  /** Runs that are looked at one by one before their sets are collected. */
  steps: number;
  /** How long all of it may take. */
  ms: number;
}

type Found = { key: number } & Record<`sort_${number}`, SortValue>;

/** Either takes some milliseconds. */
const usualEffort: Effort = { few: 3_000, some: 20_000, steps: 4_000, ms: 2_000 };

export const queryReadings = readings('run-query', {
  page(tx: Transaction, query: RunQuery): { items: Run[]; nextPage?: string } {
    return withPatience((query.effort ?? usualEffort).ms, () => pageOfRuns(tx, query));
  },
});

function pageOfRuns(tx: Transaction, query: RunQuery): { items: Run[]; nextPage?: string } {
  const wanted = wantedOf(query.columns, query.metrics);
  const keys = sortKeysOf((query.orderBy ?? []).map(parseOrder));
  const last = keyOf(query, keys.length);
  const rows = new Search(tx, query, keys, rowsFor(query)).rows(last);
  const page = pageFrom(
    rows,
    query,
    ({ key }) => key,
    (row) => keys.map((_, at) => row[`sort_${at}`] ?? null),
  );
  return { ...page, items: recordsByKey(tx, page.items, wanted) };
}

/** The keys of what a query selects, a part at a time, parents before their children; `last` is where the next part goes on. */
export function selectRuns(
  tx: Transaction,
  query: RunQuery,
  last: SortValue[] | undefined,
  limit: number,
): { keys: number[]; last: SortValue[] | undefined } {
  const sorted = sortKeysOf([parseOrder('createdAt asc')]);
  const rows = withPatience(usualEffort.ms, () => new Search(tx, query, sorted, limit).rows(last));
  const end = rows.length < limit ? undefined : rows.at(-1);
  return { keys: rows.map(({ key }) => key), last: end && sorted.map((_, at) => end[`sort_${at}`] ?? null) };
}

/** What lies in the trash is not there; what is archived is left out, unless it is asked for, or a run is named that is archived itself. */
function shownOnly(tx: Transaction, query: RunQuery, parts: readonly Filter[]): Sql[] {
  const { workspace, experiment, parent, ancestor, archived } = query;
  const named = [parent, ancestor].some((id) => id !== undefined && runNamed(tx, workspace, id)?.archived_at != null);
  const which = archived ?? (named ? 'with' : 'without');
  const shown = raw`run.trash is null`;
  if (which === 'with') return [shown];
  const isSaid = archived === undefined && parts.some(asksWhetherArchived); // the filter says which of them
  const own = isSaid ? raw`true` : which === 'only' ? raw`run.archived_at is not null` : raw`run.archived_at is null`;
  const names = raw`select name from experiment where workspace = ${workspace} and archived_at is not null`;
  if (experiment !== undefined || tx.first(written(raw`${names} limit 1`)) === undefined) return [shown, own];
  return which === 'only'
    ? [shown, raw`(${own} or run.experiment in (${names}))`]
    : [shown, own, raw`run.experiment not in (${names})`];
}

function asksWhetherArchived(filter: Filter): boolean {
  if ('parts' in filter) return filter.parts.some(asksWhetherArchived);
  if ('part' in filter) return asksWhetherArchived(filter.part);
  return filter.field.of === 'run' && filter.field.name === 'archivedAt';
}

class Search {
  readonly #tx: Transaction;
  readonly #workspace: string;
  readonly #keys: SortKey[];
  readonly #limit: number;
  /** All of them must hold; and the run must be one of the descendants, if any are asked for. */
  readonly #parts: Filter[];
  readonly #below: Source | undefined;
  readonly #shown: Sql[];
  readonly #effort: Effort;

  constructor(tx: Transaction, query: RunQuery, keys: SortKey[], limit: number) {
    this.#tx = tx;
    this.#workspace = query.workspace;
    this.#keys = keys;
    this.#limit = limit;
    this.#effort = query.effort ?? usualEffort;
    const { workspace, experiment, parent, ancestor, filter, now } = query;
    if (parent !== undefined) requireRun(tx, workspace, parent);
    this.#below = ancestor === undefined ? undefined : below(tx, requireRun(tx, workspace, ancestor).key);
    this.#parts = [
      ...(experiment === undefined ? [] : [equals('experiment', experiment)]),
      ...(parent === undefined ? [] : [equals('parent', parent)]),
      ...conjuncts(filter === undefined || filter.trim() === '' ? undefined : parseFilter(filter, now)),
    ];
    this.#shown = shownOnly(tx, query, this.#parts);
  }

  rows(last: SortValue[] | undefined): Found[] {
    const source = this.#source();
    if (source?.size === 0) return [];
    if (source && source.size <= this.#effort.few && !this.#isSoonFull(source)) return this.#few(source, last);
    const steps = Math.min(
      this.#effort.steps,
      source && source.size <= this.#effort.few ? source.size : Number.POSITIVE_INFINITY,
    );
    const rows: Found[] = [];
    // Without a filter each run that is looked at is one of the page.
    let manner: Manner = this.#parts.length === 0 ? 'set' : 'probe';
    for (const phase of phasesOf(this.#keys)) {
      const left = this.#limit - rows.length;
      const resumed = resume(phase, last);
      if (left <= 0 || resumed === 'over' || this.#isEmpty(phase)) continue;
      const walked =
        manner === 'probe' && isWalkable(phase)
          ? withinSteps(steps, () => this.#phase(phase, resumed, 'probe', left))
          : undefined;
      if (!walked && source) return this.#few(source, last);
      if (!walked) manner = 'set';
      rows.push(...(walked ?? this.#phase(phase, resumed, 'set', left)));
    }
    return rows;
  }

  #source(): Source | undefined {
    const found = fewRunsOf(this.#tx, this.#workspace, this.#parts, this.#effort.some);
    if (!this.#below || this.#below.size > this.#effort.some) return found;
    return found && found.size < this.#below.size ? found : this.#below;
  }

  /** Whether a walk would fill the page after far fewer looks than there are runs in the source, if nothing else thins them out. */
  #isSoonFull({ size }: Source): boolean {
    const newest = this.#tx.statement<{ key: number | null }>('SELECT max(key) AS key FROM run').get()!;
    return (this.#limit * (newest.key ?? 0)) / size < size / 4;
  }

  /** Whether the filter asks for what the runs of the phase lack, or all runs have it: then there is no need to look for any. */
  #isEmpty({ lacking }: Phase): boolean {
    const lacked = lacking.at(-1)?.lacked;
    if (!lacked) return false;
    if (boundsOf(lacked, this.#parts).length > 0) return true;
    const its = joined([...lacked.rows, raw`${lacked.value} is not null`], 'and');
    const having = this.#count(raw`select 1 from ${raw.table(lacked.table)} as lacked where ${its}`);
    return having > this.#effort.few && having >= this.#count(raw`select 1 from run`);
  }

  #count(rows: Sql): number {
    return this.#tx.first(written(raw<{ count: number }>`select count(*) as count from (${rows})`))!.count;
  }

  #few(source: Source, last: SortValue[] | undefined): Found[] {
    const from = raw`(select distinct run_key from (${source.keys})) as source cross join run indexed by run_narrow on run.workspace = ${this.#workspace} and run.key = source.run_key where true`;
    const tests = [...this.#tests('probe'), ...(last ? after(this.#keys, last) : [])];
    return this.#select(from, this.#keys, tests, this.#limit);
  }

  #phase(phase: Phase, last: SortValue[] | undefined, manner: Manner, limit: number): Found[] {
    const { keys, lead } = phase;
    const key = raw.ref(lead ? 'lead.run_key' : 'run.key');
    const tests = [
      ...(manner === 'probe' ? [countedStep(key)] : []),
      ...phase.lacking.map((one) => lacks(one, manner, key)),
      ...this.#tests(manner, key),
      ...(last ? after(keys, last) : []),
    ];
    return this.#padded(phase, this.#select(lead ? this.#along(lead) : this.#base(phase), keys, tests, limit));
  }

  /** The rows of what leads, and the run of each: of the narrow columns alone, if they are enough. */
  #along(lead: Lead): Sql {
    const { table, index, rows, value } = lead;
    const by = index ? raw`indexed by ${raw.ref(index)}` : raw``;
    const bounds = boundsOf(lead, this.#parts).map((one) => raw`${value} ${raw.raw(one.by)} ${bound(one.value)}`);
    const its = joined([...rows, raw`${value} is not null`, ...bounds], 'and');
    return raw`${raw.table(table)} as lead ${by} cross join run indexed by run_narrow on run.workspace = ${this.#workspace} and run.key = lead.run_key where ${its}`;
  }

  /** Where a phase without rows of its own begins: at an index that has the order, if one has. */
  #base({ keys }: Phase): Sql {
    const { plain, present, value } = keys[0]!;
    const begin = (index: string, ...conditions: Sql[]) =>
      raw`run indexed by ${raw.ref(index)} where ${joined([raw`true`, ...conditions], 'and')}`;
    if (plain !== 'created_at')
      return begin(
        plain ? plainIndexes[plain] : 'run_narrow',
        ...(plain && present ? [raw`${value} is not null`] : []),
      );
    const bounds = timeBoundsOf(this.#parts);
    for (const name of ['experiment', 'state'] as const) {
      const equality = this.#parts.find((part) => isEquality(part, name)) as Equality | undefined;
      if (equality) return begin(`run_by_${name}`, raw`${raw.ref(`run.${name}`)} = ${equality.value}`, ...bounds);
    }
    return begin('run_by_time', ...bounds);
  }

  #tests(manner: Manner, key = raw.ref('run.key') as Sql): Sql[] {
    return [
      raw`run.workspace = ${this.#workspace}`,
      ...this.#shown,
      ...(this.#below ? [raw`+${key} in (${this.#below.keys})`] : []),
      ...this.#parts.map((part) => conditionOf(part, manner, key)),
    ];
  }

  #select(from: Sql, keys: SortKey[], tests: Sql[], limit: number): Found[] {
    const where = joined([unlessTooCostly(raw.ref('run.key')), ...tests], 'and');
    return this.#tx.all(
      written(
        raw<Found>`select run.key as key, ${sortValues(keys)} from ${from} and ${where} order by ${orderBy(keys)} limit ${limit}`,
      ),
    );
  }

  /** With the keys that are null in all of the phase. */
  #padded({ nulls, keys }: Phase, rows: Found[]): Found[] {
    if (nulls === 0) return rows;
    return rows.map((row) => ({
      key: row.key,
      ...Object.fromEntries(keys.map((_, at) => [`sort_${at + nulls}`, row[`sort_${at}`]])),
    }));
  }
}

/** Whether looking at each may be quick: an index has the order, so that the walk may end early, or those that have the field may be few. */
function isWalkable({ keys, lead }: Phase): boolean {
  return lead !== undefined || keys[0]!.plain !== undefined;
}

/** Where a phase goes on: it is over, or not begun yet, or goes on behind what is left of the key. */
function resume({ nulls, keys, lead }: Phase, last: SortValue[] | undefined): SortValue[] | 'over' | undefined {
  if (!last) return undefined;
  if (last.slice(0, nulls).some((value) => value !== null)) return undefined;
  if (lead && last[nulls] === null) return 'over';
  return last.slice(nulls, nulls + keys.length);
}

interface Equality {
  is: 'compare';
  by: '=';
  value: string;
}

function isEquality(part: Filter, name: PlainField): boolean {
  return part.is === 'compare' && part.by === '=' && part.field.of === 'run' && part.field.name === name;
}

function equals(name: PlainField, value: string): Filter {
  return { is: 'compare', field: { of: 'run', name }, by: '=', value };
}

/** As one JSON parameter: a statement has room for only so many. */
function below(tx: Transaction, key: number): Source {
  const keys = keysBelow(tx, key);
  return { size: keys.length, keys: raw`select value as run_key from json_each(${JSON.stringify(keys)})` };
}
