// Answers on standard output: as JSON with `--json`, else for eyes.

import type { Activity } from '@stellwerk/contract/activity.ts';
import { jsonText } from '@stellwerk/contract/json-shape.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import pc from 'picocolors';
import type { Session } from './session.ts';
import { plain, plainLog } from './show/plain.ts';
import { colored, shownTime } from './show/values.ts';
import { surroundings } from './surroundings.ts';

type Item = Record<string, unknown>;

export async function printAnswer(
  answer: unknown,
  name: string,
  session: Session,
  columns?: readonly string[],
): Promise<void> {
  if (session.json) return printJson(answer);
  const item = answer as Item;
  if (Array.isArray(item.items)) {
    const { tableOf } = await import('./show/table.ts');
    line(tableOf(item.items as Item[], name, columns));
    if (item.nextPage) note(`There is more: add --all, or --page ${String(item.nextPage)}`);
    return;
  }
  if (Object.keys(item).length === 0) return line('Done.');
  const { recordOf } = await import('./show/record.ts');
  line(recordOf(item));
}

export function printJson(value: unknown): void {
  process.stdout.write(`${jsonOf(value, surroundings.isTerminal ? 2 : 0)}\n`);
}

/** JSON escapes most of what steers a terminal by itself; the rest is escaped too. */
export function jsonOf(value: unknown, indent = 0): string {
  return jsonText(value, indent).replace(
    /[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

export function printEvent(event: unknown, session: Session): void {
  if (session.json) return void process.stdout.write(`${jsonOf(event)}\n`);
  const { activity } = event as { activity: Activity };
  line(activityLine(activity));
}

export function activityLine(activity: Activity): string {
  const fraction = activity.progress.fraction;
  const share = fraction === undefined || activity.endedAt ? '' : ` ${Math.round(fraction * 100)} %`;
  const said = activity.error?.message ?? activity.progress.message;
  const time = shownTime(activity.endedAt ?? new Date().toISOString()).slice(11);
  return `${pc.dim(time)} ${activity.kind} ${pc.bold(plain(activity.subject))} ${colored(activity.state)}${share} ${plain(said)}`;
}

/** A part of a log: as it is to a file or a program, harmless to a terminal. */
export function printLog(text: string): void {
  process.stdout.write(surroundings.isTerminal ? plainLog(text) : text);
}

export function line(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Beside the answer: goes to standard error, so that a program that reads the answer is not disturbed. */
export function note(text: string): void {
  process.stderr.write(`${pc.dim(plain(text, { lines: true }))}\n`);
}

export function noteLoss({ id, reason }: Run): void {
  note(
    `The run ${id} is lost${reason ? `: ${reason}` : '.'} It goes on here if its runner is heard of again; Ctrl+C leaves it.`,
  );
}
