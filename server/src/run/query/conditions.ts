// From a filter's tree to SQL. A condition is written in one of two manners:
//   probe   each run is looked at by itself: quick where few runs need a look
//   set     the runs that pass are collected from an index first: quick where very many need one
// Both are never unknown, so that `not` works: what a run does not have compares as false.
import { type RawBuilder, sql as raw } from 'kysely';
import { valueAtStep } from '../../telemetry/metrics.ts';
import type { RunRow } from '../store.ts';
import type { Field, PlainField } from './fields.ts';
import type { Filter, Value } from './language.ts';
import { unlessTooCostly } from './patience.ts';

export type Sql<T = unknown> = RawBuilder<T>;
export type Manner = 'probe' | 'set';

const columns: Record<Exclude<PlainField, 'arguments'>, keyof RunRow> = {
  id: 'id',
  experiment: 'experiment',
  state: 'state',
  target: 'target',
  user: 'user',
  host: 'host',
  parent: 'parent',
  root: 'root',
  resubmittedFrom: 'resubmitted_from',
  displayName: 'display_name',
  description: 'description',
  reason: 'reason',
  snapshot: 'snapshot',
  createdAt: 'created_at',
  startedAt: 'started_at',
  endedAt: 'ended_at',
  archivedAt: 'archived_at',
  durationMs: 'duration_ms',
  number: 'number',
  attempt: 'attempt',
  exitCode: 'exit_code',
  childCount: 'child_count',
  interactive: 'interactive',
};
const never: ReadonlySet<keyof RunRow> = new Set([
  'id',
  'experiment',
  'state',
  'root',
  'user',
  'created_at',
  'number',
  'attempt',
  'child_count',
  'interactive',
]);

const falsehood = raw`0`;

/** A column of the run itself, and whether each run has it. */
export function columnOf(name: Exclude<PlainField, 'arguments'>): { column: keyof RunRow; present: boolean } {
  const column = columns[name];
  return { column, present: never.has(column) };
}

/** What stands in rows of their own, keyed by `run_key`: of which table, which rows are the field's, and where its values are. */
export interface Kept {
  table: 'metric' | 'run_parameter' | 'run_tag' | 'run_property' | 'run_arguments';
  rows: Sql[];
  values: Record<'text' | 'number', Sql>;
}

export function keptOf(field: Field, table: string): Kept | undefined {
  const of = (column: string) => raw.ref(`${table}.${column}`);
  const named = (name: string) => [raw`${of('name')} = ${name.toWellFormed()}`];
  switch (field.of) {
    case 'run':
      if (field.name !== 'arguments') return undefined;
      return { table: 'run_arguments', rows: [], values: { text: of('text'), number: raw`null` } };
    case 'metrics': {
      const value =
        'step' in field
          ? valueAtStep(of('id'), field.step)
          : field.aggregate === 'count'
            ? raw`(${of('points')} + ${of('rows')})`
            : of(field.aggregate);
      return { table: 'metric', rows: named(field.name), values: { number: value, text: raw`null` } };
    }
    case 'parameters':
      return { table: 'run_parameter', rows: named(field.name), values: { number: of('number'), text: of('text') } };
    case 'tags':
    case 'properties': {
      const label = field.of === 'tags' ? 'run_tag' : 'run_property';
      return { table: label, rows: named(field.name), values: { number: of('number'), text: of('value') } };
    }
  }
}

/** A comparison of one field. `null` is about being there, the others about a value that is. */
export type Leaf = Extract<Filter, { field: Field }>;

/** `key` is where the run's key stands: beside what is walked along, it is known before the run is looked up. */
export function conditionOf(filter: Filter, manner: Manner, key: Sql): Sql {
  switch (filter.is) {
    case 'and':
    case 'or':
      return joined(
        filter.parts.map((part) => conditionOf(part, manner, key)),
        filter.is,
      );
    case 'not':
      return raw`not ${conditionOf(filter.part, manner, key)}`;
    case 'null':
      return raw`not ${presence(filter, manner, key)}`;
    default:
      return presence(filter, manner, key);
  }
}

/** By halves: the database refuses expressions that are nested too deeply, and a long chain nests as deeply as it is long. */
export function joined(conditions: readonly Sql[], by: 'and' | 'or'): Sql {
  if (conditions.length === 1) return conditions[0]!;
  const middle = conditions.length >> 1;
  return raw`(${joined(conditions.slice(0, middle), by)} ${raw.raw(by)} ${joined(conditions.slice(middle), by)})`;
}

/** True for runs that have the field, and where it passes. */
function presence(leaf: Leaf, manner: Manner, key: Sql): Sql {
  const { field } = leaf;
  if (field.of === 'run' && field.name !== 'arguments') {
    const { column, present } = columnOf(field.name);
    const ref = raw`+${raw.ref(`run.${column}`)}`; // the plus keeps indexes out of it: where to begin is not decided here
    const value = { text: ref, number: ref };
    if (leaf.is === 'null') return present ? raw`1` : raw`(${ref} is not null)`;
    return present ? tests(leaf, value) : raw`(${ref} is not null and ${tests(leaf, value)})`;
  }
  if (manner === 'set') return raw`+${key} in (${keysOf(leaf)})`;
  const { table, rows, values } = keptOf(field, 'kept')!;
  // The plus keeps indexes by value out of it: the row of the run is what is to be looked up.
  const plain = { text: raw`+${values.text}`, number: raw`+${values.number}` };
  const conditions = [raw`kept.run_key = ${key}`, ...rows, ...ownTests(leaf, plain)];
  return raw`exists (select 1 from ${raw.table(table)} as kept where ${joined(conditions, 'and')})`;
}

/** The keys of the runs, of any workspace, that have the field and where it passes. */
export function keysOf(leaf: Leaf): Sql {
  const { table, rows, values } = keptOf(leaf.field, 'kept')!;
  const own = leaf.is === 'matches' ? byText(leaf, values) : ownTests(leaf, values);
  const conditions = [...rows, ...own, unlessTooCostly(raw.ref('kept.run_key'))];
  return raw`select kept.run_key from ${raw.table(table)} as kept where ${joined(conditions, 'and')}`;
}

/** Many runs share few texts: an expression is tried on each text once, from one to the next in the index, and those that pass are looked up. */
function byText(leaf: Extract<Leaf, { is: 'matches' }>, values: Kept['values']): Sql[] {
  const { table, rows, values: each } = keptOf(leaf.field, 'each')!;
  if (rows.length === 0) return ownTests(leaf, values);
  const least = (...more: Sql[]) =>
    raw`(select min(${each.text}) from ${raw.table(table)} as each where ${joined([...rows, ...more], 'and')})`;
  const texts = raw`with recursive texts (text) as (
    select ${least()} union all select ${least(raw`${each.text} > texts.text`)} from texts where texts.text is not null
  ) select text from texts where ${tests(leaf, { text: raw.ref('texts.text'), number: raw`null` })}`;
  return [raw`${values.text} in (${texts})`];
}

function ownTests(leaf: Leaf, values: Kept['values']): Sql[] {
  if (leaf.is !== 'null') return [tests(leaf, values)];
  // A parameter of the value null is not there; a metric is, even if it is no number, but at a step only if it is.
  if (leaf.field.of === 'parameters') return [raw`kept.kind <> 'null'`];
  return 'step' in leaf.field ? [raw`${values.number} is not null`] : [];
}

function tests(leaf: Exclude<Leaf, { is: 'null' }>, values: Kept['values']): Sql {
  switch (leaf.is) {
    case 'compare':
      return compared(leaf, values);
    case 'in':
      return contained(leaf, values);
    case 'like':
      return raw`(${values.text} like ${leaf.pattern.toWellFormed()})`;
    case 'matches':
      return raw`query_matches(${leaf.pattern.toWellFormed()}, ${values.text})`;
  }
}

function compared({ field, by, value }: Extract<Leaf, { is: 'compare' }>, values: Kept['values']): Sql {
  // NaN is no number to the database, and equals nothing.
  if (typeof value === 'number' && Number.isNaN(value)) return falsehood;
  const test = raw`${columnFor(value, values)} ${raw.raw(by)} ${bound(value)}`;
  return raw`(${joined([test, ...kindOf(field, value)], 'and')})`;
}

/** One test for each type of value; a single one can begin at an index. */
function contained({ field, values: given }: Extract<Leaf, { is: 'in' }>, values: Kept['values']): Sql {
  const sorts = (['string', 'number', 'boolean'] as const).map((type) =>
    given.filter((value) => typeof value === type && !Number.isNaN(value)),
  );
  const tests = sorts
    .filter((some) => some.length > 0)
    .map((some) => {
      const test = raw`${columnFor(some[0]!, values)} in (${raw.join(some.map(bound))})`;
      return raw`(${joined([test, ...kindOf(field, some[0]!)], 'and')})`;
    });
  return tests.length === 0 ? falsehood : joined(tests, 'or');
}

/** Truth values and numbers share a column, and are not equal. */
function kindOf(field: Field, value: Value): Sql[] {
  if (field.of !== 'parameters') return [];
  const kind = typeof value === 'string' ? 'text' : typeof value;
  return [raw`kept.kind = ${kind}`];
}

const columnFor = (value: Value, values: Kept['values']) => (typeof value === 'string' ? values.text : values.number);

export function bound(value: Value): string | number {
  return typeof value === 'boolean' ? Number(value) : typeof value === 'string' ? value.toWellFormed() : value;
}
