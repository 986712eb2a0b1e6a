// Single values for eyes: times, sizes, durations, lists.
import { legible } from '@stellwerk/contract/paths.ts';
import pc from 'picocolors';
import { plain } from './plain.ts';

const isoTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;

/** One value on one line. `name` tells the unit: `sizeBytes`, `durationMs`; a `path` is written out. */
export function shown(value: unknown, name = ''): string {
  if (value === undefined || value === null) return '';
  if (typeof value === 'number') return shownNumber(value, name);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'string' && name === 'path') return legible(value);
  if (typeof value === 'string') return isoTime.test(value) ? shownTime(value) : plain(value);
  if (Array.isArray(value)) return value.map((item) => shown(item)).join(', ');
  return Object.entries(value)
    .map(([key, item]) => `${plain(key)}=${shown(item, key)}`)
    .join(' ');
}

function shownNumber(value: number, name: string): string {
  if (/bytes$/i.test(name)) return shownSize(value);
  if (/Ms$/.test(name)) return shownDuration(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

export function shownSize(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let at = 0;
  let size = bytes;
  for (; size >= 1024 && at < units.length - 1; at++) size /= 1024;
  return `${at === 0 ? size : size.toFixed(size < 10 ? 1 : 0)} ${units[at]}`;
}

function shownDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** In the reader's time zone, to the second. */
export function shownTime(iso: string): string {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return plain(iso);
  const two = (number: number) => String(number).padStart(2, '0');
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

const good = new Set(['completed', 'succeeded', 'healthy', 'usable', 'ready', 'done']);
const bad = new Set(['failed', 'lost', 'unhealthy', 'refused']);
const busy = new Set(['queued', 'preparing', 'running', 'finalizing', 'building', 'deploying', 'updating', 'starting']);

export function colored(state: string): string {
  if (good.has(state)) return pc.green(state);
  if (bad.has(state)) return pc.red(state);
  if (busy.has(state)) return pc.cyan(state);
  return state === 'canceled' ? pc.yellow(state) : state;
}
