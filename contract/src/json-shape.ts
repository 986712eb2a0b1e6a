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
