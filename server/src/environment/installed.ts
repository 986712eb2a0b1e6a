// What an installer left behind, read from its own records (RECORD of each package), so that exactly what belongs to packages is
// taken: not what the virtual environment around them brought, and nothing that lies there by chance.
import { readdir, readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';

export interface InstalledFile {
  /** Relative to the environment's root in the image. */
  path: string;
  /** Where it lies now. */
  file: string;
  /** As it stands in RECORD, with its hash and size. */
  recorded: string;
  hash: string;
  size: string;
}

export interface InstalledPackage {
  name: string;
  /** Of its metadata, relative to the environment's root in the image. */
  infoPath: string;
  files: InstalledFile[];
}

export interface Layout {
  /** Where the installer put it. */
  folder: string;
  /** Its modules, relative to `folder`: `lib/python3.11/site-packages`, or nothing where all lies in one folder. */
  modules: string;
  /** Its modules in the image, relative to the environment's root. */
  sitePackages: string;
}

/** Folders that lie beside modules where all lies in one folder, but belong beside `lib` in an environment. */
const besideModules = /^(bin|share|etc|include|man|lib)\//;
/** Of the place and the time of this installation, not of the package. */
const ofThisInstallation =
  /\.dist-info\/(direct_url\.json|uv_cache\.json|uv_build\.json|RECORD(\.\w+)?)$|(^|\/)__pycache__\//;

export async function installedPackages(layout: Layout): Promise<InstalledPackage[]> {
  const modules = join(layout.folder, layout.modules);
  const names = (await readdir(modules)).filter((name) => name.endsWith('.dist-info'));
  return Promise.all(names.sort().map((name) => readPackage(name, layout)));
}

async function readPackage(name: string, layout: Layout): Promise<InstalledPackage> {
  const modules = join(layout.folder, layout.modules);
  const record = await readFile(join(modules, name, 'RECORD'), 'utf8');
  const rows = record.split(/\r?\n/).filter((line) => line !== '');
  const importable = rows.map((row) => fieldsOf(row)[0]!).filter((path) => /^[^/]+\/__init__\.py$/.test(path));
  const packages = new Set(importable.map((path) => path.split('/')[0]!));
  const files = rows
    .map((row) => fileOf(fieldsOf(row), layout, packages))
    .filter((file) => !ofThisInstallation.test(file.path));
  return { name, infoPath: posix.join(layout.sitePackages, name), files };
}

function fileOf(
  [recorded = '', hash = '', size = '']: string[],
  layout: Layout,
  packages: ReadonlySet<string>,
): InstalledFile {
  const beside = layout.modules === '' && besideModules.test(recorded) && !packages.has(recorded.split('/')[0]!);
  const path = beside ? posix.normalize(recorded) : posix.normalize(posix.join(layout.sitePackages, recorded));
  if (recorded.startsWith('/') || path.startsWith('../'))
    throw new Error(`A package's record names ${JSON.stringify(recorded)}, which lies outside the environment.`);
  return {
    path,
    file: join(layout.folder, layout.modules, recorded),
    recorded: beside ? posix.relative(layout.sitePackages, path) : recorded,
    hash,
    size,
  };
}

/** One line of comma-separated values. */
function fieldsOf(row: string): string[] {
  return [...row.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? '',
  );
}

/** Packages that brought different files of the same name: which one lies there is chance until they are installed in order. */
export function conflicting(packages: readonly InstalledPackage[]): string[] {
  const owners = new Map<string, { hashes: Set<string>; names: Set<string> }>();
  for (const { name, files } of packages) {
    for (const { path, hash } of files) {
      const owner = owners.get(path) ?? { hashes: new Set(), names: new Set() };
      owners.set(path, { hashes: owner.hashes.add(hash), names: owner.names.add(name) });
    }
  }
  const names = [...owners.values()].filter(({ hashes }) => hashes.size > 1).flatMap((owner) => [...owner.names]);
  return [...new Set(names)].sort();
}
