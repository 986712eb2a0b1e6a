// All sources of the repository, read once: what the rules of `tools/tidy.ts` look at.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Source {
  /** Relative to the repository, with forward slashes. */
  path: string;
  text: string;
  /** Without comments; strings stay. */
  code: string;
  imports: string[];
}

export interface Finding {
  rule: string;
  path: string;
  what: string;
}

export const root = join(import.meta.dirname, '..', '..');
const folders = ['contract', 'server', 'client', 'cli', 'tools', 'test', 'bench', 'python', 'examples', 'docs'];
const leftOut = /(^|\/)(node_modules|dist|__pycache__|_vendor|\.cache)(\/|$)/;
const kept = /\.(ts|mjs|py|md|json|toml|ya?ml|runconfig)$/;

const pages = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md'];

export function readSources(): Source[] {
  const there = pages.filter((page) => existsSync(join(root, page)));
  return [...there, ...folders.flatMap((folder) => [...filesBelow(folder)])].map(read);
}

function* filesBelow(folder: string): Generator<string> {
  let entries: ReturnType<typeof entriesOf>;
  try {
    entries = entriesOf(folder);
  } catch {
    return; // not every folder is there yet
  }
  for (const entry of entries) {
    const path = `${folder}/${entry.name}`;
    if (leftOut.test(path)) continue;
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (kept.test(entry.name)) yield path;
  }
}

const entriesOf = (folder: string) => readdirSync(join(root, folder), { withFileTypes: true });

const read = (path: string) => sourceOf(path, readFileSync(join(root, path), 'utf8'));

export function sourceOf(path: string, text: string): Source {
  const code = path.endsWith('.ts') || path.endsWith('.mjs') ? withoutComments(text) : text;
  return { path, text, code, imports: [...code.matchAll(importing)].map((match) => match[1] ?? match[2] ?? '') };
}

const importing = /(?:^|\n)\s*(?:import|export)\b[^;'"]*?from\s*'([^']+)'|\bimport\s*\(?\s*'([^']+)'/g;

/** Keeps strings and templates as they are: a comment's beginning inside them is none. */
function withoutComments(text: string): string {
  return text.replace(
    /\/\*[\s\S]*?\*\/|(?<!:)\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\[\s\S]|[^`\\])*`/g,
    (found) => (found.startsWith('/') ? '' : found),
  );
}

export const isTypeScript = ({ path }: Source) => path.endsWith('.ts');
export const isTest = ({ path }: Source) =>
  /\.(test|suite|fixture)\.ts$/.test(path) ||
  /(^|\/)(tests?|bench)\//.test(path) ||
  /\/(test-|scratch-|hostile-)[^/]*$/.test(path);
export const isServer = ({ path }: Source) => path.startsWith('server/src/');
