import { mutated, valueOrRefusal } from '@stellwerk/contract/mutated.fixture.ts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keyOf, pageFrom, rowsFor, usualPageSize } from './paging.ts';

const rows = Array.from({ length: 7 }, (_, n) => ({ name: `n${n}`, at: n }));
const read = (after: number, paging: { pageSize?: number }) => rows.slice(after, after + rowsFor(paging));

describe('pages', () => {
  it('cover a list once, the last one without a token', () => {
    const seen: string[] = [];
    let page: string | undefined;
    for (let pages = 1; pages <= 3; pages++) {
      const paging = { page, pageSize: 3 };
      const [, at] = keyOf(paging, 2) ?? ['', -1];
      const cut = pageFrom(
        read(Number(at) + 1, paging),
        paging,
        ({ name }) => name,
        (row) => [row.name, row.at],
      );
      seen.push(...cut.items);
      page = cut.nextPage;
      expect(page === undefined).toBe(pages === 3);
    }
    expect(seen).toEqual(rows.map(({ name }) => name));
  });

  it('have a usual size', () => {
    expect(rowsFor({})).toBe(usualPageSize + 1);
  });

  it('are refused for a token that this list did not give', () => {
    const tokenOf = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    for (const page of ['x', '%', tokenOf({}), tokenOf(['a']), tokenOf(['a', {}]), tokenOf(['a', 1, 2])])
      expect(() => keyOf({ page }, 2)).toThrow('not one that this list gave');
    expect(keyOf({ page: tokenOf(['a', null]) }, 2)).toEqual(['a', null]);
    expect(keyOf({ page: '' }, 2), 'an empty token is the first page').toBeUndefined();
  });

  it('go on from a key or are refused, whatever became of the token', async () => {
    const inside = mutated('["name",1,null]', '["a",1e999,"b"]').map((text) => Buffer.from(text).toString('base64url'));
    const outside = mutated(Buffer.from('["name",1,null]').toString('base64url'));
    await fc.assert(
      fc.asyncProperty(fc.oneof(inside, outside), async (page) => {
        const key = await valueOrRefusal(() => keyOf({ page }, 3));
        for (const value of key ?? []) expect(value === null || /number|string/.test(typeof value)).toBe(true);
        if (key) expect(key).toHaveLength(3);
      }),
      { numRuns: 2_000 },
    );
  });

  it('are refused for a token that is nested without end, on which V8 breaks', () => {
    const page = Buffer.from(`${'["prop",'.repeat(30_000)}"key","value"]`).toString('base64url');
    for (let i = 0; i < 50; i++) expect(() => keyOf({ page }, 2)).toThrow('not one that this list gave');
  });
});
