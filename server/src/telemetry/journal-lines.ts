// Reads the lines of a journal, strictly: the frequent entry by hand, the rare ones with the contract's schema. Nothing is applied
// here; a line that is not an entry is refused with its number, and nothing of its batch counts.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { flawOfJson, isNestedTooDeep } from '@stellwerk/contract/json-shape.ts';
import { type JournalEntry, journalEntry } from '@stellwerk/contract/telemetry.ts';
import { limits } from '@stellwerk/contract/values.ts';
import { Points } from './points.ts';
import { isOfResource, keptName } from './resource-series.ts';

export interface LoggedRow {
  kind: 'row' | 'table' | 'image' | 'confusion_matrix' | 'predictions' | 'residuals' | 'accuracy_table';
  step: number | null;
  time: number;
  row: Record<string, unknown>;
}

/** What one series got. */
export interface Logged {
  points?: Points;
  isList?: true;
  rows?: LoggedRow[];
}

export type OtherEntry = Exclude<JournalEntry, ['m' | 'l' | 'r' | 't' | 'o' | 'u', ...unknown[]]>;

export interface JournalContent {
  series: Map<string, Logged>;
  /** Entries that are about the run itself, in their order, with the number of their line. */
  others: { entry: OtherEntry; line: number }[];
}

/** A time as a date can hold. */
const latestSeconds = 8.64e12;
const odd: Record<string, number> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
};

/** Whole lines: `text` ends with a line's end. */
export function readJournal(text: string): JournalContent {
  const content: JournalContent = { series: new Map(), others: [] };
  let line = 0;
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf('\n', start);
    line++;
    readLine(text.slice(start, end), line, content);
    start = end + 1;
  }
  return content;
}

function readLine(text: string, line: number, content: JournalContent): void {
  if (text.length > limits.journalLineBytes)
    throw invalid(line, `it is longer than ${limits.journalLineBytes} characters`);
  if (isNestedTooDeep(text)) throw invalid(line, `it is nested more than ${limits.jsonDepth} levels deep`);
  let entry: unknown;
  try {
    entry = JSON.parse(text);
  } catch {
    throw invalid(line, 'it is not JSON');
  }
  if (!Array.isArray(entry)) throw invalid(line, 'it is not a JSON array');
  if (!readNumber(entry, content)) readRare(entry, line, content);
}

/** The entry that a training loop writes by the million. False if it is another, or not quite this. */
function readNumber(entry: unknown[], content: JournalContent): boolean {
  if (entry[0] !== 'm' || entry.length !== 5) return false;
  const [, name, given, step, time] = entry;
  if (typeof name !== 'string' || name === '' || name.length > limits.metricNameLength || isOfResource(name))
    return false;
  const value = typeof given === 'number' ? given : odd[given as string];
  if (value === undefined || !(step === null || Number.isSafeInteger(step)) || !isTime(time)) return false;
  pointsOf(content, name).add(value, step as number | null, time);
  return true;
}

function readRare(raw: unknown[], line: number, content: JournalContent): void {
  const flaw = flawOfJson(raw);
  if (flaw) throw invalid(line, flaw);
  const checked = journalEntry.safeParse(raw);
  if (!checked.success) throw invalid(line, flawOf(raw, checked.error.issues as Issue[]));
  const entry = checked.data;
  switch (entry[0]) {
    case 'm':
      pointsOf(content, entry[1]).add(Number(entry[2]), entry[3], entry[4]);
      break;
    case 'u':
      pointsOf(content, keptName(entry[1])).add(entry[2], null, entry[3]);
      break;
    case 'l':
      readList(entry, content);
      break;
    case 'r':
      if (Object.keys(entry[2]).length > limits.rowColumns)
        throw invalid(line, `its row has more than ${limits.rowColumns} columns`);
      addRow(content, entry[1], { kind: 'row', row: entry[2], step: entry[3], time: entry[4] });
      break;
    case 't':
      addRow(content, entry[1], { kind: 'table', row: entry[2], step: entry[3], time: entry[4] });
      break;
    case 'o':
      addRow(content, entry[1], { kind: entry[2], row: entry[3], step: entry[4], time: entry[5] });
      break;
    default:
      content.others.push({ entry, line });
  }
}

function readList(
  [, name, values, step, time]: Extract<JournalEntry, ['l', ...unknown[]]>,
  content: JournalContent,
): void {
  const points = pointsOf(content, name);
  content.series.get(name)!.isList = true;
  for (const value of values) {
    const number = typeof value === 'number' ? value : odd[value as string];
    if (number === undefined) points.addOdd(value as string | boolean | null, step, time);
    else points.add(number, step, time);
  }
}

function addRow(content: JournalContent, name: string, row: LoggedRow): void {
  const logged = content.series.get(name) ?? {};
  content.series.set(name, logged);
  logged.rows ??= [];
  logged.rows.push(row);
}

function pointsOf(content: JournalContent, name: string): Points {
  const logged = content.series.get(name) ?? {};
  content.series.set(name, logged);
  logged.points ??= new Points();
  return logged.points;
}

function isTime(time: unknown): time is number {
  return typeof time === 'number' && Math.abs(time) <= latestSeconds;
}

interface Issue {
  path: PropertyKey[];
  message: string;
  /** Of a union: what is wrong with each alternative. */
  errors?: Issue[][];
}

/** In the order of the contract's alternatives. */
const kinds = ['m', 'l', 'r', 't', 'o', 'tag', 'prop', 'param', 'name', 'state', 'file', 'u'];

function flawOf([kind]: unknown[], [issue]: readonly Issue[]): string {
  const meant = kinds.indexOf(kind as string);
  if (meant < 0)
    return `it begins with ${JSON.stringify(kind ?? null).slice(0, 50)}, not with one of ${kinds.join(', ')}`;
  const { path, message } = issue?.errors?.[meant]?.[0] ?? issue!;
  return `${path.length > 0 ? `element ${path.join('.')} of the` : 'the'} ${kind} entry: ${message}`;
}

export function invalid(line: number, why: string): ServiceError {
  return new ServiceError(
    'invalid-argument',
    'run.journal-invalid',
    `Line ${line} of this part of the journal is refused: ${why}.`,
    { line },
  );
}
