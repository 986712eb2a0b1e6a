// Doing a run again: what the new one takes over of the first, and what it cannot hold equal, which is said on its record.
import type { EnvironmentPlan } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import { parametersOf, withArgument } from './parameters.ts';

type Asked = CheckedOf<'runs', 'resubmit'>;

/** The first run, with how its environment was made; none if it never came to that. */
export interface Origin {
  record: Run;
  plan?: EnvironmentPlan | undefined;
}

export interface Resubmission {
  configuration: RunConfiguration;
  snapshot: string;
  differences: string[];
}

export function resubmissionOf({ record, plan }: Origin, asked: Asked, user: string): Resubmission {
  const { configuration: first, snapshot } = record;
  if (!first || snapshot === undefined)
    throw new ServiceError(
      'failed-precondition',
      'run.not-submitted',
      `The run ${record.id} was started by what logs to it, not submitted: there is no script, snapshot or environment of it to do again.`,
    );
  const configuration = {
    ...first,
    target: asked.target ?? first.target,
    arguments: argumentsWith(record.id, first.arguments, asked.set ?? {}),
  };
  return {
    configuration,
    snapshot,
    differences: [
      ...changedOnPurpose(record, first, asked),
      ...environmentDifferences(first, plan),
      ...inputDifferences(first),
      ...personalDifferences(record, first, user),
    ],
  };
}

function argumentsWith(
  run: string,
  given: RunConfiguration['arguments'],
  set: NonNullable<Asked['set']>,
): RunConfiguration['arguments'] {
  let changed = given;
  for (const [name, value] of Object.entries(set)) {
    const after = withArgument(changed, name, value);
    if (!after) {
      const known = Object.keys(parametersOf(given));
      const there = known.length > 0 ? `it has ${known.join(', ')}` : 'it has none';
      throw new ServiceError(
        'invalid-argument',
        'run.argument-unknown',
        `The script of the run ${run} was given no argument ${JSON.stringify(name)}; ${there}.`,
      );
    }
    changed = after;
  }
  return changed;
}

function changedOnPurpose(record: Run, first: RunConfiguration, { target, experiment, set }: Asked): string[] {
  const before = parametersOf(first.arguments);
  return [
    ...Object.entries(set ?? {})
      .filter(([name, value]) => before[name] !== value)
      .map(([name, value]) => `The argument ${name} is ${value}; it was ${before[name]}.`),
    ...(target !== undefined && target !== first.target
      ? [`It runs on the compute target ${target}; the first run ran on ${first.target}.`]
      : []),
    ...(experiment !== undefined && experiment !== record.experiment
      ? [`It is filed under the experiment ${experiment}; the first run under ${record.experiment}.`]
      : []),
  ];
}

function environmentDifferences({ environment }: RunConfiguration, plan: EnvironmentPlan | undefined): string[] {
  if (environment.userManaged)
    return [
      `The Python that is there (${environment.interpreterPath ?? 'python3'}) is used as it is: which packages it had is not recorded.`,
    ];
  if (!plan) return ['The environment of the first run was never resolved; it is resolved now.'];
  return [];
}

function inputDifferences({ dataReferences }: RunConfiguration): string[] {
  return Object.entries(dataReferences).map(([name, { mode, datastore, path }]) => {
    const where = `${path ?? 'all'} of ${datastore ?? 'the default datastore'}`;
    return mode === 'download'
      ? `The data reference ${name} (${where}) is read again: what it held then is not recorded, and may have changed.`
      : `The data reference ${name} (${where}) is written again, where the first run has written.`;
  });
}

function personalDifferences(record: Run, { arguments: given, secrets }: RunConfiguration, user: string): string[] {
  const named = parametersOf(given);
  const others = Object.keys(record.parameters).filter((name) => !Object.hasOwn(named, name));
  return [
    ...(secrets.length > 0
      ? [`The values of the secrets ${secrets.join(', ')} were given anew: those of the first run are not kept.`]
      : []),
    ...(others.length > 0
      ? [
          `The parameters ${others.join(', ')} do not come from arguments: they are there if the script sets them again.`,
        ]
      : []),
    ...(record.parent === undefined ? [] : [`It has no parent; the first run is a child of ${record.parent}.`]),
    ...(record.user === user ? [] : [`It runs for ${user}; the first run ran for ${record.user}.`]),
  ];
}

/** What is known only once it runs: where, and with which Python. Those that were known before come first. */
export function differencesOnceRunning(
  known: readonly string[],
  first: { host: string | null; python?: string | undefined },
  now: { host?: string | undefined; python?: string | undefined },
): string[] {
  const found = [
    ...(now.host !== undefined && first.host !== null && now.host !== first.host
      ? [`It runs on the machine ${now.host}; the first run ran on ${first.host}.`]
      : []),
    ...(now.python !== undefined && first.python !== undefined && now.python !== first.python
      ? [`It runs with Python ${now.python}; the first run ran with ${first.python}.`]
      : []),
  ];
  return [...new Set([...known, ...found])];
}
