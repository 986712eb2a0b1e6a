// 200 different queries for the figure `search`: filters that match one run in a thousand, half of them, a few, or none; plain and
// joined; ordered by time, by a metric, a parameter or a tag, and by what has no index; over everything and within something.
import { metricName } from './run-data.ts';

export interface Asked {
  name: string;
  filter?: string;
  orderBy?: string[];
  experiment?: string;
  columns?: string[];
  /** The same as MLflow writes it. */
  mlflow?: { filter: string; order_by: string[] };
}

const none = ['metrics.loss > 5', "tags.kind = 'boosted'", "tags.rare = 'yes' and tags.rare = 'no'"];
const thousandth = ["tags.rare = 'yes'", 'metrics.loss < 0.001', 'parameters.alpha = 0.25'];
const half = ["tags.half = 'a'", 'metrics.loss < 0.5', "parameters.optimizer = 'adam'", 'tags.fold < 5'];
const orders = [
  undefined,
  ['createdAt asc'],
  ['metrics.loss asc'],
  ['metrics.loss.min desc'],
  ['parameters.alpha desc'],
  ['tags.owner asc'],
];

export function queries(): Asked[] {
  const found: Asked[] = [];
  const add = (name: string, asked: Omit<Asked, 'name'>) => void found.push({ name, ...asked });
  for (const orderBy of orders)
    for (const [name, filters] of Object.entries({ none, thousandth, half }))
      for (const filter of filters) add(name, { filter, ...(orderBy && { orderBy }) });
  for (let n = 0; n < 30; n++) {
    const metric = `metrics.${JSON.stringify(metricName(n * 331))}`;
    add('one of many metrics', {
      filter: `${metric} < 0.${1 + (n % 9)}`,
      orderBy: [`${metric} ${n % 2 ? 'asc' : 'desc'}`],
    });
  }
  for (let n = 0; n < 20; n++)
    add('joined', {
      filter: `(${half[n % 4]} or tags.owner = 'owner-${n}') and not tags.kind = '${['ridge', 'lasso'][n % 2]}' and createdAt > '2026-0${1 + (n % 3)}-01'`,
      orderBy: [['createdAt desc'], ['metrics.loss asc'], ['parameters.alpha asc', 'metrics.loss desc']][n % 3]!,
    });
  for (let n = 0; n < 20; n++)
    add('within an experiment', {
      experiment: `experiment-${n}`,
      filter: half[n % 4]!,
      orderBy: orders[n % 6] ?? ['createdAt desc'],
    });
  for (let n = 0; n < 20; n++)
    add('no filter', {
      orderBy: [
        [`metrics.${JSON.stringify(metricName(n * 77))} desc`],
        ['createdAt desc', `number ${n % 3 ? 'asc' : 'desc'}`],
        ['id asc', `tags.x${n}`],
      ][n % 3]!,
    });
  for (let n = 0; n < 20; n++)
    add('among owners', {
      filter: `tags.owner in ('owner-${n}', 'owner-${n + 1}') and state = 'failed'`,
      orderBy: orders[n % 6] ?? ['createdAt desc'],
    });
  for (let n = 0; n < 12; n++)
    add('like and matches', {
      filter: [
        `tags.owner like 'owner-${n}%'`,
        `tags.owner matches '^owner-1?${n}$'`,
        `arguments like '%sgd%' and tags.fold = ${n % 10}`,
      ][n % 3]!,
    });
  for (let n = 0; n < 12; n++)
    add('without an index', {
      filter: half[n % 4]!,
      orderBy: [['durationMs desc'], ['endedAt asc'], ['metrics.loss.first desc'], ['user asc']][n % 4]!,
    });
  for (let n = 0; n < 12; n++)
    add('children', {
      filter: [
        `parent is null and ${half[n % 4]}`,
        `parent = 'run-000${1000 + 10 * n + 1}'`,
        `childCount > 0 and metrics.loss < 0.${n + 1}`,
      ][n % 3]!,
    });
  return found;
}

/** Those of which both have the words: of MLflow's language, and its answer holds all metrics, parameters and tags. */
export function comparable(): Asked[] {
  const filters = [
    ["tags.rare = 'yes'", "tags.rare = 'yes'"],
    ["tags.half = 'a'", "tags.half = 'a'"],
    ["tags.kind = 'boosted'", "tags.kind = 'boosted'"],
    ['metrics.loss < 0.001', 'metrics.loss < 0.001'],
    ['metrics.loss < 0.5', 'metrics.loss < 0.5'],
    ["metrics.loss < 0.5 and tags.half = 'a'", "metrics.loss < 0.5 and tags.half = 'a'"],
    ["parameters.optimizer = 'adam'", "params.optimizer = 'adam'"],
  ] as const;
  const orderings = [
    [['createdAt desc'], ['attributes.start_time DESC']],
    [['metrics.loss asc'], ['metrics.loss ASC']],
    [['tags.owner asc'], ['tags.owner ASC']],
  ] as const;
  return filters.flatMap(([filter, theirs]) =>
    orderings.map(([orderBy, order_by]) => ({
      name: 'both',
      filter,
      orderBy: [...orderBy],
      mlflow: { filter: theirs, order_by: [...order_by] },
    })),
  );
}
