// The built images as container programs pull them: names, versions, and what belongs to which. For the registry, which lies below.
import type { Digest } from '../blob/bytes.ts';
import type { Database } from '../db/database.ts';
import { sql } from '../db/transactions.ts';
import type { Shelf } from '../registry/registry.ts';

export function imageShelf(db: Database): Shelf {
  const built = (workspace: string) =>
    sql.selectFrom('image').where('image.workspace', '=', workspace).where('image.digest', 'is not', null);
  const named = (workspace: string, name: string) => built(workspace).where('image.name', '=', name);
  return {
    async names(workspace, after, limit) {
      let query = built(workspace).select('name').distinct().orderBy('name').limit(limit);
      if (after !== undefined) query = query.where('name', '>', after);
      return (await db.all(query)).map(({ name }) => name);
    },
    async versions(workspace, name, after, limit) {
      let query = named(workspace, name).select((e) => e.cast<string>('version', 'text').as('tag'));
      if (after !== undefined) query = query.where((e) => e(e.cast<string>('version', 'text'), '>', after));
      return (await db.all(query.orderBy('tag').limit(limit))).map(({ tag }) => tag);
    },
    async manifestOf(workspace, name, version) {
      const query = named(workspace, name).select('digest');
      const one = version === 'latest' ? query.orderBy('version', 'desc') : query.where('version', '=', version);
      return (await db.first(one.limit(1)))?.digest as Digest | undefined;
    },
    async hasManifest(workspace, name, digest) {
      const query = named(workspace, name).select('digest').where('digest', '=', digest);
      return (await db.first(query.limit(1))) !== undefined;
    },
    async hasPart(workspace, name, digest) {
      const query = named(workspace, name)
        .innerJoin('blob_ref', (join) =>
          join
            .onRef('blob_ref.workspace', '=', 'image.workspace')
            .on('blob_ref.owner_kind', '=', 'image')
            .on((e) =>
              e('blob_ref.owner_id', '=', e.fn<string>('printf', [e.val('%s:%d'), 'image.name', 'image.version'])),
            )
            .on('blob_ref.digest', '=', digest),
        )
        .select('blob_ref.digest');
      return (await db.first(query.limit(1))) !== undefined;
    },
  };
}
