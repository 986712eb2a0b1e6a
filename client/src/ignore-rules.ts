// The patterns of one ignore file, as git reads them; the same in shape as python/src/stellwerk/_ignore.py.
// Invariant: a pattern says something of the path it matches alone, never of what lies below; who walks does not enter what is left out.

interface Rule {
  pattern: RegExp;
  leavesOut: boolean;
  onlyFolders: boolean;
}

const namedClasses: Record<string, string> = {
  alpha: 'a-zA-Z',
  digit: '0-9',
  alnum: 'a-zA-Z0-9',
  upper: 'A-Z',
  lower: 'a-z',
  space: ' \\t\\n\\v\\f\\r',
  xdigit: '0-9a-fA-F',
  blank: ' \\t',
  punct: '!-\\/:-@\\[-`\\{-~',
};

export class IgnoreRules {
  /** The last line first: it decides. */
  private readonly rules: readonly Rule[];

  constructor(text: string) {
    this.rules = text
      .replace(/^\ufeff+/, '')
      .split('\n')
      .map(ruleOf)
      .filter((rule) => rule !== undefined)
      .reverse();
  }

  /** Left out (true), taken in again (false), or nothing said of it. */
  says(path: string, isFolder: boolean): boolean | undefined {
    return this.rules.find(({ pattern, onlyFolders }) => (isFolder || !onlyFolders) && pattern.test(path))?.leavesOut;
  }
}

function ruleOf(given: string): Rule | undefined {
  if (given.startsWith('#')) return undefined;
  let line = given.replace(/\r$/, '').replace(/(?<!\\) +$/, '');
  const leavesOut = !line.startsWith('!');
  if (!leavesOut) line = line.slice(1);
  const onlyFolders = line.endsWith('/');
  if (onlyFolders) line = line.slice(0, -1);
  if (line === '') return undefined;
  const expression = expressionOf(line.replace(/^\//, ''));
  if (expression === undefined) return undefined;
  const pattern = new RegExp(`^${line.includes('/') ? '' : '(?:.*/)?'}${expression}$`, 'su');
  return { pattern, leavesOut, onlyFolders };
}

function expressionOf(glob: string): string | undefined {
  let expression = '';
  let at = 0;
  while (at < glob.length) {
    const letter = glob[at]!;
    if (letter === '*') {
      const stars = /^\*+/.exec(glob.slice(at))![0].length;
      const after = at + stars;
      const isWhole = stars === 2 && (at === 0 || glob[at - 1] === '/');
      at = after;
      if (isWhole && glob[after] === '/') {
        expression += '(?:.*/)?';
        at++;
      } else expression += isWhole && after === glob.length ? '.+' : '[^/]*';
    } else if (letter === '[') {
      const read = classOf(glob, at);
      if (read === undefined) return undefined;
      expression += read.expression;
      at = read.end;
    } else {
      if (letter === '\\') at++;
      if (at === glob.length) return undefined;
      expression += letter === '?' ? '[^/]' : glob[at]!.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&');
      at++;
    }
  }
  return expression;
}

/** A bracket expression, or undefined if it does not end. */
function classOf(glob: string, start: number): { expression: string; end: number } | undefined {
  let at = start + 1;
  const isNegated = glob[at] === '!' || glob[at] === '^';
  if (isNegated) at++;
  let content = '';
  for (let isFirst = true; at < glob.length && (glob[at] !== ']' || isFirst); isFirst = false) {
    const named = /^\[:(\w+):\]/.exec(glob.slice(at));
    if (named) {
      content += namedClasses[named[1]!] ?? '';
      at += named[0].length;
      continue;
    }
    const isEscaped = glob[at] === '\\' && at + 1 < glob.length;
    if (isEscaped) at++;
    content += glob[at] === '-' && !isEscaped ? '-' : glob[at]!.replace(/[\\^$.*+?()[\]{}|/-]/, '\\$&');
    at++;
  }
  if (at >= glob.length) return undefined;
  const expression = `(?!/)[${isNegated ? '^' : ''}${content}]`;
  return { expression: isSound(expression) ? expression : '(?!)', end: at + 1 };
}

/** Not so is a range that runs backwards: it matches nothing. */
function isSound(expression: string): boolean {
  try {
    new RegExp(expression, 'u');
    return true;
  } catch {
    return false;
  }
}
