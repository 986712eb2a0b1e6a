// The columns that `--columns` asks for, as a table shows them: `id`, `tags.kind`, `metrics."val loss".min`, or all `parameters`.
type Item = Record<string, unknown>;

const groups: Record<string, string> = {
  tag: 'tags',
  property: 'properties',
  parameter: 'parameters',
  param: 'parameters',
  params: 'parameters',
  metric: 'metrics',
};
const fields: Record<string, string> = { status: 'state', name: 'displayName' };
const summaries = ['last', 'min', 'max', 'first', 'count'];

export function columnValue(item: Item, column: string): unknown {
  const [head = '', ...rest] = partsOf(column);
  const group = groups[head.toLowerCase()] ?? head;
  if (rest.length === 0) return item[fields[head.toLowerCase()] ?? fieldNamed(item, group)];
  const name = rest.join('.');
  if (group !== 'metrics') return (item[group] as Item | undefined)?.[name];
  const found = (metric: string) => (item.metrics as Item[] | undefined)?.find((summary) => summary.name === metric);
  const last = rest.at(-1)!;
  if (rest.length > 1 && summaries.includes(last)) return found(rest.slice(0, -1).join('.'))?.[last];
  return found(name)?.last;
}

/** Whatever its capitals. */
function fieldNamed(item: Item, name: string): string {
  return Object.keys(item).find((field) => field.toLowerCase() === name.toLowerCase()) ?? name;
}

/** A quote inside quotes is written twice. */
function partsOf(column: string): string[] {
  const parts = column.matchAll(/(["'`])((?:(?!\1)[\s\S]|\1\1)*)\1|[^."'`]+/g);
  return [...parts].map(([whole, quote, inside]) => (quote ? inside!.replaceAll(quote + quote, quote) : whole.trim()));
}
