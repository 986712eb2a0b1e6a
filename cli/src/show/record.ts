// One thing with all its fields, for eyes: names in front, lists of things as tables below.
import pc from 'picocolors';
import { plain } from './plain.ts';
import { type Item, tableOf } from './table.ts';
import { colored, shown } from './values.ts';

/** A longer text (a lock, a log) is cut here; `--json` has all of it. */
const longest = 600;

export function recordOf(item: Item): string {
  const fields = Object.entries(item).filter(([, value]) => !isEmpty(value));
  const width = Math.max(0, ...fields.filter(([, value]) => isShort(value)).map(([name]) => name.length));
  return fields.map(([name, value]) => field(name, value, width)).join('\n');
}

function field(name: string, value: unknown, width: number): string {
  if (isShort(value)) {
    const text = shown(value, name);
    return `${pc.bold(plain(name).padEnd(width))}  ${name === 'state' ? colored(text) : cut(text)}`;
  }
  if (Array.isArray(value)) {
    const body = isItem(value[0]) ? tableOf(value as Item[], name) : value.map((one) => cut(shown(one))).join('\n');
    return `${pc.bold(plain(name))}\n${indented(body)}`;
  }
  return `${pc.bold(plain(name))}\n${indented(recordOf(value as Item))}`;
}

const isEmpty = (value: unknown) =>
  value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0);

const isItem = (value: unknown): value is Item => typeof value === 'object' && value !== null && !Array.isArray(value);

function isShort(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0 || (!isItem(value[0]) && shown(value).length < 80);
  if (!isItem(value)) return true;
  return Object.values(value).every((inner) => typeof inner !== 'object' || inner === null) && shown(value).length < 80;
}

const cut = (text: string) => (text.length > longest ? `${text.slice(0, longest)}… (${text.length} characters)` : text);
const indented = (text: string) => text.replace(/^/gm, '  ');
