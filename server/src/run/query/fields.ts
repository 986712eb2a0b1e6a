// What a query can ask about: the fields of a run, what each holds, and the other words for them that users of MLflow and Azure ML know.

export type Holding = 'text' | 'number' | 'time' | 'boolean' | 'any';

export const plainFields = {
  id: 'text',
  experiment: 'text',
  state: 'text',
  target: 'text',
  user: 'text',
  host: 'text',
  parent: 'text',
  root: 'text',
  resubmittedFrom: 'text',
  displayName: 'text',
  description: 'text',
  reason: 'text',
  snapshot: 'text',
  arguments: 'text',
  createdAt: 'time',
  startedAt: 'time',
  endedAt: 'time',
  archivedAt: 'time',
  durationMs: 'number',
  number: 'number',
  attempt: 'number',
  exitCode: 'number',
  childCount: 'number',
  interactive: 'boolean',
} as const satisfies Record<string, Holding>;
export type PlainField = keyof typeof plainFields;

export const aggregates = ['last', 'min', 'max', 'first', 'count'] as const;
export type Aggregate = (typeof aggregates)[number];

export type Group = 'metrics' | 'tags' | 'properties' | 'parameters';
export type Field =
  | { of: 'run'; name: PlainField }
  | { of: 'tags' | 'properties' | 'parameters'; name: string }
  | { of: 'metrics'; name: string; aggregate: Aggregate }
  /** The value that was logged at a step. */
  | { of: 'metrics'; name: string; step: number };

/** Without capitals and underscores, so that `start_time` and `startTime` are one. */
const plainAliases: Record<string, PlainField> = {
  status: 'state',
  name: 'displayName',
  runname: 'displayName',
  runid: 'id',
  runnumber: 'number',
  userid: 'user',
  experimentname: 'experiment',
  computetarget: 'target',
  compute: 'target',
  parentid: 'parent',
  parentrunid: 'parent',
  rootid: 'root',
  rootrunid: 'root',
  created: 'createdAt',
  createdtime: 'createdAt',
  starttime: 'startedAt',
  endtime: 'endedAt',
};
const groups: Record<string, Group> = {
  metrics: 'metrics',
  metric: 'metrics',
  tags: 'tags',
  tag: 'tags',
  properties: 'properties',
  property: 'properties',
  parameters: 'parameters',
  parameter: 'parameters',
  params: 'parameters',
  param: 'parameters',
  // An option of the script is the parameter of its name.
  arguments: 'parameters',
};
/** Azure ML's and MLflow's words for states. */
const stateAliases: Record<string, string> = {
  finished: 'completed',
  killed: 'canceled',
  cancelled: 'canceled',
  scheduled: 'queued',
  notstarted: 'queued',
  notresponding: 'lost',
};
const attributes = /^attr(ibutes?)?$/i;

export function plainFieldNamed(word: string): PlainField | undefined {
  const found = Object.keys(plainFields).find((field) => field.toLowerCase() === word.toLowerCase());
  const bare = word.replaceAll('_', '').toLowerCase();
  return (found as PlainField | undefined) ?? (Object.hasOwn(plainAliases, bare) ? plainAliases[bare] : undefined);
}

export function groupNamed(word: string): Group | undefined {
  const lower = word.toLowerCase();
  return Object.hasOwn(groups, lower) ? groups[lower] : undefined;
}

/** What a run took of its machine. */
export function isResources(word: string): boolean {
  return /^resources?$/i.test(word);
}

/** `attributes.status`, as MLflow writes it. */
export function isAttributes(word: string): boolean {
  return attributes.test(word);
}

/** A state in this product's word, whatever its capitals; what is no state is left as it is. */
export function stateNamed(text: string): string {
  const bare = text.replaceAll(/[\s_]/g, '').toLowerCase();
  if (Object.hasOwn(stateAliases, bare)) return stateAliases[bare]!;
  return /^(queued|preparing|running|finalizing|completed|failed|canceled|lost)$/.test(bare) ? bare : text;
}

export function holdingOf(field: Field): Holding {
  if (field.of === 'run') return plainFields[field.name];
  if (field.of === 'metrics') return 'number';
  return field.of === 'parameters' ? 'any' : 'text';
}
