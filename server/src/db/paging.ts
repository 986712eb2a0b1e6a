// Page tokens: the sort key of the last row of a page, so that the next one goes on from there whatever was added meanwhile.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { parseJson } from '@stellwerk/contract/json-shape.ts';

export const usualPageSize = 100;

export interface Paging {
  page?: string | undefined;
  pageSize?: number | undefined;
}

/** The key that a page token holds, or undefined on the first page. `length` is how many values the key has. */
export function keyOf(paging: Paging, length: number): (string | number | null)[] | undefined {
  if (!paging.page) return undefined;
  try {
    const key = parseJson(Buffer.from(paging.page, 'base64url').toString('utf8'));
    if (
      Array.isArray(key) &&
      key.length === length &&
      key.every((v) => v === null || typeof v === 'string' || typeof v === 'number')
    )
      return key;
  } catch {
    // said below
  }
  throw new ServiceError('invalid-argument', 'page.token-invalid', 'The page token is not one that this list gave.');
}

/** Cuts rows, read one more than wanted, into a page; `key` gives a row's sort key. */
export function pageFrom<Row, Item>(
  rows: Row[],
  paging: Paging,
  item: (row: Row) => Item,
  key: (row: Row) => (string | number | null)[],
): { items: Item[]; nextPage?: string } {
  const size = paging.pageSize ?? usualPageSize;
  const items = rows.slice(0, size).map(item);
  if (rows.length <= size) return { items };
  return { items, nextPage: Buffer.from(textOf(key(rows[size - 1]!))).toString('base64url') };
}

/** As JSON, in which numbers too great to hold are read as infinite. */
function textOf(key: readonly (string | number | null)[]): string {
  const values = key.map((value) => {
    if (typeof value !== 'number' || Number.isFinite(value)) return JSON.stringify(value);
    return value > 0 ? '1e999' : '-1e999';
  });
  return `[${values.join()}]`;
}

/** How many rows to read for a page: one more, to know whether there is another. */
export function rowsFor(paging: Paging): number {
  return (paging.pageSize ?? usualPageSize) + 1;
}
