// The language of run queries: comparisons of fields with values, joined by `and`, `or`, `not` and parentheses.
//   state = 'completed' and (metrics.mse < 3000 or metrics."val loss".min <= 0.1) and tags.kind in ('ridge', 'lasso')
//   not parameters.alpha is null and createdAt >= '2026-11-01' and displayName like 'try%'
// Pure: from text to a tree. A comparison with something that a run does not have is false; `not` turns it round.
import { refused, type Word, wordsOf } from './query-words.ts';

export const plainFields = {
  id: 'text',
  experiment: 'text',
  state: 'text',
  target: 'text',
  user: 'text',
  host: 'text',
  parent: 'text',
  displayName: 'text',
  description: 'text',
  reason: 'text',
  snapshot: 'text',
  createdAt: 'time',
  startedAt: 'time',
  endedAt: 'time',
  durationMs: 'number',
  number: 'number',
  exitCode: 'number',
  childCount: 'number',
} as const;
export type PlainField = keyof typeof plainFields;
export const aggregates = ['last', 'min', 'max', 'first', 'count'] as const;
export type Aggregate = (typeof aggregates)[number];

export type Field =
  | { of: 'run'; name: PlainField }
  | { of: 'tags' | 'properties' | 'parameters'; name: string }
  | { of: 'metrics'; name: string; aggregate: Aggregate };
export type Value = string | number | boolean;
export type Comparison = '=' | '!=' | '<' | '<=' | '>' | '>=';
export type Filter =
  | { is: 'and' | 'or'; parts: Filter[] }
  | { is: 'not'; part: Filter }
  | { is: 'compare'; field: Field; by: Comparison; value: Value }
  | { is: 'in'; field: Field; values: Value[] }
  | { is: 'like'; field: Field; pattern: string }
  | { is: 'null'; field: Field };

export interface Order {
  field: Field;
  descending: boolean;
}

const deepest = 100;

export function parseFilter(text: string): Filter {
  const reader = new Reader(text);
  const filter = reader.either();
  reader.end('`and`, `or` or the end');
  return filter;
}

/** `metrics.mse asc`, `createdAt desc`. */
export function parseOrder(text: string): Order {
  const reader = new Reader(text);
  const field = reader.field();
  const descending = reader.takesName('desc');
  if (!descending) reader.takesName('asc');
  reader.end('`asc`, `desc` or the end');
  return { field, descending };
}

class Reader {
  readonly #text: string;
  readonly #words: Word[];
  #next = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
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

  #takesSign(value: string): boolean {
    const taken = this.#word.kind === 'sign' && this.#word.value === value;
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

  field(): Field {
    const first = this.#word;
    if (first.kind !== 'name' && first.kind !== 'quoted-name') this.#refuse('a field, such as state or metrics.mse');
    this.#next++;
    const of = oneOf(['metrics', 'tags', 'properties', 'parameters'] as const, first.value);
    if (!of) {
      const name = oneOf(Object.keys(plainFields) as PlainField[], first.value);
      return name
        ? { of: 'run', name }
        : this.#refuse(
            `one of ${Object.keys(plainFields).join(', ')}, metrics.…, tags.…, properties.…, parameters.…`,
            first.at,
          );
    }
    const parts = this.#parts(of);
    const last = parts.at(-1)!;
    const aggregate =
      of === 'metrics' && parts.length > 1 && last.kind === 'name' ? oneOf(aggregates, last.value) : undefined;
    const name = (aggregate ? parts.slice(0, -1) : parts).map(({ value }) => value).join('.');
    return of === 'metrics' ? { of, name, aggregate: aggregate ?? 'last' } : { of, name };
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
      const inner = this.#membership(field) ?? this.#refuse('`in` or `like`');
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
    if (this.takesName('like')) {
      const word = this.#word;
      const pattern = this.#value(field);
      if (typeof pattern !== 'string') this.#refuse("a text, such as 'ridge%'", word.at);
      return { is: 'like', field, pattern };
    }
    if (!this.takesName('in')) return undefined;
    if (!this.#takesSign('(')) this.#refuse('`(` and values');
    const values = [this.#value(field)];
    while (this.#takesSign(',')) values.push(this.#value(field));
    if (!this.#takesSign(')')) this.#refuse('`,` or `)`');
    return { is: 'in', field, values };
  }

  #compared(field: Field): Filter {
    const { kind, value } = this.#word;
    const by = kind === 'sign' ? ({ '==': '=', '<>': '!=' }[value] ?? value) : '';
    if (!['=', '!=', '<', '<=', '>', '>='].includes(by)) this.#refuse('=, !=, <, <=, >, >=, in, like or is');
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
    return this.#refuse("a number, a text in quotes such as 'ridge', true or false", word.at);
  }

  #fitting(field: Field, value: Value, word: Word): Value {
    const wanted =
      field.of === 'run'
        ? plainFields[field.name]
        : field.of === 'metrics'
          ? 'number'
          : field.of === 'parameters'
            ? 'any'
            : 'text';
    if (wanted === 'number' && typeof value !== 'number') {
      if (value === 'NaN' || value === 'Infinity' || value === '-Infinity') return Number(value);
      this.#refuse('a number', word.at);
    }
    if (wanted === 'time')
      return typeof value === 'string'
        ? this.#time(value, word)
        : this.#refuse("a time, such as '2026-11-01'", word.at);
    // Tags are text: `tags.fold = 3` means '3'.
    return wanted === 'text' && typeof value !== 'string' ? String(word.value) : value;
  }

  #time(text: string, word: Word): string {
    const ms = /^\d{4}-\d\d(-\d\d)?([T ]|$)/.test(text)
      ? Date.parse(/\d[T ]\d/.test(text) && !/(Z|[+-]\d\d:?\d\d)$/i.test(text) ? `${text}Z` : text)
      : Number.NaN;
    return Number.isNaN(ms)
      ? this.#refuse("a time, such as '2026-11-01' or '2026-11-01T12:00:00Z'", word.at)
      : new Date(ms).toISOString();
  }
}

function oneOf<T extends string>(words: readonly T[], value: string): T | undefined {
  return words.find((word) => word.toLowerCase() === value.toLowerCase());
}
