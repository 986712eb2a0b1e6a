// Where an input travels: path, query or JSON body, as contract/src/verb.ts says.

import { pathFields, usesQuery, type Verb } from '@stellwerk/contract/verb.ts';
import { apiPrefix } from '@stellwerk/contract/verbs.ts';

export interface Addressed {
  /** Path and query, beginning with the API's prefix. */
  target: string;
  body: Record<string, unknown> | undefined;
}

/** The verb's input without its path fields, and its address. A path field that is missing is the caller's mistake. */
export function addressOf(declaration: Verb, input: Record<string, unknown>): Addressed {
  const inPath = new Set(pathFields(declaration.path));
  const path = declaration.path.replace(/\{(\w+)\}/g, (_, field: string) => {
    const value = input[field];
    if (value === undefined || value === '') throw new TypeError(`\`${field}\` is missing: it stands in the address.`);
    return encodeURIComponent(String(value));
  });
  const rest = Object.entries(input).filter(([field, value]) => !inPath.has(field) && value !== undefined);
  if (!usesQuery(declaration) && declaration.transport !== 'upload')
    return { target: apiPrefix + path, body: Object.fromEntries(rest) };
  const query = queryOf(rest);
  return { target: apiPrefix + path + (query && `?${query}`), body: undefined };
}

/** A list is its name repeated; an object is JSON. */
function queryOf(fields: [string, unknown][]): string {
  const query = new URLSearchParams();
  for (const [field, value] of fields) {
    for (const item of Array.isArray(value) ? value : [value])
      query.append(field, typeof item === 'object' ? JSON.stringify(item) : String(item));
  }
  return query.toString();
}
