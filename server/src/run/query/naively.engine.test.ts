// Random runs in a real database, random queries: each answer, page by page, is what a naive evaluator finds.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RunRooms, runRooms, workspace } from '../run-rooms.fixture.ts';
import { runTrash } from '../trash.ts';
import { holds, type KnownRun, type Literal, type Ordering, sorted, type Term, type Tree } from './naively.fixture.ts';
import { queryReadings } from './query.ts';

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const metricNames = ['mse', 'val loss', 'top.5', 'min', 'ü"\'`'];
const labelNames = ['kind', 'fold', 'a b', '__proto__', 'Zoë'];
const texts = [
  'ridge',
  'Ridge',
  'lasso',
  '',
  '1',
  '01',
  '10',
  '9.5',
  ' 2 ',
  '-3e1',
  "it's",
  'a%b_c',
  '\u{1F600}',
  '\uFFEE',
];
const numbers = [0, 1, -1, 2, 9.5, 10, -30, 0.1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
const texting = fc.constantFrom(...texts);
const numbering = fc.constantFrom(...numbers);
const finite = fc.constantFrom(...numbers.filter(Number.isFinite));
const steps = [0, 1, 2, 3, 5, 1_000];

const labels = fc.dictionary(fc.constantFrom(...labelNames), texting, { maxKeys: 3 });
const series = fc.array(
  fc.record({
    value: fc.oneof({ weight: 6, arbitrary: numbering }, fc.constant(Number.NaN)),
    step: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...steps) }, fc.constant(null)),
  }),
  { minLength: 1, maxLength: 6 },
);
const madeRun = fc.record({
  submitted: fc.boolean(),
  experiment: fc.constantFrom('ridge', 'lasso', 'z'),
  displayName: fc.option(texting, { nil: undefined }),
  tags: labels,
  properties: labels,
  parameters: fc.dictionary(
    fc.constantFrom(...labelNames),
    fc.oneof(texting, finite, fc.boolean(), fc.constant(null)),
    { maxKeys: 3 },
  ),
  metrics: fc.dictionary(fc.constantFrom(...metricNames), series, { maxKeys: 3 }),
  child: fc.option(fc.nat(), { nil: undefined }),
  ends: fc.boolean(),
  archived: fc.boolean(),
});

let rooms: RunRooms;
const runs: KnownRun[] = [];
/** When each is archived, with what descends from it. */
const archiving: (string | undefined)[] = [];
const archivingTime = (at: number) => new Date(Date.UTC(2026, 0, 1) + at * 1_000).toISOString();
beforeAll(async () => {
  rooms = await runRooms();
  for (const [at, made] of fc.sample(madeRun, { numRuns: 90, seed }).entries()) {
    runs.push(await keep(made, `r${at}`));
    archiving.push(made.archived && at % 3 === 0 ? archivingTime(at) : undefined);
  }

  for (const [at, run] of runs.entries())
    if (archiving[at])
      await rooms.scratch.db.transact(runTrash.archive, { workspace, run: run.record.id, at: archiving[at] });
  // Children are counted after their parents have been made.
  for (const run of runs) run.record = await rooms.runs.get({ workspace, run: run.record.id });
});
afterAll(() => rooms[Symbol.asyncDispose]());

async function keep(made: typeof madeRun extends fc.Arbitrary<infer T> ? T : never, id: string): Promise<KnownRun> {
  const parent = made.child === undefined || runs.length === 0 ? undefined : runs[made.child % runs.length]!.record.id;
  const about = {
    id,
    experiment: made.experiment,
    displayName: made.displayName,
    tags: plainRecord(made.tags),
    properties: plainRecord(made.properties),
    parameters: plainRecord(made.parameters),
    ...(parent !== undefined && { parent }),
  };
  const given = made.submitted ? ['--alpha', 0.5, `--name=${id}`] : undefined;
  if (given) await rooms.submit({ script: 'train.py', arguments: given, environment: { userManaged: true } }, about);
  else await rooms.start(about);
  // A line each, so that they come in different chunks.
  let offset = 0;
  for (const [name, points] of Object.entries(made.metrics))
    for (const { value, step } of points)
      ({ offset } = await rooms.append(
        id,
        [['m', name, Number.isFinite(value) ? value : String(value), step, 1]],
        offset,
      ));
  if (made.ends && !made.submitted)
    await rooms.runs.report(
      { workspace, run: id, attempt: 1, state: 'completed', exitCode: 0 },
      { kind: 'user', user: 'ada', administrator: false, tokenId: 't' },
    );
  return { record: await rooms.runs.get({ workspace, run: id }), metrics: made.metrics, arguments: given?.join(' ') };
}

/** fast-check makes some without a prototype. */
function plainRecord<T>(record: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(record));
}

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
function written(term: Term): string {
  if ('plain' in term) return term.plain;
  if ('arguments' in term) return 'arguments';
  if ('group' in term) return `${term.group}.${quoted(term.name)}`;
  return `metrics.${quoted(term.metric)}.${'step' in term ? `at(${term.step})` : term.by}`;
}
function literal(value: Literal): string {
  if (typeof value === 'string') return `'${value.replaceAll("'", "''")}'`;
  return typeof value === 'number' && !Number.isFinite(value) ? `'${value}'` : String(value);
}
function queryOf(tree: Tree): string {
  if ('and' in tree) return `(${tree.and.map(queryOf).join(' and ')})`;
  if ('or' in tree) return `(${tree.or.map(queryOf).join(' OR ')})`;
  if ('not' in tree) return `not ${queryOf(tree.not)}`;
  const term = written(tree.term);
  if ('op' in tree) return `${term} ${tree.op} ${literal(tree.value)}`;
  if ('among' in tree) return `${term} ${tree.turned ? 'not in' : 'in'} (${tree.among.map(literal).join(', ')})`;
  if ('like' in tree) return `${term} like ${literal(tree.like)}`;
  if ('matches' in tree) return `${term} matches ${literal(tree.matches)}`;
  return `${term} is ${tree.isNull ? '' : 'not '}null`;
}

const metricTerm: fc.Arbitrary<Term> = fc.oneof(
  fc.record({
    metric: fc.constantFrom(...metricNames),
    by: fc.constantFrom('last' as const, 'min' as const, 'max' as const, 'first' as const, 'count' as const),
  }),
  fc.record({ metric: fc.constantFrom(...metricNames), step: fc.constantFrom(...steps) }),
);
const group = (of: 'tags' | 'properties' | 'parameters'): fc.Arbitrary<Term> =>
  fc.record({ group: fc.constant(of), name: fc.constantFrom(...labelNames, 'none') });
const plainText: fc.Arbitrary<Term> = fc.oneof(
  fc.record({
    plain: fc.constantFrom(
      'id' as const,
      'experiment' as const,
      'state' as const,
      'parent' as const,
      'root' as const,
      'displayName' as const,
      'target' as const,
      'user' as const,
    ),
  }),
  fc.constant({ arguments: true as const }),
);
const plainNumber: fc.Arbitrary<Term> = fc.record({
  plain: fc.constantFrom('number' as const, 'childCount' as const, 'exitCode' as const, 'attempt' as const),
});
const labelled = fc.oneof(group('tags'), group('properties'));
const textual = fc.oneof(labelled, group('parameters'), plainText);
const anyTerm = fc.oneof(
  textual,
  plainNumber,
  metricTerm,
  fc.record({
    plain: fc.constantFrom(
      'createdAt' as const,
      'startedAt' as const,
      'endedAt' as const,
      'archivedAt' as const,
      'durationMs' as const,
    ),
  }),
);
const plainValue = fc.constantFrom(
  'r1',
  'r20',
  'r5',
  'ridge',
  'lasso',
  'running',
  'completed',
  'queued',
  'local',
  '--alpha 0.5 --name=r3',
  ...texts,
);
const op = fc.constantFrom('=' as const, '!=' as const, '<' as const, '<=' as const, '>' as const, '>=' as const);
const fitting: fc.Arbitrary<[Term, Literal]> = fc.oneof(
  fc.tuple(labelled, fc.oneof(texting, finite)),
  fc.tuple(group('parameters'), fc.oneof(texting, finite, fc.boolean())),
  fc.tuple(plainText, plainValue),
  fc.tuple(plainNumber, fc.nat({ max: 20 })),
  fc.tuple(metricTerm, fc.oneof(numbering, fc.constant(Number.NaN))),
  fc.tuple(fc.constant({ plain: 'interactive' as const }), fc.boolean()),
  fc.tuple(fc.constant({ plain: 'archivedAt' as const }), fc.nat({ max: 90 }).map(archivingTime)),
);
const leaf: fc.Arbitrary<Tree> = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(fitting, op).map(([[term, value], by]) => ({ term, op: by, value })) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        fc.oneof(
          fc.tuple(
            textual.filter((t) => !('plain' in t)),
            fc.array(texting, { minLength: 1, maxLength: 4 }),
          ),
          fc.tuple(labelled, fc.array(fc.oneof(texting, finite), { minLength: 1, maxLength: 4 })),
          fc.tuple(metricTerm, fc.array(numbering, { minLength: 1, maxLength: 4 })),
          fc.tuple(plainText, fc.array(plainValue, { minLength: 1, maxLength: 4 })),
        ),
        fc.boolean(),
      )
      .map(([[term, among], turned]) => ({ term, among: among as Literal[], turned })),
  },
  fc
    .tuple(textual, fc.constantFrom('%', 'r%', '%A%', '_', '%1%', '%\\%%', "it's", '%\u{1F600}', ''))
    .map(([term, like]) => ({ term, like })),
  fc
    .tuple(textual, fc.constantFrom('^r', 'e$', '[0-9]+', '^(ridge|lasso)$', 'a.b', '^$', '--alpha 0\\.5'))
    .map(([term, matches]) => ({ term, matches })),
  { weight: 2, arbitrary: fc.tuple(anyTerm, fc.boolean()).map(([term, isNull]) => ({ term, isNull })) },
);
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc.array(tie('tree'), { minLength: 1, maxLength: 3 }).map((and) => ({ and })),
    fc.array(tie('tree'), { minLength: 1, maxLength: 3 }).map((or) => ({ or })),
    tie('tree').map((not) => ({ not })),
  ),
}));
const ordering: fc.Arbitrary<Ordering> = fc.record({ term: anyTerm, descending: fc.boolean() });
const asked = fc.record({
  filter: fc.option(tree, { nil: undefined }),
  order: fc.array(ordering, { maxLength: 3 }),
  byCompared: fc.boolean(),
  archived: fc.constantFrom(undefined, 'with' as const, 'without' as const, 'only' as const),
  pageSize: fc.constantFrom(1, 2, 7, 30, 100),
  /** So little that each way of finding is taken. */
  effort: fc.record({
    few: fc.constantFrom(0, 5, 2_000),
    some: fc.constantFrom(0, 20, 20_000),
    steps: fc.constantFrom(0, 10, 8_000),
    ms: fc.constant(60_000),
  }),
});

function isShown(
  { record }: KnownRun,
  filter: Tree | undefined,
  archived: 'with' | 'without' | 'only' | undefined,
): boolean {
  const isSaid = JSON.stringify(filter ?? null).includes('"plain":"archivedAt"');
  if (archived === 'with' || (archived === undefined && isSaid)) return true;
  return (record.archivedAt !== undefined) === (archived === 'only');
}

test('every query gives what a naive evaluator gives, in its order, page by page', async () => {
  let found = 0;
  await fc.assert(
    fc.asyncProperty(asked, async ({ filter, order, byCompared, archived, pageSize, effort }) => {
      const text = filter && queryOf(filter);
      // Often by what is compared: then the comparison bounds the walk.
      if (byCompared && filter && 'op' in filter) order = [{ term: filter.term, descending: pageSize % 2 === 0 }];
      const orderBy = order.map(({ term, descending }) => `${written(term)} ${descending ? 'desc' : 'asc'}`);
      const ids: string[] = [];
      let page: string | undefined;
      do {
        const query = {
          workspace,
          archived,
          filter: text,
          orderBy,
          pageSize,
          page,
          columns: ['id'],
          effort,
          now: Date.now(),
        };
        const answer = await rooms.scratch.db.transact(queryReadings.page, query);
        ids.push(...answer.items.map(({ id }) => id));
        page = answer.nextPage;
      } while (page !== undefined && ids.length <= runs.length); // a page that does not go on must not go on for ever
      const wanted = sorted(
        runs.filter((run) => isShown(run, filter, archived) && (!filter || holds(filter, run))),
        order,
      );
      found += wanted.length > 0 && wanted.length < runs.length ? 1 : 0;
      expect(ids, `${text} order ${orderBy.join(', ')} (data of SEED=${seed})`).toEqual(
        wanted.map(({ record }) => record.id),
      );
    }),
    { numRuns: 1_000 },
  );
  expect(found, 'most queries find some of the runs').toBeGreaterThan(250);
}, 300_000);
