// Which Pythons an image has, and where: looked up in its file tree, without running anything of it.
import type { FileTree } from '../../../oci/oci-images.ts';

export interface ImagePython {
  /** Absolute, in the image: `/usr/bin/python3.11`. */
  path: string;
  minor: string;
}

const usualPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** In the order of the image's PATH; the one that `python3` is comes first. */
export function pythonsOf(files: FileTree, path: string = usualPath): ImagePython[] {
  const found = new Map<string, string>();
  for (const dir of [...path.split(':'), '/opt/conda/bin'].filter((part) => part.startsWith('/'))) {
    for (const [name, file] of pythonsIn(files, dir.replace(/\/+$/, ''))) {
      if (!found.has(name)) found.set(name, file);
    }
  }
  return [...found].map(([minor, file]) => ({ path: file, minor }));
}

function pythonsIn(files: FileTree, dir: string): [string, string][] {
  const folder = files.find(dir.slice(1));
  if (folder?.kind !== 'directory') return [];
  const found: [string, string][] = [];
  for (const name of folder.children.keys()) {
    const minor = /^python(3\.\d+)$/.exec(name)?.[1];
    if (minor && files.find(`${dir.slice(1)}/${name}`)?.kind === 'file') found.push([minor, `${dir}/${name}`]);
  }
  const usual = folder.children.get('python3');
  const first = usual?.kind === 'symlink' ? usual.target.replace(/^.*python/, '') : '';
  return found.sort(([a], [b]) => Number(b === first) - Number(a === first) || Number(a.slice(2)) - Number(b.slice(2)));
}

/** The wanted minor; where that is not there and `pythonFallback` is set, the nearest newer one; without a wish, the first. */
export function choosePython(
  pythons: readonly ImagePython[],
  wish: { python?: string | undefined; pythonFallback?: boolean | undefined },
): ImagePython | undefined {
  if (wish.python === undefined) return pythons[0];
  const number = (minor: string) => Number(minor.split('.')[1]);
  const wanted = number(wish.python);
  const newer = pythons
    .filter(({ minor }) => number(minor) >= wanted)
    .sort((a, b) => number(a.minor) - number(b.minor));
  return newer.find(({ minor }) => wish.pythonFallback === true || number(minor) === wanted);
}
