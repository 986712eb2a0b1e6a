// From what a run configuration or an image says of its environment to a specification that stands by itself:
// files of the directory are read, objects and lines become the text of such files.
import type { EnvironmentSpecification } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { EnvironmentSource } from '@stellwerk/contract/run-configuration.ts';
import { stringify } from 'yaml';

/** `readFile` gives the text of a file of the directory, undefined if there is none. */
export async function specificationOf(
  source: EnvironmentSource,
  readFile: (path: string) => Promise<string | undefined>,
): Promise<EnvironmentSpecification> {
  const { name, userManaged, interpreterPath, python, pythonFallback } = source;
  if (userManaged) return { userManaged, ...(name && { name }), ...(interpreterPath && { interpreterPath }) };
  const read = async (what: string, path: string) => {
    const text = await readFile(path);
    if (text !== undefined) return text;
    throw new ServiceError('invalid-argument', 'environment.invalid', `The ${what} ${path} is not in the directory.`);
  };
  const condaFile =
    source.condaFile !== undefined
      ? await read('conda file', source.condaFile)
      : source.conda && stringify(source.conda);
  const requirements =
    source.requirementsFile !== undefined
      ? await read('requirements file', source.requirementsFile)
      : source.requirements?.join('\n');
  const lock = source.lockFile !== undefined ? await read('lock', source.lockFile) : undefined;
  return {
    ...(name && { name }),
    ...(python && { python }),
    ...(pythonFallback !== undefined && { pythonFallback }),
    ...(condaFile !== undefined && { condaFile }),
    ...(requirements !== undefined && { requirements }),
    ...(lock !== undefined && { lock }),
  };
}
