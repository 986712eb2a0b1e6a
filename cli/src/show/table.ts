// Lists as tables: the columns that matter for each kind of thing, as wide as the terminal is.
import Table from 'cli-table3';
import pc from 'picocolors';
import { surroundings } from '../surroundings.ts';
import { columnValue } from './columns.ts';
import { colored, shown } from './values.ts';

export type Item = Record<string, unknown>;

/** By noun, or `noun.verb` where a verb lists something else. What is not here shows its first plain fields. */
const columns: Record<string, string[]> = {
  workspaces: ['name', 'displayName', 'createdBy', 'createdAt', 'tags'],
  users: ['name', 'kind', 'displayName', 'administrator', 'disabled', 'lastSignInAt'],
  tokens: ['id', 'name', 'user', 'workspace', 'role', 'expiresAt', 'lastUsedAt'],
  members: ['user', 'role', 'since'],
  audit: ['at', 'actor', 'verb', 'workspace', 'subject', 'outcome', 'reason'],
  activities: ['id', 'kind', 'subject', 'state', 'progress.message', 'createdAt', 'endedAt'],
  compute: ['name', 'kind', 'state', 'trains', 'hostsServices', 'queued', 'running', 'reason'],
  datastores: ['name', 'kind', 'isDefault', 'createdAt'],
  'datastores.listFiles': ['path', 'sizeBytes', 'modifiedAt'],
  experiments: ['name', 'runCount', 'lastRunAt', 'createdBy', 'description'],
  runs: ['id', 'experiment', 'number', 'displayName', 'state', 'target', 'createdAt', 'durationMs', 'tags', 'metrics'],
  'runs.listFiles': ['path', 'sizeBytes', 'at'],
  'snapshots.listFiles': ['path', 'sizeBytes', 'executable'],
  metrics: ['name', 'kind', 'count', 'last', 'min', 'max', 'lastStep'],
  logs: ['name', 'sizeBytes', 'complete'],
  trash: ['id', 'kind', 'name', 'runs', 'deletedAt', 'deletedBy', 'until'],
  'server.listCollections': ['id', 'state', 'dryRun', 'createdBy', 'createdAt', 'endedAt', 'report.freedBytes'],
  models: ['name', 'version', 'aliases', 'framework', 'sizeBytes', 'run', 'createdAt', 'tags'],
  images: ['name', 'version', 'state', 'models', 'sizeBytes', 'createdAt', 'tags'],
  services: ['name', 'state', 'image', 'replicas', 'target', 'scoringUri', 'updatedAt'],
};

/** `asked` are the columns that were asked for: these are shown, and in this order. */
export function tableOf(items: readonly Item[], name: string, asked?: readonly string[]): string {
  if (items.length > 0 && asked) {
    const head = asked.map((column) => pc.bold(column));
    return textTable(
      head,
      items.map((item) => asked.map((column) => cell(columnValue(item, column), column))),
    );
  }
  const flat = items.map((item) => withMetrics(item));
  const wanted = columns[name] ?? columns[name.split('.')[0]!] ?? firstPlainFields(flat);
  const used = wanted.filter((column) => flat.some((item) => shown(valueAt(item, column)) !== ''));
  const kindOf = (column: string) => (name.startsWith('logs') && column === 'name' ? 'path' : column);
  if (flat.length === 0) return pc.dim('Nothing found.');
  return textTable(
    used.map((column) => pc.bold(titleOf(column))),
    flat.map((item) => used.map((column) => cell(valueAt(item, column), column, kindOf(column)))),
  );
}

function textTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = { top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '' };
  const frame = { 'bottom-left': '', 'bottom-right': '', left: '', 'left-mid': '', mid: '', 'mid-mid': '' };
  const table = new Table({
    chars: { ...line, ...frame, right: '', 'right-mid': '', middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
    ...(head.length > 0 ? { head: [...head] } : {}),
  });
  table.push(...rows.map((row) => [...row]));
  return table
    .toString()
    .split('\n')
    .map((row) => row.trimEnd())
    .join('\n');
}

function cell(value: unknown, column: string, kind = column): string {
  const text = shown(value, kind);
  const short = surroundings.isTerminal ? shortened(text, Math.max(24, Math.floor(surroundings.width / 3))) : text;
  return column === 'state' || column === 'outcome' ? colored(short) : short;
}

function shortened(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`;
}

function valueAt(item: Item, column: string): unknown {
  return column.split('.').reduce<unknown>((value, part) => (value as Item | undefined)?.[part], item);
}

/** `durationMs` → `duration`, `createdAt` → `created`, `lastSignInAt` → `last sign in`. */
function titleOf(column: string): string {
  const words = column.replace(/\.message$/, '').replace(/(?<=[a-z])(Ms|Bytes|At)$/, '');
  return words.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function firstPlainFields(items: readonly Item[]): string[] {
  const first = items[0] ?? {};
  return Object.keys(first)
    .filter((key) => typeof first[key] !== 'object')
    .slice(0, 7);
}

/** Metric summaries as `mse=2900.1`. */
function withMetrics(item: Item): Item {
  if (!Array.isArray(item.metrics)) return item;
  const entries = (item.metrics as Item[]).map((summary) => [String(summary.name), summary.last]);
  return { ...item, metrics: Object.fromEntries(entries) };
}
