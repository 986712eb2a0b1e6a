// What the Python SDK costs a script; measured in Python.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { Figure } from './figure.ts';

export const names = ['import', 'sdk-log'];

export async function* measure(): AsyncIterable<Figure> {
  const printed = execFileSync('python3', [join(import.meta.dirname, 'sdk.py')], { encoding: 'utf8' });
  for (const line of printed.trim().split('\n')) yield JSON.parse(line) as Figure;
}
