// Finds runs: from a filter's tree to SQL with parameters, one page at a time, in a stable order.
// A page goes on from the sort key of the last row of the page before, so that runs that come meanwhile shift nothing.
import type { Run } from '@stellwerk/contract/run.ts';
import {
  type Expression,
  type ExpressionBuilder,
  expressionBuilder,
  sql as raw,
  type SelectQueryBuilder,
  type SqlBool,
} from 'kysely';
import { keyOf, pageFrom, rowsFor } from '../db/paging.ts';
import type { Schema } from '../db/schema.ts';
import { readings, sql, type Transaction } from '../db/transactions.ts';
import { requireRun } from './lifecycle.ts';
import {
  type Aggregate,
  type Field,
  type Filter,
  type Order,
  type PlainField,
  parseFilter,
  parseOrder,
  type Value,
} from './query-language.ts';
import { recordsOf } from './records.ts';
import { keysBelow, type RunRow } from './store.ts';

export interface RunQuery {
  workspace: string;
  experiment?: string | undefined;
  parent?: string | undefined;
  ancestor?: string | undefined;
  filter?: string | undefined;
  orderBy?: string[] | undefined;
  metrics?: string[] | undefined;
  page?: string | undefined;
  pageSize?: number | undefined;
}

type Build = ExpressionBuilder<Schema, 'run'>;
type Test = Expression<SqlBool>;
const build: Build = expressionBuilder<Schema, 'run'>();
const columns: Record<PlainField, keyof RunRow> = {
  id: 'id',
  experiment: 'experiment',
  state: 'state',
  target: 'target',
  user: 'user',
  host: 'host',
  parent: 'parent',
  displayName: 'display_name',
  description: 'description',
  reason: 'reason',
  snapshot: 'snapshot',
  createdAt: 'created_at',
  startedAt: 'started_at',
  endedAt: 'ended_at',
  durationMs: 'duration_ms',
  number: 'number',
  exitCode: 'exit_code',
  childCount: 'child_count',
};
const never: Set<keyof RunRow> = new Set(['id', 'experiment', 'state', 'user', 'created_at', 'number', 'child_count']);
const newestFirst: Order = { field: { of: 'run', name: 'createdAt' }, descending: true };

export const queryReadings = readings('run-query', {
  page(tx: Transaction, query: RunQuery): { items: Run[]; nextPage?: string } {
    return pageOfRuns(tx, query);
  },
});

export function pageOfRuns(tx: Transaction, query: RunQuery): { items: Run[]; nextPage?: string } {
  const orders = query.orderBy?.length ? query.orderBy.map(parseOrder) : [newestFirst];
  const keys: SortKey[] = [
    ...orders.flatMap((order, at) => sortKeys(order, at)),
    { value: raw.ref('run.key'), descending: orders.at(-1)!.descending, present: true },
  ];
  let select = sql.selectFrom('run').selectAll('run').where('run.workspace', '=', query.workspace);
  for (const test of restrictions(tx, query)) select = select.where(test);
  if (query.filter !== undefined && query.filter.trim() !== '')
    select = select.where(testOf(parseFilter(query.filter)));
  const last = keyOf(query, keys.length);
  if (last) select = select.where(after(keys, last));
  for (const [at, key] of keys.entries()) {
    // By the name of the column that is selected: so it is computed once.
    const sorted = raw.ref(`sort_${at}`);
    select = select.select(raw<string | number | null>`${key.value}`.as(`sort_${at}`));
    select = select.orderBy(sorted, (by) => {
      const directed = key.descending ? by.desc() : by.asc();
      return key.present ? directed : directed.nullsLast();
    });
  }
  const rows = tx.all(select.limit(rowsFor(query))) as (RunRow & Record<`sort_${number}`, string | number | null>)[];
  const page = pageFrom(
    rows,
    query,
    (row) => row,
    (row) => keys.map((_, at) => row[`sort_${at}`] ?? null),
  );
  return { ...page, items: recordsOf(tx, page.items, query.metrics) };
}

function restrictions(tx: Transaction, { workspace, experiment, parent, ancestor }: RunQuery): Test[] {
  return [
    ...(experiment === undefined ? [] : [build('run.experiment', '=', experiment)]),
    ...(parent === undefined ? [] : [build('run.parent_key', '=', requireRun(tx, workspace, parent).key)]),
    ...(ancestor === undefined ? [] : [below(tx, requireRun(tx, workspace, ancestor).key)]),
  ];
}

/** As one JSON parameter: a statement has room for only so many. */
function below(tx: Transaction, key: number): Test {
  const keys = JSON.stringify(keysBelow(tx, key));
  return raw<SqlBool>`${raw.ref('run.key')} in (select value from json_each(${keys}))`;
}

function testOf(filter: Filter): Test {
  switch (filter.is) {
    case 'and':
      return joined(filter.parts.map(testOf), (one, other) => build.and([one, other]));
    case 'or':
      return joined(filter.parts.map(testOf), (one, other) => build.or([one, other]));
    case 'not':
      return build.not(testOf(filter.part));
    case 'null':
      return build.not(matching(filter.field, () => []));
    case 'compare':
      return compared(filter);
    case 'in':
      return build.or([contained(filter, 'string'), contained(filter, 'number'), contained(filter, 'boolean')]);
    case 'like':
      return matching(filter.field, (column) => [raw<SqlBool>`${column} like ${filter.pattern}`], 'text');
  }
}

/** By halves: the database refuses expressions that are nested too deeply, and a long chain nests as deeply as it is long. */
function joined(tests: Test[], join: (one: Test, other: Test) => Test): Test {
  if (tests.length === 1) return tests[0]!;
  const middle = tests.length >> 1;
  return join(joined(tests.slice(0, middle), join), joined(tests.slice(middle), join));
}

function contained({ field, values }: Extract<Filter, { is: 'in' }>, type: 'string' | 'number' | 'boolean'): Test {
  const some = values.filter((value) => typeof value === type && !Number.isNaN(value));
  if (some.length === 0) return raw<SqlBool>`0`;
  const list = raw.join(some.map(bound));
  return matching(
    field,
    (column) => [raw<SqlBool>`${column} in (${list})`],
    type === 'string' ? 'text' : 'number',
    some[0],
  );
}

function compared({ field, by, value }: Extract<Filter, { is: 'compare' }>): Test {
  // NaN is no number to the database, and equals nothing.
  if (typeof value === 'number' && Number.isNaN(value)) return raw<SqlBool>`0`;
  const operator = raw.raw(by);
  return matching(
    field,
    (column) => [raw<SqlBool>`${column} ${operator} ${bound(value)}`],
    typeof value === 'string' ? 'text' : 'number',
    value,
  );
}

function bound(value: Value): string | number {
  return typeof value === 'boolean' ? Number(value) : value;
}

type Column = Expression<unknown>;

/** True for runs that have the field, and where it passes the tests; false for the others, never unknown, so that `not` works. */
function matching(field: Field, tests: (column: Column) => Test[], type?: 'text' | 'number', value?: Value): Test {
  if (field.of === 'run') {
    const column = columns[field.name];
    const ref = raw.ref(`run.${column}`);
    return build.and([
      ...(never.has(column) && tests(ref).length > 0 ? [] : [raw<SqlBool>`${ref} is not null`]),
      ...tests(ref),
    ]);
  }
  return build('run.key', 'in', keysWith(field, tests, type, value));
}

function keysWith(
  field: Exclude<Field, { of: 'run' }>,
  tests: (column: Column) => Test[],
  type?: 'text' | 'number',
  value?: Value,
): SelectQueryBuilder<Schema, never, { run_key: number }> {
  const name = field.name.toWellFormed();
  if (field.of === 'metrics') {
    const ref = metricColumn('metric', field.aggregate);
    const absent = tests(ref).length === 0 ? [] : [raw<SqlBool>`${ref} is not null`, ...tests(ref)];
    return sql.selectFrom('metric').select('run_key').where('name', '=', name).where(build.and(absent));
  }
  if (field.of === 'parameters') {
    const ref = raw.ref(`run_parameter.${type ?? 'number'}`);
    const kind =
      type === undefined
        ? [raw<SqlBool>`run_parameter.kind <> 'null'`]
        : [raw<SqlBool>`run_parameter.kind = ${typeof value === 'boolean' ? 'boolean' : type}`];
    return sql
      .selectFrom('run_parameter')
      .select('run_key')
      .where('name', '=', name)
      .where(build.and([...kind, ...tests(ref)]));
  }
  const table = field.of === 'tags' ? 'run_tag' : 'run_property';
  return sql
    .selectFrom(table)
    .select('run_key')
    .where('name', '=', name)
    .where(build.and(tests(raw.ref(`${table}.value`))));
}

function metricColumn(table: string, aggregate: Aggregate): Column {
  return aggregate === 'count'
    ? raw`(${raw.ref(`${table}.points`)} + ${raw.ref(`${table}.rows`)})`
    : raw.ref(`${table}.${aggregate}`);
}

interface SortKey {
  value: Column;
  descending: boolean;
  /** Never null: an index can give the order. */
  present?: true;
}

/** Runs that lack the field come last, whichever the direction. */
function sortKeys({ field, descending }: Order, at: number): SortKey[] {
  if (field.of === 'run') {
    const column = columns[field.name];
    return [{ value: raw.ref(`run.${column}`), descending, ...(never.has(column) && { present: true }) }];
  }
  const of = (
    table: 'metric' | 'run_parameter' | 'run_tag' | 'run_property',
    column: (alias: string) => Column,
  ): SortKey => {
    const alias = `o${at}`;
    const from = raw`${raw.table(table)} as ${raw.ref(alias)}`;
    const its = raw`${raw.ref(`${alias}.run_key`)} = ${raw.ref('run.key')} and ${raw.ref(`${alias}.name`)} = ${field.name.toWellFormed()}`;
    return { value: raw`(select ${column(alias)} from ${from} where ${its})`, descending };
  };
  if (field.of === 'metrics') return [of('metric', (alias) => metricColumn(alias, field.aggregate))];
  if (field.of === 'parameters')
    return [
      of('run_parameter', (alias) => raw.ref(`${alias}.number`)),
      of('run_parameter', (alias) => raw.ref(`${alias}.text`)),
    ];
  return [of(field.of === 'tags' ? 'run_tag' : 'run_property', (alias) => raw.ref(`${alias}.value`))];
}

/** What comes after a row in the order of the keys, nulls last. */
function after(keys: SortKey[], last: (string | number | null)[]): Test {
  return build.or(
    keys.map((key, at) => {
      const equal = keys.slice(0, at).map((before, i) => raw<SqlBool>`${before.value} is ${last[i]}`);
      return build.and([...equal, beyond(key, last[at]!)]);
    }),
  );
}

function beyond(key: SortKey, value: string | number | null): Test {
  if (value === null) return raw<SqlBool>`0`;
  const further = key.descending ? raw<SqlBool>`${key.value} < ${value}` : raw<SqlBool>`${key.value} > ${value}`;
  return key.present ? further : build.or([further, raw<SqlBool>`${key.value} is null`]);
}
