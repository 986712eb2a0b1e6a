// Looking into an unpacked image from outside. Its symbolic links mean paths inside the image, never the machine's:
// every path is resolved link by link below the root, so that no image can point us at a file of the host.
import { lstatSync, mkdirSync, readlinkSync, type Stats, writeFileSync } from 'node:fs';
import { basename, dirname, join, normalize, posix } from 'node:path';

/** The image cannot be run as it is; the message says what it lacks. */
export class ImageRootError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ImageRootError';
  }
}

/** As many links as Linux itself follows in one path. */
const linkLimit = 40;

/** The path on the host of a path in the image, all links followed inside the image; undefined if there is nothing. */
export function resolveInRoot(root: string, path: string): string | undefined {
  let links = 0;
  let done = '/';
  const left = segments(path);
  while (left.length > 0) {
    const next = posix.join(done, left.shift()!);
    const entry = entryAt(join(root, next));
    if (!entry) return undefined;
    if (!entry.isSymbolicLink()) {
      done = next;
      continue;
    }
    if (++links > linkLimit) return undefined;
    const target = readlinkSync(join(root, next));
    left.unshift(...segments(target));
    done = target.startsWith('/') ? '/' : posix.dirname(next);
  }
  return join(root, done);
}

function entryAt(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined; // a file where a folder would have to be
    throw error;
  }
}

function segments(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

/** A program's absolute path in the image, found as a shell would. */
export function findInRoot(root: string, program: string, searchPath = defaultSearchPath): string | undefined {
  const candidates = program.includes('/')
    ? [posix.join('/', program)]
    : searchPath.split(':').map((folder) => posix.join('/', folder, program));
  return candidates.find((path) => {
    const file = resolveInRoot(root, path);
    return file !== undefined && (lstatSync(file).mode & 0o111) !== 0 && lstatSync(file).isFile();
  });
}

export const defaultSearchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The image's own Python: the one its command names, else the one on its path. */
export function pythonInRoot(root: string, command: string, searchPath?: string): string {
  const names = /^python[\d.]*$/.test(basename(command)) ? [command, 'python3', 'python'] : ['python3', 'python'];
  for (const name of names) {
    const found = findInRoot(root, name, searchPath);
    if (found) return found;
  }
  throw new ImageRootError(
    'The image holds no Python: neither python3 nor python is on its PATH. Use a base image with Python.',
  );
}

/** Makes the folders and files that something is mounted over. An image where one of them is a link or a wrong kind is refused. */
export function prepareMountPoints(root: string, folders: readonly string[], files: readonly string[]): void {
  for (const folder of folders) prepare(root, folder, 'folder');
  for (const file of files) prepare(root, file, 'file');
}

function prepare(root: string, path: string, kind: 'folder' | 'file'): void {
  const onHost = join(root, normalize(path));
  if (path !== '/' && dirname(path) !== '/') prepare(root, dirname(path), 'folder');
  const entry = entryAt(onHost);
  if (!entry && kind === 'folder') mkdirSync(onHost, { mode: 0o755, recursive: true });
  if (!entry && kind === 'file') writeFileSync(onHost, '', { flag: 'wx', mode: 0o644 });
  if (entry && !(kind === 'folder' ? entry.isDirectory() : entry.isFile())) {
    throw new ImageRootError(`The image cannot be run here: its ${path} is not an ordinary ${kind}.`);
  }
}
