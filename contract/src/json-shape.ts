// What of JSON is refused before anybody looks at what it means: nothing of ours is nested as deep or has as many keys in one object,
// and whoever reads it later, in whatever language, must be able to.
import { limits } from './values.ts';

/** Why it is refused, or undefined. Goes no deeper than the limit. */
export function flawOfJson(value: unknown): string | undefined {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limits.jsonDepth) return `it is nested more than ${limits.jsonDepth} levels deep`;
    const next: unknown[] = [];
    for (const one of level) {
      if (typeof one !== 'object' || one === null) continue;
      const inside = Object.values(one);
      if (!Array.isArray(one) && inside.length > limits.jsonKeys)
        return `an object in it has more than ${limits.jsonKeys} keys`;
      for (const part of inside) if (typeof part === 'object' && part !== null) next.push(part);
    }
    level = next;
  }
  return undefined;
}

/** So short a text cannot be nested dangerously deep; most texts are. */
const shortText = 2_000;

/** Whether a text is nested deeper than any of ours. To be asked before parsing it: V8 itself breaks on some that are. */
export function isNestedTooDeep(text: string): boolean {
  if (text.length < shortText) return false;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) at = endOfString(text, at + 1);
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > limits.jsonDepth + 1) return true;
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
  return false;
}

/** Like `JSON.parse`, for texts of others. */
export function parseJson(text: string): unknown {
  if (isNestedTooDeep(text)) throw new SyntaxError(`it is nested more than ${limits.jsonDepth} levels deep`);
  return JSON.parse(text);
}

/** Like `JSON.stringify`, which makes 0 of the negative zero: as `-0.0` every reader takes it for the number that it is. */
export function jsonText(value: unknown, indent = 0): string {
  return JSON.stringify(value, holdsNegativeZero(value) ? withSign : undefined, indent);
}

// Not among the types yet.
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
const withSign = (_key: string, value: unknown) => (Object.is(value, -0) ? rawJSON('-0.0') : value);

/** Looked for first: writing with a function that is asked about each value is slow. */
function holdsNegativeZero(value: unknown): boolean {
  const open: unknown[] = [value];
  while (open.length > 0) {
    const one = open.pop();
    if (Object.is(one, -0)) return true;
    if (typeof one !== 'object' || one === null) continue;
    for (const key in one) open.push((one as Record<string, unknown>)[key]);
  }
  return false;
}

function endOfString(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x5c) at++;
    else if (code === 0x22) return at;
  }
  return text.length;
}
