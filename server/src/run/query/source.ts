// Where to begin: if something that every run of the answer must have is had by few runs, these few are all that need a look.
import { sql as raw } from 'kysely';
import { type Transaction, written } from '../../db/transactions.ts';
import { columnOf, joined, keysOf, type Leaf, type Sql } from './conditions.ts';
import type { Field, PlainField } from './fields.ts';
import type { Filter } from './language.ts';

/** More are not counted: a query of hundreds of comparisons would spend its time on that. */
const mostCounted = 12;

export interface Source {
  /** Selects keys of runs. */
  keys: Sql;
  size: number;
}

type Compare = Extract<Filter, { is: 'compare' }>;

/** The parts that must all hold. */
export function conjuncts(filter: Filter | undefined): Filter[] {
  if (!filter) return [];
  return filter.is === 'and' ? filter.parts.flatMap(conjuncts) : [filter];
}

/** Undefined if more than `most` runs are left by each of what must hold. */
export function fewRunsOf(
  tx: Transaction,
  workspace: string,
  parts: readonly Filter[],
  most: number,
): Source | undefined {
  return new Counting(tx, workspace, most).smallest(parts);
}

class Counting {
  readonly #tx: Transaction;
  readonly #workspace: string;
  readonly #most: number;
  #left = mostCounted;

  constructor(tx: Transaction, workspace: string, most: number) {
    this.#tx = tx;
    this.#workspace = workspace;
    this.#most = most;
  }

  smallest(parts: readonly Filter[]): Source | undefined {
    let best: Source | undefined;
    const bounds = timeBoundsOf(parts);
    if (bounds.length > 0) best = this.#counted(this.#runs('run_by_time', joined(bounds, 'and')));
    for (const part of parts) {
      const found = this.#of(part);
      if (found && (!best || found.size < best.size)) best = found;
      if (best && best.size <= 50) break;
    }
    return best;
  }

  #of(filter: Filter): Source | undefined {
    switch (filter.is) {
      case 'and':
        return this.smallest(conjuncts(filter));
      case 'or':
        return this.#all(filter.parts);
      case 'null':
        return undefined;
      case 'not':
        // Being there is asked for by `not … is null`.
        return filter.part.is === 'null' ? this.#having(filter.part.field) : undefined;
      default:
        return this.#leaf(filter);
    }
  }

  #all(parts: readonly Filter[]): Source | undefined {
    const found: Source[] = [];
    for (const part of parts) {
      const source = this.#of(part);
      if (!source) return undefined;
      found.push(source);
    }
    const size = found.reduce((sum, source) => sum + source.size, 0);
    return size > this.#most
      ? undefined
      : {
          size,
          keys: raw.join(
            found.map(({ keys }) => keys),
            raw` union all `,
          ),
        };
  }

  #leaf(leaf: Exclude<Leaf, { is: 'null' }>): Source | undefined {
    const { field } = leaf;
    if (field.of === 'run') return this.#ofRun(leaf, field.name);
    const isOrdered = leaf.is !== 'like' && (leaf.is !== 'compare' || leaf.by !== '!=');
    const isIndexed = !('step' in field) && !('aggregate' in field && /first|count/.test(field.aggregate));
    // Else each run that has the field would be looked at to count those that pass.
    return isOrdered && isIndexed ? this.#counted(keysOf(leaf)) : this.#having(field);
  }

  #having(field: Field): Source | undefined {
    if (field.of === 'run') return undefined;
    const bare: Field = 'step' in field ? { of: 'metrics', name: field.name, aggregate: 'last' } : field;
    return this.#counted(keysOf({ is: 'null', field: bare }));
  }

  #ofRun(leaf: Exclude<Leaf, { is: 'null' }>, name: PlainField): Source | undefined {
    const index = { id: 'run_by_id', state: 'run_by_state', experiment: 'run_by_experiment' }[name as string];
    const among = leaf.is === 'in' ? leaf.values : leaf.is === 'compare' && leaf.by === '=' ? [leaf.value] : undefined;
    if (!among || name === 'arguments') return undefined;
    if (name === 'parent') return this.#counted(this.#children(among as string[]));
    const values = raw.join(among);
    if (name === 'resubmittedFrom')
      return this.#counted(
        this.#runs('run_by_origin', raw`run.resubmitted_from is not null and run.resubmitted_from in (${values})`),
      );
    if (index === undefined) return undefined;
    return this.#counted(this.#runs(index, raw`${raw.ref(`run.${columnOf(name).column}`)} in (${values})`));
  }

  #children(parents: string[]): Sql {
    const above = raw`select above.key from run as above where above.workspace = ${this.#workspace} and above.id in (${raw.join(parents)})`;
    return raw`select run.key as run_key from run indexed by run_by_parent where run.parent_key is not null and run.parent_key in (${above})`;
  }

  #runs(index: string, condition: Sql): Sql {
    return raw`select run.key as run_key from run indexed by ${raw.ref(index)} where run.workspace = ${this.#workspace} and ${condition}`;
  }

  #counted(keys: Sql): Source | undefined {
    if (this.#left-- <= 0) return undefined;
    const counting = raw<{
      size: number;
    }>`select count(*) as size from (select 1 from (${keys}) limit ${raw.lit(this.#most + 1)})`;
    const { size } = this.#tx.first(written(counting))!;
    return size > this.#most ? undefined : { keys, size };
  }
}

/** All bounds of the time of creation together may leave few, though each leaves many. */
export function timeBoundsOf(parts: readonly Filter[]): Sql[] {
  const isBound = (part: Filter): part is Compare =>
    part.is === 'compare' && part.by !== '!=' && part.field.of === 'run' && part.field.name === 'createdAt';
  return parts.filter(isBound).map(({ by, value }) => raw`run.created_at ${raw.raw(by)} ${value}`);
}
