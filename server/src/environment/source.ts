// From what a run configuration or an image says of its environment to a specification that stands by itself:
// files of the directory are read, objects and lines become the text of such files.
import type { EnvironmentSpecification } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { EnvironmentSource } from '@stellwerk/contract/run-configuration.ts';
import { stringify } from 'yaml';

export type ReadFile = (path: string) => Promise<string | undefined>;

/** `readFile` gives the text of a file of the directory, undefined if there is none. */
export async function specificationOf(
  source: EnvironmentSource,
  readFile: ReadFile,
): Promise<EnvironmentSpecification> {
  const { name, userManaged, interpreterPath, python, pythonFallback } = source;
  if (userManaged) return { userManaged, ...(name && { name }), ...(interpreterPath && { interpreterPath }) };
  const file = async (field: 'condaFile' | 'requirementsFile' | 'lockFile') => {
    const path = source[field];
    if (path === undefined) return undefined;
    const text = await readFile(path);
    if (text !== undefined) return text;
    const message = `The directory has no file ${JSON.stringify(path)}, which environment.${field} names.`;
    throw new ServiceError('invalid-argument', 'environment.invalid', message, { field: `environment.${field}` });
  };
  const condaFile = (await file('condaFile')) ?? (source.conda && stringify(source.conda));
  const requirements = (await file('requirementsFile')) ?? source.requirements?.map((line) => `${line}\n`).join('');
  const lock = await file('lockFile');
  return {
    ...(name && { name }),
    ...(python && { python }),
    ...(pythonFallback !== undefined && { pythonFallback }),
    ...(condaFile !== undefined && { condaFile }),
    ...(requirements !== undefined && { requirements }),
    ...(lock !== undefined && { lock }),
  };
}
