// Finds models by name, tag, framework and run, newest first. Each condition has an index to begin from.
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import { keyOf, rowsFor } from '../db/paging.ts';
import { readings, sql, type Transaction } from '../db/transactions.ts';
import { type ModelRecord, recordOf } from './store.ts';

export const modelSearches = readings('model-search', {
  /** One more than the page has, to know whether there is another. */
  list(tx: Transaction, search: CheckedOf<'models', 'list'>): ModelRecord[] {
    const { workspace, name, framework, run } = search;
    let query = sql
      .selectFrom('model')
      .selectAll()
      .where('workspace', '=', workspace)
      .where('trash', 'is', null)
      .orderBy('key', 'desc')
      .limit(rowsFor(search));
    const before = keyOf(search, 1);
    if (before) query = query.where('key', '<', Number(before[0]));
    if (name !== undefined) query = query.where('name', '=', name);
    if (framework !== undefined) query = query.where('framework', '=', framework);
    if (run !== undefined) query = query.where('run', '=', run);
    for (const tag of search.tag ?? []) query = query.where('key', 'in', taggedWith(workspace, tag));
    if (search.archived === 'only') query = query.where('archived_at', 'is not', null);
    if ((search.archived ?? 'without') === 'without') query = query.where('archived_at', 'is', null);
    if (search.latest) query = query.where((e) => e.not(e.exists(newer)));
    return tx.all(query).map((row) => recordOf(tx, row));
  },
});

/** `key`, or `key=value`. Keys may have equals signs themselves: each one may be the one that is meant. */
function taggedWith(workspace: string, tag: string) {
  const splits = [...tag.matchAll(/=/g)].map(({ index }) => [tag.slice(0, index), tag.slice(index + 1)] as const);
  return sql
    .selectFrom('model_tag')
    .select('model')
    .where('workspace', '=', workspace)
    .where((e) =>
      e.or([
        e('key', '=', tag),
        ...splits.slice(0, 10).map(([key, value]) => e.and([e('key', '=', key), e('value', '=', value)])),
      ]),
    );
}

const newer = sql
  .selectFrom('model as other')
  .select('other.key')
  .whereRef('other.workspace', '=', 'model.workspace' as never)
  .whereRef('other.name', '=', 'model.name' as never)
  .whereRef('other.version', '>', 'model.version' as never)
  .where('other.trash', 'is', null);
