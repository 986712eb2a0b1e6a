// Parameters are taken from a script's arguments by themselves: `--alpha 0.1`, `--alpha=0.1`, `-n 3`, and `--verbose` alone as true.

import type { parameterValue } from '@stellwerk/contract/run.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { z } from 'zod';

export type ParameterValue = z.infer<typeof parameterValue>;
type Argument = string | number | boolean;

/** What would not fit a parameter is left out; it still stands in the configuration. An option given again keeps its last value. */
export function parametersOf(given: readonly Argument[]): Record<string, ParameterValue> {
  const found = new Map<string, ParameterValue>();
  const end = given.indexOf('--');
  const before = end < 0 ? given : given.slice(0, end);
  for (const [at, argument] of before.entries()) {
    const option = optionOf(argument);
    if (!option) continue;
    const value = option.value ?? valueFrom(before.slice(at + 1));
    if (fits(option.name, value)) found.set(option.name, typed(value));
  }
  return Object.fromEntries(found);
}

/** With another value for the option of that name; undefined if there is none. `false` takes away one that stands alone. */
export function withArgument(given: readonly Argument[], name: string, value: Argument): Argument[] | undefined {
  const end = given.indexOf('--');
  const before = end < 0 ? [...given] : given.slice(0, end);
  const at = before.findLastIndex((argument) => optionOf(argument)?.name === name);
  if (at < 0) return undefined;
  const written = String(before[at]);
  const bare = written.includes('=') ? written.slice(0, written.indexOf('=')) : written;
  const next = before.findIndex((argument, i) => i > at && optionOf(argument) !== undefined);
  const until = written.includes('=') ? at + 1 : next < 0 ? before.length : next;
  return [...before.slice(0, at), ...optionWith(bare, value, written, until - at - 1), ...given.slice(until)];
}

function optionWith(bare: string, value: Argument, written: string, values: number): Argument[] {
  if (written.includes('=') || optionOf(value)) return [`${bare}=${value}`];
  if (values === 0 && typeof value === 'boolean') return value ? [bare] : [];
  return [bare, ...(values > 1 && typeof value === 'string' ? value.split(/\s+/) : [value])];
}

/** Of what follows an option, all up to the next one: `--alphas 0.1 1 10` is one parameter. */
function valueFrom(following: readonly Argument[]): Argument {
  const next = following.findIndex((argument) => optionOf(argument) !== undefined);
  const values = next < 0 ? following : following.slice(0, next);
  return values.length <= 1 ? (values[0] ?? true) : values.join(' ');
}

/** Not an option: `-1`, `-0.5e3`, `-` and words. */
function optionOf(argument: Argument): { name: string; value?: string } | undefined {
  if (typeof argument !== 'string') return undefined;
  const match = /^(?:--([^\s=][^\s=]*)|-([A-Za-z][\w-]*))(?:=([\s\S]*))?$/.exec(argument);
  if (!match) return undefined;
  return { name: (match[1] ?? match[2])!, ...(match[3] !== undefined && { value: match[3] }) };
}

function fits(name: string, value: Argument): boolean {
  return name.length <= limits.metricNameLength && String(value).length <= limits.tagValueLength;
}

function typed(value: Argument): ParameterValue {
  if (typeof value !== 'string') return value;
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value)) {
    const number = Number(value);
    // A number that would not come back as it was, such as an id of 20 digits or 007, is text.
    if (
      Number.isFinite(number) &&
      !/^[+-]?0\d/.test(value) &&
      (Number.isSafeInteger(number) || !/^[+-]?\d+$/.test(value))
    )
      return number;
  }
  if (/^(true|false)$/i.test(value)) return value.toLowerCase() === 'true';
  return value;
}
