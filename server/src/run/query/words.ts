// The words of a query: names, quoted names, text, numbers and signs, each with its place in what the user wrote.
import { ServiceError } from '@stellwerk/contract/errors.ts';

export interface Word {
  kind: 'name' | 'quoted-name' | 'text' | 'number' | 'sign' | 'end';
  /** Without its quotes. */
  value: string;
  /** Where it begins, from 0. */
  at: number;
}

const space = /\s+/y;
/** Parts of a name may hold what metric names often do; a dot separates parts. */
const name = /[\p{L}_][\p{L}\p{N}_/:@-]*/uy;
/** The one relative time that no name looks like. */
const later = /now\+\d{1,9}[smhdw](?![\p{L}\p{N}_])/iuy;
const part = /[\p{L}\p{N}_/:@-]+/uy;
const number = /[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?/iy;
const sign = /<=|>=|!=|<>|==|[=<>(),.]/y;
const quotes: Record<string, string> = { "'": "'", '"': '"', '`': '`' };

export function wordsOf(text: string): Word[] {
  const words: Word[] = [];
  for (let at = 0; at < text.length; ) {
    const blank = match(space, text, at);
    if (blank !== undefined) {
      at += blank.length;
      continue;
    }
    const word = wordAt(text, at, words);
    words.push(word.word);
    at = word.next;
  }
  words.push({ kind: 'end', value: '', at: text.length });
  return words;
}

function wordAt(text: string, at: number, before: readonly Word[]): { word: Word; next: number } {
  const quote = quotes[text[at]!];
  const afterDot = before.at(-1)?.value === '.' && before.at(-1)?.kind === 'sign';
  if (quote !== undefined) return quoted(text, at, quote, afterDot);
  // After a dot `5` is a part of a name, as in `metrics.top.5`.
  const named = afterDot ? match(part, text, at) : (match(later, text, at) ?? match(name, text, at));
  if (named !== undefined) return { word: { kind: 'name', value: named, at }, next: at + named.length };
  // A dot right behind a name separates its parts, whatever follows: `.5` is a number elsewhere.
  const isSeparator = text[at] === '.' && at > 0 && !/[\s(,=<>]/.test(text[at - 1]!);
  const digits = isSeparator ? undefined : match(number, text, at);
  if (digits !== undefined) return { word: { kind: 'number', value: digits, at }, next: at + digits.length };
  const signed = match(sign, text, at);
  if (signed !== undefined) return { word: { kind: 'sign', value: signed, at }, next: at + signed.length };
  throw refused(text, at, 'a name, a value, a comparison or a parenthesis');
}

/** A quote inside is written twice. Backquotes, and whatever stands after a dot, make a name; else it is text. */
function quoted(text: string, at: number, quote: string, afterDot: boolean): { word: Word; next: number } {
  let value = '';
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] !== quote) value += text[i];
    else if (text[i + 1] === quote) value += text[i++];
    else return { word: { kind: afterDot || quote === '`' ? 'quoted-name' : 'text', value, at }, next: i + 1 };
  }
  throw refused(text, text.length, `${quote}, since the one at character ${at + 1} is not closed`);
}

function match(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}

/** Points at the character and says what was expected there. */
export function refused(text: string, at: number, expected: string): ServiceError {
  const found = at >= text.length ? 'the query ends' : `there is ${JSON.stringify(text.slice(at, at + 20))}`;
  return new ServiceError(
    'invalid-argument',
    'query.invalid',
    `At character ${at + 1} of the query ${found}; expected ${expected}.`,
    {
      at,
      expected,
      query: text,
    },
  );
}
