// What of the runs that were found is read: what identifies them, and what is asked for.

import type { Wanted, WideField } from '../records.ts';
import { type Group, groupNamed } from './fields.ts';
import { parseColumn } from './language.ts';
import { refused } from './words.ts';

const wide: Record<string, WideField> = {
  configuration: 'configuration',
  environment: 'environment',
  git: 'git',
  lastlines: 'lastLines',
  differences: 'differences',
  job: 'job',
  usage: 'usage',
};

/** Without columns: all but what is wide, and no metrics. */
export function wantedOf(columns: readonly string[] | undefined, metrics: readonly string[] | undefined): Wanted {
  if (!columns) return { wide: [], fields: 'all', tags: 'all', properties: 'all', parameters: 'all', metrics };
  const fields = new Set<string>();
  const widely: WideField[] = [];
  const named: Record<Group, Set<string> | 'all'> = {
    tags: new Set(),
    properties: new Set(),
    parameters: new Set(),
    metrics: new Set(metrics),
  };
  for (const text of columns) {
    const wideField = wide[text.toLowerCase()];
    if (wideField) {
      widely.push(wideField);
      continue;
    }
    const column = parseColumn(text);
    if (column.of === 'run') fields.add(column.name);
    else if ('name' in column) {
      const names = named[column.of];
      if (names !== 'all') names.add(column.name);
    } else if (column.of === 'metrics')
      throw refused(text, text.length, 'a dot and a name: which metrics are wanted is said one by one');
    else named[groupNamed(column.of)!] = 'all';
  }
  if (fields.has('arguments')) widely.push('configuration');
  const list = (names: Set<string> | 'all') => (names === 'all' ? names : [...names]);
  return {
    wide: widely,
    fields,
    tags: list(named.tags),
    properties: list(named.properties),
    parameters: list(named.parameters),
    metrics: metrics || (named.metrics as Set<string>).size > 0 ? [...(named.metrics as Set<string>)] : undefined,
  };
}
