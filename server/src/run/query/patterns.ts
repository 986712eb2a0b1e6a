// Regular expressions of queries, by an engine whose time grows with the text only, never exponentially: no pattern can stop the server.
import type { RE2JS } from 're2js';
import { NotLoaded } from '../../db/transactions.ts';

// The engine takes some megabytes: whoever never asks with an expression is spared them.
let engine: typeof import('re2js') | undefined;
const kept = new Map<string, RE2JS>();
const mostKept = 100;
const longest = 1_000;

export async function loadPatterns(): Promise<void> {
  engine = await import('re2js');
}

function loaded(): typeof import('re2js') {
  if (!engine) throw new NotLoaded(loadPatterns());
  return engine;
}

/** What is wrong with a pattern. */
export function flawOfPattern(pattern: string): string | undefined {
  if (pattern.length > longest) return `it has more than ${longest} characters`;
  const { RE2JSException } = loaded();
  try {
    compiled(pattern);
    return undefined;
  } catch (error) {
    if (error instanceof RE2JSException) return error.message;
    throw error;
  }
}

/** Whether it is found anywhere in the text. An index gives equal texts one after another: these are looked at once. */
export function isFound(pattern: string, text: string): boolean {
  if (text !== last.text || pattern !== last.pattern)
    last = { pattern, text, found: compiled(pattern).matcher(text).find() };
  return last.found;
}

let last = { pattern: '', text: '', found: true };

function compiled(pattern: string): RE2JS {
  const known = kept.get(pattern);
  if (known) return known;
  const made = loaded().RE2JS.compile(pattern);
  if (kept.size >= mostKept) kept.delete(kept.keys().next().value!);
  kept.set(pattern, made);
  return made;
}
