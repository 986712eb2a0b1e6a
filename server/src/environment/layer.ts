// The environment of an image as the entries of one layer: packages from a lock below a fixed prefix, the same bytes wherever
// and whenever it is made. The prefix is a virtual environment over the image's own Python: `<prefix>/bin/python` finds the
// packages by itself, and every script in `<prefix>/bin` starts it.
import { mkdir, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, posix, relative } from 'node:path';
import type { BuiltPlan, EnvironmentPlatform, IndexSettings } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { LayerEntry } from '../oci/oci-images.ts';
import { boxRefused } from './build-box.ts';
import { compileModules } from './bytecode.ts';
import { conflicting, installedPackages, type Layout } from './installed.ts';
import { sha256 } from './lock-file.ts';
import { normalised } from './normal-form.ts';
import type { Watch } from './once.ts';
import type { Python } from './pythons.ts';
import { tripleOf } from './resolve.ts';
import type { Uv } from './uv.ts';

export interface LayerPlace {
  /** Where it lies in the image, absolute: `/opt/stellwerk/env`. */
  prefix: string;
  /** The image's own Python, absolute: `/usr/bin/python3.11`. */
  imagePython: string;
}

export interface EnvironmentLayer {
  key: string;
  /** Sorted; their files lie in the cache folder for as long as the layer does. */
  entries: LayerEntry[];
  /** Absolute paths in the image. */
  python: string;
  sitePackages: string;
  notices: string[];
}

export interface LayerQuestion {
  plan: BuiltPlan;
  place: LayerPlace;
  key: string;
  /** Where the result is kept. */
  folder: string;
  settings: IndexSettings;
  /** Of this machine. */
  platform: EnvironmentPlatform;
}

/** Touched whenever the layer is used. */
export const layerRecord = 'layer.json';
const format = 1;

/** Everything that decides the bytes: the lock, the place, and the Python that compiles. */
export function layerKey(plan: BuiltPlan, place: LayerPlace, pythons: readonly Python[]): string {
  const compiler = compilerOf(plan, pythons)?.version ?? null;
  return sha256(
    JSON.stringify([
      format,
      plan.lockHash,
      plan.installFlags,
      plan.pythonMinor,
      plan.platform,
      place.prefix,
      place.imagePython,
      compiler,
    ]),
  );
}

/** The system's own one, which every user of this machine finds; else the newest patch, whatever the order of the path. */
function compilerOf(plan: BuiltPlan, pythons: readonly Python[]): Python | undefined {
  const rank = ({ path, version }: Python) =>
    Number(version.split('.')[2]) + (/^(\/usr)?\/bin\//.test(path) ? 1_000 : 0);
  return pythons.filter(({ minor }) => minor === plan.pythonMinor).sort((a, b) => rank(b) - rank(a))[0];
}

export async function makeLayer(question: LayerQuestion, uv: Uv, watch: Required<Watch>): Promise<EnvironmentLayer> {
  const kept = await readLayer(question);
  if (kept) return kept;
  checkPlace(question);
  const folder = await uv.workFolder();
  try {
    const compiler = compilerOf(question.plan, await uv.pythons());
    const layout =
      question.plan.lockText === '' ? undefined : await install(question, compiler, join(folder, 'tree'), uv, watch);
    const entries = layout ? await packageEntries(layout, question.place) : [];
    if (compiler) entries.push(...(await bytecodeEntries(entries, question, compiler, folder, watch)));
    const notices = compiler
      ? []
      : [
          `Python ${question.plan.pythonMinor} is not on this machine: the image has no bytecode, and each of its processes starts more slowly.`,
        ];
    await writeLayer(folder, [...entries, ...frame(question)], notices);
    await rename(folder, question.folder).catch(async (error) => {
      if (!(await readLayer(question))) throw error; // another process was first
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const made = (await readLayer(question))!;
  for (const notice of made.notices) watch.log(notice);
  return made;
}

function checkPlace({ plan, place }: LayerQuestion): void {
  for (const path of [place.prefix, place.imagePython]) {
    if (!/^(\/[A-Za-z0-9._+-]+)+$/.test(path) || path.split('/').includes('..'))
      throw new Error(`${JSON.stringify(path)} is not an absolute path that a script could begin with.`);
  }
  if (plan.conda)
    throw new ServiceError(
      'invalid-argument',
      'environment.invalid',
      'Images are made from wheels: resolve the specification for a target without conda.',
    );
}

/** Into a virtual environment of the same Python; else, or for another platform, into one folder, from wheels only. */
async function install(
  question: LayerQuestion,
  python: Python | undefined,
  tree: string,
  uv: Uv,
  watch: Required<Watch>,
): Promise<Layout> {
  const { plan } = question;
  const sitePackages = sitePackagesOf(plan);
  const native = python !== undefined && plan.platform === question.platform;
  await mkdir(tree, { recursive: true });
  await writeFile(join(tree, '..', 'uv.toml'), '');
  await writeFile(join(tree, '..', 'lock.txt'), plan.lockText);
  const call = { ...watch, cwd: join(tree, '..'), settings: question.settings };
  const builder = native ? await uv.builder(python.path, join(tree, '..'), watch.signal) : undefined;
  if (native)
    await must(
      uv.run({ ...call, args: ['venv', '--quiet', '--clear', '--python', builder ?? python.path, tree] }),
      plan,
    );
  const where = native
    ? ['--python', join(tree, 'bin', 'python')]
    : ['--target', tree, '--python-version', plan.pythonMinor, ...(await anyPython(uv))];
  const builds = builder === undefined ? ['--no-build'] : [];
  const flags = [
    ...plan.installFlags,
    '--link-mode',
    'copy',
    '--python-platform',
    tripleOf[plan.platform],
    ...where,
    ...builds,
  ];
  await must(uv.run({ ...call, args: ['pip', 'install', ...flags, '-r', 'lock.txt'] }), plan);
  const layout: Layout = { folder: tree, modules: native ? sitePackages : '', sitePackages };
  for (const name of conflicting(await installedPackages(layout))) {
    const project = name.split('-')[0]!;
    await must(
      uv.run({ ...call, args: ['pip', 'install', ...flags, '--reinstall-package', project, '-r', 'lock.txt'] }),
      plan,
    );
  }
  return layout;
}

async function anyPython(uv: Uv): Promise<string[]> {
  const [python] = await uv.pythons();
  return python ? ['--python', python.path] : [];
}

async function must(running: ReturnType<Uv['run']>, plan: BuiltPlan): Promise<void> {
  const ended = await running;
  if (ended.code === 0) return;
  const said = ended.stderr
    .slice(Math.max(0, ended.stderr.search(/^error:/m)))
    .trim()
    .slice(0, 2_500);
  throw new ServiceError(
    'failed-precondition',
    'environment.unresolvable',
    `The environment ${plan.lockHash.slice(0, 12)} cannot be installed for Python ${plan.pythonMinor} on ${plan.platform}. ${said}${/--no-build/.test(said) ? ` ${boxRefused}` : ''}`,
  );
}

function sitePackagesOf(plan: BuiltPlan): string {
  return `lib/python${plan.pythonMinor}/site-packages`;
}

/** Paths from here on are those in the image, relative to its root. */
async function packageEntries(layout: Layout, place: LayerPlace): Promise<LayerEntry[]> {
  const entries = new Map<string, LayerEntry>();
  for (const installed of await installedPackages(layout)) {
    for (const entry of await normalised(installed, posix.join(place.prefix, 'bin', 'python'))) {
      const path = posix.join(place.prefix.slice(1), entry.path);
      entries.set(path, { ...entry, path });
    }
  }
  return [...entries.values()];
}

async function bytecodeEntries(
  entries: readonly LayerEntry[],
  { plan, place }: LayerQuestion,
  python: Python,
  folder: string,
  watch: Required<Watch>,
): Promise<LayerEntry[]> {
  const below = `${posix.join(place.prefix.slice(1), sitePackagesOf(plan))}/`;
  const tag = `cpython-${plan.pythonMinor.replace('.', '')}`;
  const sources = entries
    .filter(({ path }) => path.startsWith(below) && path.endsWith('.py'))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const modules = sources.map(({ path, source }, at) => ({
    path,
    source: 'file' in source ? source.file : '',
    target: join(folder, 'bytecode', `${at}.pyc`),
    finalPath: `/${path}`,
  }));
  if (modules.length === 0) return [];
  watch.log(`Compiling ${modules.length} modules with Python ${python.version}.`);
  await mkdir(join(folder, 'bytecode'));
  await compileModules(modules, python, watch);
  const compiled = new Set(await readdir(join(folder, 'bytecode')));
  const made = modules.filter((_module, at) => compiled.has(`${at}.pyc`));
  return made.map(({ path, target }) => ({
    path: posix.join(posix.dirname(path), '__pycache__', `${posix.basename(path, '.py')}.${tag}.pyc`),
    mode: 0o644,
    source: { file: target },
  }));
}

/** What makes the prefix a virtual environment of the image's Python. */
function frame({ plan, place }: LayerQuestion): LayerEntry[] {
  const at = (path: string) => posix.join(place.prefix.slice(1), path);
  const settings = `home = ${dirname(place.imagePython)}\ninclude-system-site-packages = false\nversion = ${plan.pythonMinor}\n`;
  return [
    { path: at('pyvenv.cfg'), mode: 0o644, source: { bytes: Buffer.from(settings) } },
    { path: at('bin/python'), mode: 0o777, source: { symlink: place.imagePython } },
    { path: at('bin/python3'), mode: 0o777, source: { symlink: 'python' } },
    { path: at(`bin/python${plan.pythonMinor}`), mode: 0o777, source: { symlink: 'python' } },
    { path: at(sitePackagesOf(plan)), mode: 0o755, source: { directory: true } },
  ];
}

type KeptEntry = [
  path: string,
  mode: number,
  source: { file: string } | { text: string } | { symlink: string } | { directory: true },
];

async function writeLayer(folder: string, entries: readonly LayerEntry[], notices: readonly string[]): Promise<void> {
  const kept = withParents(entries).map(({ path, mode, source }): KeptEntry => {
    if ('file' in source) return [path, mode, { file: relative(folder, source.file) }];
    if ('bytes' in source) return [path, mode, { text: Buffer.from(source.bytes).toString('latin1') }];
    return [path, mode, source];
  });
  await writeFile(join(folder, layerRecord), JSON.stringify({ entries: kept, notices }));
}

/** Sorted, with every folder above an entry. */
function withParents(entries: readonly LayerEntry[]): LayerEntry[] {
  const all = new Map<string, LayerEntry>(entries.map((entry) => [entry.path, entry]));
  for (const { path } of entries) {
    for (let above = posix.dirname(path); above !== '.' && !all.has(above); above = posix.dirname(above))
      all.set(above, { path: above, mode: 0o755, source: { directory: true } });
  }
  return [...all.values()].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
}

async function readLayer({ folder, key, place, plan }: LayerQuestion): Promise<EnvironmentLayer | undefined> {
  const record = join(folder, layerRecord);
  const text = await readFile(record, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const now = new Date();
  await utimes(record, now, now);
  const { entries, notices } = JSON.parse(text) as { entries: KeptEntry[]; notices: string[] };
  return {
    key,
    entries: entries.map(([path, mode, source]) => ({
      path,
      mode,
      source:
        'file' in source
          ? { file: join(folder, source.file) }
          : 'text' in source
            ? { bytes: Buffer.from(source.text, 'latin1') }
            : source,
    })),
    python: posix.join(place.prefix, 'bin', 'python'),
    sitePackages: posix.join(place.prefix, sitePackagesOf(plan)),
    notices,
  };
}
