// The language of run queries: comparisons of fields with values, joined by `and`, `or`, `not` and parentheses.
//   state = 'completed' and (metrics.mse < 3000 or metrics."val loss".min <= 0.1) and tags.kind in ('ridge', 'lasso')
//   not parameters.alpha is null and createdAt >= now-7d and name like 'try%' and metrics.loss.at(100) < 1
// Pure: from text to a tree; what time it is, is told. A comparison with something that a run does not have is false; `not` turns it round.

import { keptNameOfResource } from '../../telemetry/metrics.ts';
import {
  type Aggregate,
  aggregates,
  type Field,
  type Group,
  groupNamed,
  holdingOf,
  isAttributes,
  isResources,
  type PlainField,
  plainFieldNamed,
  plainFields,
  stateNamed,
} from './fields.ts';
import { flawOfPattern } from './patterns.ts';
import { timeFrom, timesAre } from './times.ts';
import { refused, type Word, wordsOf } from './words.ts';

export type Value = string | number | boolean;
export type Comparison = '=' | '!=' | '<' | '<=' | '>' | '>=';
export type Filter =
  | { is: 'and' | 'or'; parts: Filter[] }
  | { is: 'not'; part: Filter }
  | { is: 'compare'; field: Field; by: Comparison; value: Value }
  | { is: 'in'; field: Field; values: Value[] }
  | { is: 'like'; field: Field; pattern: string }
  | { is: 'matches'; field: Field; pattern: string }
  | { is: 'null'; field: Field };

export interface Order {
  field: Field;
  descending: boolean;
}

const deepest = 100;

/** `now` is what relative times count from, in ms. */
export function parseFilter(text: string, now: number): Filter {
  const reader = new Reader(text, now);
  const filter = reader.either();
  reader.end('`and`, `or` or the end');
  return filter;
}

/** `metrics.mse asc`, `createdAt desc`. */
export function parseOrder(text: string): Order {
  const reader = new Reader(text, 0);
  const field = reader.field();
  const descending = reader.takesName('desc');
  if (!descending) reader.takesName('asc');
  reader.end('`asc`, `desc` or the end');
  return { field, descending };
}

/** What is wanted of each run: a field, `tags.kind`, or all `tags` (a group alone). */
export function parseColumn(text: string): Field | { of: Group } {
  const reader = new Reader(text, 0);
  const column = reader.column();
  reader.end('the end, since a column is one field');
  return column;
}

class Reader {
  readonly #text: string;
  readonly #now: number;
  readonly #words: Word[];
  #next = 0;
  #depth = 0;

  constructor(text: string, now: number) {
    this.#text = text;
    this.#now = now;
    this.#words = wordsOf(text);
  }

  get #word(): Word {
    return this.#words[this.#next]!;
  }

  #refuse(expected: string, at = this.#word.at): never {
    throw refused(this.#text, at, expected);
  }

  end(expected: string): void {
    if (this.#word.kind !== 'end') this.#refuse(expected);
  }

  /** A word of the language, whatever the case of its letters. */
  takesName(value: string): boolean {
    const taken = this.#word.kind === 'name' && this.#word.value.toLowerCase() === value;
    if (taken) this.#next++;
    return taken;
  }

  #isSign(value: string): boolean {
    return this.#word.kind === 'sign' && this.#word.value === value;
  }

  #takesSign(value: string): boolean {
    const taken = this.#isSign(value);
    if (taken) this.#next++;
    return taken;
  }

  either(): Filter {
    return this.#joined('or', () => this.#joined('and', () => this.#not()));
  }

  #joined(is: 'and' | 'or', part: () => Filter): Filter {
    const parts = [part()];
    while (this.takesName(is)) parts.push(part());
    return parts.length === 1 ? parts[0]! : { is, parts };
  }

  #not(): Filter {
    if (++this.#depth > deepest) this.#refuse(`at most ${deepest} \`not\` and parentheses inside each other`);
    const filter: Filter = this.takesName('not') ? { is: 'not', part: this.#not() } : this.#simple();
    this.#depth--;
    return filter;
  }

  #simple(): Filter {
    if (!this.#takesSign('(')) return this.#comparison();
    const inside = this.either();
    if (!this.#takesSign(')')) this.#refuse('`and`, `or` or `)`');
    return inside;
  }

  column(): Field | { of: Group } {
    const [first, next] = [this.#word, this.#words[this.#next + 1]];
    const group = first.kind === 'name' ? groupNamed(first.value) : undefined;
    if (!group || plainFieldNamed(first.value) || next?.kind !== 'end') return this.field();
    this.#next++;
    return { of: group };
  }

  field(): Field {
    let first = this.#fieldWord();
    if (isAttributes(first.value) && this.#takesSign('.')) first = this.#fieldWord();
    const group = groupNamed(first.value);
    if (isResources(first.value)) return this.#resource(first.value);
    const name = plainFieldNamed(first.value);
    if (name && !(group && this.#isSign('.'))) return { of: 'run', name };
    if (!group) {
      const fields = Object.keys(plainFields) as PlainField[];
      return this.#refuse(
        `one of ${fields.join(', ')}, metrics.…, resources.…, tags.…, properties.…, parameters.…`,
        first.at,
      );
    }
    const parts = this.#parts(first.value);
    return group === 'metrics' ? this.#metric(parts) : { of: group, name: joinedName(parts) };
  }

  #fieldWord(): Word {
    const word = this.#word;
    if (word.kind !== 'name' && word.kind !== 'quoted-name') this.#refuse('a field, such as state or metrics.mse');
    this.#next++;
    return word;
  }

  /** `resources.memoryBytes.max`: kept as a metric, apart from those of scripts. Its greatest value unless another is asked for. */
  #resource(of: string): Field {
    const parts = this.#parts(of);
    const field = this.#metric(parts) as Extract<Field, { of: 'metrics' }>;
    const asked =
      'aggregate' in field && parts.at(-1)!.value.toLowerCase() !== field.aggregate
        ? { aggregate: 'max' as const }
        : {};
    return { ...field, ...asked, name: keptNameOfResource(field.name) };
  }

  /** `mse`, `mse.min`, `loss.at(100)`. A metric that is called `min` stands in quotes, unless it is the only word. */
  #metric(parts: Word[]): Field {
    const last = parts.at(-1)!;
    const isWord = parts.length > 1 && last.kind === 'name';
    const before = joinedName(parts.slice(0, -1));
    if (isWord && /^(at|step)$/i.test(last.value) && this.#isSign('('))
      return { of: 'metrics', name: before, step: this.#step() };
    const aggregate = isWord ? oneOf(aggregates, last.value) : undefined;
    return aggregate
      ? { of: 'metrics', name: before, aggregate }
      : { of: 'metrics', name: joinedName(parts), aggregate: 'last' satisfies Aggregate };
  }

  #step(): number {
    this.#next++;
    const word = this.#word;
    const step = word.kind === 'number' ? Number(word.value) : Number.NaN;
    if (!Number.isSafeInteger(step)) this.#refuse('a step, which is a whole number');
    this.#next++;
    if (!this.#takesSign(')')) this.#refuse('`)`');
    return step;
  }

  #parts(of: string): Word[] {
    const parts: Word[] = [];
    while (this.#takesSign('.')) {
      const word = this.#word;
      if (word.kind !== 'name' && word.kind !== 'quoted-name')
        this.#refuse('a name, in quotes if it has odd characters');
      parts.push(word);
      this.#next++;
    }
    return parts.length > 0 ? parts : this.#refuse(`a dot and a name, as in ${of}.x`);
  }

  #comparison(): Filter {
    const field = this.field();
    if (this.takesName('is')) {
      const turned = this.takesName('not');
      if (!this.takesName('null')) this.#refuse(turned ? '`null`' : '`null` or `not null`');
      return turned ? { is: 'not', part: { is: 'null', field } } : { is: 'null', field };
    }
    if (this.takesName('not')) {
      const inner = this.#membership(field) ?? this.#refuse('`in`, `like` or `matches`');
      // `not in` is about a value that is there, as `!=` is.
      return {
        is: 'and',
        parts: [
          { is: 'not', part: { is: 'null', field } },
          { is: 'not', part: inner },
        ],
      };
    }
    return this.#membership(field) ?? this.#compared(field);
  }

  #membership(field: Field): Filter | undefined {
    for (const is of ['like', 'matches'] as const) {
      const { at } = this.#word;
      if (this.takesName(is)) return { is, field, pattern: this.#pattern(is, field, at) };
    }
    if (!this.takesName('in')) return undefined;
    if (!this.#takesSign('(')) this.#refuse('`(` and values');
    const values = [this.#value(field)];
    while (this.#takesSign(',')) values.push(this.#value(field));
    if (!this.#takesSign(')')) this.#refuse('`,` or `)`');
    return { is: 'in', field, values };
  }

  #pattern(is: 'like' | 'matches', field: Field, at: number): string {
    const holding = holdingOf(field);
    if (holding !== 'text' && holding !== 'any')
      this.#refuse(`=, !=, <, <=, >, >= or in, since this field holds a ${holding}, not text`, at);
    const word = this.#word;
    if (word.kind !== 'text')
      this.#refuse(is === 'like' ? "a text, such as 'ridge%'" : "a text, such as '^ridge-[0-9]+$'");
    this.#next++;
    const flaw = is === 'matches' ? flawOfPattern(word.value) : undefined;
    if (flaw !== undefined) this.#refuse(`a regular expression (RE2), and this is none: ${flaw}`, word.at);
    return word.value;
  }

  #compared(field: Field): Filter {
    const { kind, value } = this.#word;
    const by = kind === 'sign' ? ({ '==': '=', '<>': '!=' }[value] ?? value) : '';
    if (!['=', '!=', '<', '<=', '>', '>='].includes(by)) this.#refuse('=, !=, <, <=, >, >=, in, like, matches or is');
    this.#next++;
    return { is: 'compare', field, by: by as Comparison, value: this.#value(field) };
  }

  #value(field: Field): Value {
    const word = this.#word;
    this.#next++;
    if (word.kind === 'text') return this.#fitting(field, word.value, word);
    if (word.kind === 'number') return this.#fitting(field, Number(word.value), word);
    if (word.kind === 'name' && /^(true|false)$/i.test(word.value))
      return this.#fitting(field, word.value.toLowerCase() === 'true', word);
    if (word.kind === 'name' && word.value.toLowerCase() === 'null')
      this.#refuse('a value; absence is asked for with `is null`', word.at);
    if (holdingOf(field) === 'time')
      return (word.kind === 'name' && timeFrom(word.value, this.#now)) || this.#refuse(timesAre, word.at);
    return this.#refuse("a number, a text in quotes such as 'ridge', true or false", word.at);
  }

  #fitting(field: Field, value: Value, word: Word): Value {
    const wanted = holdingOf(field);
    if (wanted === 'boolean' && typeof value !== 'boolean') this.#refuse('true or false', word.at);
    if (wanted === 'number' && typeof value !== 'number') {
      if (value === 'NaN' || value === 'Infinity' || value === '-Infinity') return Number(value);
      this.#refuse('a number', word.at);
    }
    if (wanted === 'time') {
      const time = typeof value === 'string' ? timeFrom(value, this.#now) : undefined;
      return time ?? this.#refuse(timesAre, word.at);
    }
    if (wanted !== 'text') return value;
    if (field.of !== 'run') return typeof value === 'boolean' ? String(value) : value; // tags that are numbers compare as such
    const text = typeof value === 'string' ? value : String(word.value);
    return field.name === 'state' ? stateNamed(text) : text;
  }
}

const joinedName = (parts: readonly Word[]) => parts.map(({ value }) => value).join('.');

function oneOf<T extends string>(words: readonly T[], value: string): T | undefined {
  return words.find((word) => word.toLowerCase() === value.toLowerCase());
}
