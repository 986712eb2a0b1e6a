// Where a model's files come from, and the paths they have in the model: a file of a run is named as it is there; a folder's
// files are named from the folder on; files from outside have the paths they were given.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { checkPath } from '@stellwerk/contract/paths.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import type { FileOfModel } from './store.ts';

export interface RunFiles {
  files: FileOfModel[];
  experiment: string;
}

/** The files at or below a path of a run; without a path, none. Undefined if there is no such run. */
export type FilesOf = (workspace: string, run: string, path?: string) => Promise<RunFiles | undefined>;
/** Undefined where whoever registers has no such content in the workspace. */
export type SizeOf = (workspace: string, digest: string) => Promise<number | undefined>;

export interface ModelSource {
  files: FileOfModel[];
  isFolder: boolean;
  experiment?: string;
}

type Registration = CheckedOf<'models', 'register'>;

export function modelFiles(input: Registration, filesOf: FilesOf, sizeOf: SizeOf): Promise<ModelSource> {
  if (input.files !== undefined && input.path !== undefined)
    throw invalid(input, 'give either uploaded `files`, or the `path` of a file or folder of a run');
  if (input.files !== undefined) return fromOutside(input, input.files, filesOf, sizeOf);
  if (input.run === undefined || input.path === undefined)
    throw invalid(input, 'give uploaded `files`, or a `run` and the `path` of a file or folder of it');
  return fromRun(input, input.run, input.path, filesOf);
}

async function fromRun(input: Registration, run: string, given: string, filesOf: FilesOf): Promise<ModelSource> {
  const path = checkPath(given);
  const { files: found, experiment } = await filesOfRun(input, run, path, filesOf);
  const file = found.find((one) => one.path === path);
  if (file) return { files: [{ ...file, path: path.slice(path.lastIndexOf('/') + 1) }], isFolder: false, experiment };
  const below = found.filter((one) => one.path.startsWith(`${path}/`));
  if (below.length === 0)
    throw new ServiceError(
      'failed-precondition',
      'model.source-missing',
      `The run ${run} has no file or folder ${JSON.stringify(path)}.`,
    );
  const files = below.map((one) => ({ ...one, path: one.path.slice(path.length + 1) }));
  return { files: inOrder(files), isFolder: true, experiment };
}

async function fromOutside(
  input: Registration,
  given: { path: string; digest: string }[],
  filesOf: FilesOf,
  sizeOf: SizeOf,
): Promise<ModelSource> {
  checkTogether(input, given);
  const experiment = input.run && (await filesOfRun(input, input.run, undefined, filesOf)).experiment;
  const files: FileOfModel[] = [];
  for (const { path, digest } of given) {
    const sizeBytes = await sizeOf(input.workspace, digest);
    if (sizeBytes === undefined)
      throw new ServiceError(
        'failed-precondition',
        'blob.not-found',
        `The content of ${JSON.stringify(path)}, ${digest}, has not been uploaded to the workspace ${input.workspace}.`,
      );
    files.push({ path, digest, sizeBytes });
  }
  const isFolder = files.length > 1 || files[0]!.path.includes('/');
  return { files: inOrder(files), isFolder, ...(experiment && { experiment }) };
}

async function filesOfRun(
  { workspace }: Registration,
  run: string,
  path: string | undefined,
  filesOf: FilesOf,
): Promise<RunFiles> {
  const found = await filesOf(workspace, run, path);
  if (found) return found;
  throw new ServiceError('not-found', 'run.not-found', `There is no run ${run} in the workspace ${workspace}.`);
}

/** No path twice, and none below another one. */
function checkTogether(input: Registration, files: readonly { path: string }[]): void {
  const paths = new Set<string>();
  for (const { path } of files) {
    if (paths.has(checkPath(path))) throw invalid(input, `the path ${JSON.stringify(path)} is there twice`);
    paths.add(path);
  }
  for (const path of paths)
    for (let end = path.indexOf('/'); end > 0; end = path.indexOf('/', end + 1))
      if (paths.has(path.slice(0, end)))
        throw invalid(
          input,
          `${JSON.stringify(path.slice(0, end))} is a file, and ${JSON.stringify(path)} lies below it`,
        );
}

function inOrder(files: FileOfModel[]): FileOfModel[] {
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function invalid({ name }: Registration, why: string): ServiceError {
  return new ServiceError('invalid-argument', 'request.invalid', `The model ${name} cannot be registered: ${why}.`);
}
