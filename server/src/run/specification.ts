// From the environment of a run configuration to its specification: files are read from the snapshot, lists become text.
import type { EnvironmentSpecification } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import { stringify } from 'yaml';

export type ReadFile = (path: string) => Promise<string | undefined>;

export async function specificationOf(
  source: RunConfiguration['environment'],
  read: ReadFile,
): Promise<EnvironmentSpecification> {
  const name = source.name === undefined ? {} : { name: source.name };
  if (source.userManaged)
    return {
      ...name,
      userManaged: true,
      ...(source.interpreterPath !== undefined && { interpreterPath: source.interpreterPath }),
    };
  const file = async (field: 'condaFile' | 'requirementsFile' | 'lockFile') => {
    const path = source[field];
    if (path === undefined) return undefined;
    const text = await read(path);
    if (text === undefined)
      throw misconfigured(
        `environment.${field}`,
        `the directory that was submitted has no file ${JSON.stringify(path)}`,
      );
    return text;
  };
  const condaFile = (await file('condaFile')) ?? (source.conda && stringify(source.conda));
  const requirements = (await file('requirementsFile')) ?? source.requirements?.map((line) => `${line}\n`).join('');
  const lock = await file('lockFile');
  return {
    ...name,
    ...(source.python !== undefined && { python: source.python }),
    ...(source.pythonFallback !== undefined && { pythonFallback: source.pythonFallback }),
    ...(condaFile !== undefined && { condaFile }),
    ...(requirements !== undefined && { requirements }),
    ...(lock !== undefined && { lock }),
  };
}

export function misconfigured(field: string, why: string): ServiceError {
  return new ServiceError(
    'invalid-argument',
    'run.configuration-invalid',
    `The run configuration is not right at ${field}: ${why}.`,
    { field },
  );
}
