// Tags, properties and parameters of a run, inside a transaction.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { Transaction } from '../db/transactions.ts';
import type { ParameterValue } from './parameters.ts';
import type { ParameterRow } from './store.ts';

const parametersPerRun = 10_000;

/** Null removes a tag. */
export function setTag(tx: Transaction, runKey: number, name: string, value: string | null): void {
  if (value === null) {
    tx.statement('DELETE FROM run_tag WHERE run_key = ? AND name = ?').run(runKey, name);
    return;
  }
  tx.statement(
    `INSERT INTO run_tag (run_key, name, value, number) VALUES (?, ?, ?, ?)
     ON CONFLICT (run_key, name) DO UPDATE SET value = excluded.value, number = excluded.number`,
  ).run(runKey, name, value, numberIn(value));
  refuseMore(tx, 'run_tag', runKey, limits.tags, 'tags');
}

/** A property is set once; setting it to what it is is harmless. */
export function setProperty(tx: Transaction, runKey: number, name: string, value: string): void {
  const found = tx
    .statement<{ value: string }>('SELECT value FROM run_property WHERE run_key = ? AND name = ?')
    .get(runKey, name);
  if (found && found.value !== value)
    throw new ServiceError(
      'conflict',
      'run.property-set',
      `The property ${JSON.stringify(name)} is set already, to another value.`,
    );
  if (found) return;
  tx.statement('INSERT INTO run_property (run_key, name, value, number) VALUES (?, ?, ?, ?)').run(
    runKey,
    name,
    value,
    numberIn(value),
  );
  refuseMore(tx, 'run_property', runKey, limits.tags, 'properties');
}

/** The number that a text is, blanks around it left out. */
export function numberIn(text: string): number | null {
  return /^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(text) ? Number(text) : null;
}

export function setParameter(tx: Transaction, runKey: number, name: string, value: ParameterValue): void {
  const { kind, number, text } = parameterColumns(value);
  tx.statement(
    `INSERT INTO run_parameter (run_key, name, kind, number, text) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (run_key, name) DO UPDATE SET kind = excluded.kind, number = excluded.number, text = excluded.text`,
  ).run(runKey, name, kind, number, text);
  refuseMore(tx, 'run_parameter', runKey, parametersPerRun, 'parameters');
}

function parameterColumns(value: ParameterValue): Pick<ParameterRow, 'kind' | 'number' | 'text'> {
  if (typeof value === 'number') return { kind: 'number', number: value, text: null };
  if (typeof value === 'boolean') return { kind: 'boolean', number: Number(value), text: null };
  return value === null ? { kind: 'null', number: null, text: null } : { kind: 'text', number: null, text: value };
}

export function parameterOf({ kind, number, text }: ParameterRow): ParameterValue {
  if (kind === 'boolean') return number === 1;
  return kind === 'number' ? number : text;
}

function refuseMore(tx: Transaction, table: string, runKey: number, most: number, what: string): void {
  const { count } = tx
    .statement<{ count: number }>(`SELECT count(*) AS count FROM ${table} WHERE run_key = ?`)
    .get(runKey)!;
  if (count > most) throw new ServiceError('invalid-argument', 'request.invalid', `A run has at most ${most} ${what}.`);
}
