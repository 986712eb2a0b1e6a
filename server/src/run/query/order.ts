// In which order runs come, and how that order is walked. Runs that lack a field come last, whichever the direction: first those that
// have it are walked along its index, then those that do not, in the order of what is asked next.
import { sql as raw } from 'kysely';
import { columnOf, keptOf, type Manner, type Sql } from './conditions.ts';
import type { Field } from './fields.ts';
import type { Filter, Order } from './language.ts';

export type SortValue = string | number | null;

/** Rows that hold the values of a sort key: a run that has it has one. */
export interface Lead {
  table: string;
  /** The one that gives the order; without, they are sorted. */
  index?: string;
  rows: Sql[];
  value: Sql;
  field: Field;
  holds: 'text' | 'number';
}

export interface SortKey {
  /** Of `run`. */
  value: Sql;
  descending: boolean;
  /** Never null. */
  present: boolean;
  lead?: Lead;
  /** The same rows, where a run must have none. */
  lacked?: Lead;
  /** A column that an index of runs has in order. */
  plain?: keyof typeof plainIndexes;
}

export const plainIndexes = {
  created_at: 'run_by_time',
  ended_at: 'run_by_end',
  duration_ms: 'run_by_duration',
  id: 'run_by_id',
  key: 'run_narrow',
} as const;

export interface Phase {
  /** So many of the keys are null in all of it. */
  nulls: number;
  /** The others. */
  keys: SortKey[];
  lead?: Lead;
  /** What the runs lack. */
  lacking: SortKey[];
}

const newestFirst: Order = { field: { of: 'run', name: 'createdAt' }, descending: true };

export function sortKeysOf(orders: readonly Order[]): SortKey[] {
  const all = orders.length > 0 ? orders : [newestFirst];
  const last: SortKey = { value: raw.ref('run.key'), descending: all.at(-1)!.descending, present: true, plain: 'key' };
  return [...all.flatMap(keysOfOrder), last];
}

function keysOfOrder({ field, descending }: Order): SortKey[] {
  if (field.of === 'run' && field.name !== 'arguments') {
    const { column, present } = columnOf(field.name);
    const plain = column in plainIndexes ? { plain: column as keyof typeof plainIndexes } : {};
    return [{ value: raw.ref(`run.${column}`), descending, present, ...plain }];
  }
  const key = (of: 'text' | 'number'): SortKey => {
    const at = keptOf(field, 'sorted')!;
    const leadOf = (alias: string): Lead => {
      const kept = keptOf(field, alias)!;
      return { table: kept.table, rows: kept.rows, value: kept.values[of], field, holds: of };
    };
    const index = indexOf(field, of);
    const its = raw.join([raw`sorted.run_key = run.key`, ...at.rows], raw` and `);
    return {
      value: raw`(select ${at.values[of]} from ${raw.table(at.table)} as sorted where ${its})`,
      descending,
      present: false,
      lead: { ...leadOf('lead'), ...(index && { index }) },
      lacked: leadOf('lacked'),
    };
  };
  if (field.of === 'metrics') return [key('number')];
  if (field.of === 'run') return [key('text')];
  return [key('number'), key('text')]; // numbers come before text
}

function indexOf(field: Field, of: 'text' | 'number'): string | undefined {
  if (field.of === 'metrics') return 'step' in field ? undefined : `metric_by_${field.aggregate}`;
  if (field.of === 'run') return undefined;
  const table = { tags: 'run_tag', properties: 'run_property', parameters: 'run_parameter' }[field.of];
  const column = of === 'number' ? 'number' : field.of === 'parameters' ? 'text' : 'value';
  return `${table}_by_${column}`;
}

/** One after another, the phases hold each run once, in the order of the keys. */
export function phasesOf(keys: readonly SortKey[], nulls = 0, lacking: readonly SortKey[] = []): Phase[] {
  const [first, ...rest] = keys as [SortKey, ...SortKey[]];
  const { lead } = first;
  if (first.present || !(lead || first.plain)) return [{ nulls, keys: [...keys], lacking: [...lacking] }];
  const having = { ...first, present: true, ...(lead && { value: lead.value }) };
  // By the key as the index has it, so that its order is seen to be the wanted one.
  const behind = rest.map((key) => (lead && key.plain === 'key' ? { ...key, value: raw.ref('lead.run_key') } : key));
  return [
    { nulls, keys: [having, ...behind], lacking: [...lacking], ...(lead && { lead }) },
    ...phasesOf(rest, nulls + 1, [...lacking, first]),
  ];
}

type Comparing = Extract<Filter, { is: 'compare' }>;

/** Comparisons that must hold of the very values that lead: they bound its index, and no run that lacks one is of the answer. */
export function boundsOf({ field, holds }: Lead, parts: readonly Filter[]): Comparing[] {
  const isOf = (part: Filter): part is Comparing =>
    part.is === 'compare' &&
    (typeof part.value === 'string' ? 'text' : 'number') === holds &&
    !Number.isNaN(part.value) &&
    JSON.stringify(part.field) === JSON.stringify(field);
  return parts.filter(isOf);
}

export function lacks({ lacked, value: column }: SortKey, manner: Manner, key: Sql): Sql {
  if (!lacked) return raw`+${column} is null`;
  const { table, rows, value } = lacked;
  const from = raw`from ${raw.table(table)} as lacked where ${raw.join([...rows, raw`true`], raw` and `)}`;
  return manner === 'set'
    ? raw`+${key} not in (select lacked.run_key ${from} and ${value} is not null)`
    : raw`not exists (select 1 ${from} and +${value} is not null and lacked.run_key = ${key})`;
}

/** `sort_0`, `sort_1` …: by the name of what is selected, so that it is computed once. */
export function orderBy(keys: readonly SortKey[]): Sql {
  return raw.join(
    keys.map((key, at) => {
      const direction = raw.raw(`${key.descending ? 'desc' : 'asc'}${key.present ? '' : ' nulls last'}`);
      return raw`${raw.ref(`sort_${at}`)} ${direction}`;
    }),
  );
}

export function sortValues(keys: readonly SortKey[]): Sql {
  return raw.join(keys.map((key, at) => raw`${key.value} as ${raw.ref(`sort_${at}`)}`));
}

/** What comes after a row in the order of the keys, nulls last. The first key bounds an index by itself. */
export function after(keys: readonly SortKey[], last: readonly SortValue[]): Sql[] {
  const beyond = keys.map((key, at) => {
    const equal = keys.slice(0, at).map((before, i) => raw`${before.value} is ${last[i]}`);
    return raw`(${raw.join([...equal, further(key, last[at]!)], raw` and `)})`;
  });
  const [first] = keys as [SortKey, ...SortKey[]];
  const bound = first.present ? [raw`${first.value} ${raw.raw(first.descending ? '<=' : '>=')} ${last[0]}`] : [];
  return [...bound, raw`(${raw.join(beyond, raw` or `)})`];
}

function further(key: SortKey, value: SortValue): Sql {
  if (value === null) return raw`0`;
  const compared = raw`${key.value} ${raw.raw(key.descending ? '<' : '>')} ${value}`;
  return key.present ? compared : raw`(${compared} or ${key.value} is null)`;
}
