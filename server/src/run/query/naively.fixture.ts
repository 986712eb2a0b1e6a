// What a query must answer, found without a database: for tests. Written from docs/concepts/query.md, not from the code that it checks.
import type { Run } from '@stellwerk/contract/run.ts';

export interface KnownRun {
  record: Run;
  /** In the order in which it was logged. */
  metrics: Record<string, { value: number; step: number | null }[]>;
  arguments?: string | undefined;
}

export type Term =
  | { plain: keyof Run }
  | { arguments: true }
  | { group: 'tags' | 'properties' | 'parameters'; name: string }
  | { metric: string; by: 'last' | 'min' | 'max' | 'first' | 'count' }
  | { metric: string; step: number };
export type Literal = string | number | boolean;
export type Tree =
  | { and: Tree[] }
  | { or: Tree[] }
  | { not: Tree }
  | { term: Term; op: '=' | '!=' | '<' | '<=' | '>' | '>='; value: Literal }
  | { term: Term; among: Literal[]; turned: boolean }
  | { term: Term; like: string }
  | { term: Term; matches: string }
  | { term: Term; isNull: boolean };

export function holds(tree: Tree, run: KnownRun): boolean {
  if ('and' in tree) return tree.and.every((part) => holds(part, run));
  if ('or' in tree) return tree.or.some((part) => holds(part, run));
  if ('not' in tree) return !holds(tree.not, run);
  if ('isNull' in tree) return has(tree.term, run) !== tree.isNull;
  if ('among' in tree) {
    const found = tree.among.some((one) => compare(tree.term, run, '=', one));
    return tree.turned ? has(tree.term, run) && !found : found;
  }
  if ('op' in tree) return compare(tree.term, run, tree.op, tree.value);
  const text = valueIn(tree.term, run);
  if (typeof text !== 'string') return false;
  return 'like' in tree ? isLike(text, tree.like) : new RegExp(tree.matches, 'u').test(text);
}

function has(term: Term, run: KnownRun): boolean {
  if ('metric' in term && !('step' in term)) return run.metrics[term.metric] !== undefined;
  return valueIn(term, run) !== undefined;
}

function valueIn(term: Term, run: KnownRun): Literal | undefined {
  if ('plain' in term) return (run.record[term.plain] as Literal | undefined) ?? undefined;
  if ('arguments' in term) return run.arguments;
  if ('group' in term) {
    const group = run.record[term.group] as Record<string, Literal | null>;
    return Object.hasOwn(group, term.name) ? (group[term.name] ?? undefined) : undefined;
  }
  const points = run.metrics[term.metric];
  if (!points) return undefined;
  const numbers = points.map(({ value }) => value).filter((value) => !Number.isNaN(value));
  const known = (value: number | undefined) => (value === undefined || Number.isNaN(value) ? undefined : value);
  if ('step' in term) return known(points.filter(({ step }) => step === term.step).at(-1)?.value);
  switch (term.by) {
    case 'count':
      return points.length;
    case 'last':
      return known(points.at(-1)!.value);
    case 'first':
      return known(points[0]!.value);
    case 'min':
      return numbers.length > 0 ? Math.min(...numbers) : undefined;
    case 'max':
      return numbers.length > 0 ? Math.max(...numbers) : undefined;
  }
}

function compare(term: Term, run: KnownRun, op: string, literal: Literal): boolean {
  let value = valueIn(term, run);
  if (value === undefined) return false;
  const isLabel = 'group' in term && term.group !== 'parameters';
  if (isLabel && typeof literal === 'number') value = readNumber(String(value));
  if (typeof value !== typeof literal || Number.isNaN(literal)) return false;
  const order = typeof value === 'string' ? byCodePoint(value, String(literal)) : Number(value) - Number(literal);
  // Infinity - Infinity is no number
  const sign = value === literal ? 0 : order;
  return { '=': sign === 0, '!=': sign !== 0, '<': sign < 0, '<=': sign <= 0, '>': sign > 0, '>=': sign >= 0 }[op]!;
}

function readNumber(text: string): number | undefined {
  return /^\s*[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?\s*$/i.test(text) ? Number.parseFloat(text) : undefined;
}

function isLike(text: string, pattern: string): boolean {
  const lower = (of: string) => of.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  const source = [...lower(pattern)]
    .map((one) => (one === '%' ? '[^]*' : one === '_' ? '[^]' : one.replace(/[\\^$.*+?()[\]{}|/-]/u, '\\$&')))
    .join('');
  return new RegExp(`^${source}$`, 'u').test(lower(text));
}

function byCodePoint(one: string, other: string): number {
  const [a, b] = [[...one], [...other]];
  for (let at = 0; at < Math.min(a.length, b.length); at++) {
    const difference = a[at]!.codePointAt(0)! - b[at]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

export interface Ordering {
  term: Term;
  descending: boolean;
}

/** `runs` in the order in which they were made. */
export function sorted(runs: readonly KnownRun[], orderings: readonly Ordering[]): KnownRun[] {
  const all = orderings.length > 0 ? orderings : [{ term: { plain: 'createdAt' as const }, descending: true }];
  return runs
    .map((run, at) => ({ run, at }))
    .sort((one, other) => {
      for (const { term, descending } of all) {
        const difference = between(term, one.run, other.run, descending ? -1 : 1);
        if (difference !== 0) return difference;
      }
      return (one.at - other.at) * (all.at(-1)!.descending ? -1 : 1);
    })
    .map(({ run }) => run);
}

function between(term: Term, one: KnownRun, other: KnownRun, direction: number): number {
  const [a, b] = [rankOf(term, one), rankOf(term, other)];
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.number !== b.number) return (a.number < b.number ? -1 : 1) * direction;
  return byCodePoint(a.text, b.text) * direction;
}

/** Numbers, then text, then what a run does not have. */
function rankOf(term: Term, run: KnownRun): { rank: number; number: number; text: string } {
  const value = valueIn(term, run);
  if (value === undefined) return { rank: 2, number: 0, text: '' };
  if (typeof value !== 'string') return { rank: 0, number: Number(value), text: '' };
  const number = 'group' in term && term.group !== 'parameters' ? readNumber(value) : undefined;
  return { rank: number === undefined ? 1 : 0, number: number ?? 0, text: value };
}
