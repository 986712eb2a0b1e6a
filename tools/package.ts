// The package `stellwerk` as npm publishes it: CLI, server, database worker and gateway bundled to JavaScript, with the Python package and the scorer
// beside them. Only what has native parts stays a dependency.
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { assetPath, wheelPath } from '@stellwerk/server/assets.ts';
import { configOf } from '@stellwerk/server/config.ts';
import { build, type Metafile } from 'esbuild';

const root = join(import.meta.dirname, '..');
const native = ['@node-rs/argon2'];

interface Manifest {
  version: string;
  dependencies?: Record<string, string>;
  [field: string]: unknown;
}

const manifestOf = (folder: string) => JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8')) as Manifest;

async function bundle(stage: string): Promise<void> {
  const { metafile } = await build({
    absWorkingDir: root,
    metafile: true,
    entryPoints: {
      main: join(root, 'cli', 'src', 'main.ts'),
      'database-worker': assetPath('database-worker'),
      gateway: assetPath('gateway'),
    },
    outdir: join(stage, 'dist'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    // The quicker native halves of ssh2 are not built, and it does without.
    external: [...native, '*.node', 'cpu-features'],
    minifySyntax: true,
    legalComments: 'linked',
    logLevel: 'warning',
    define: { STELLWERK_BUNDLED: 'true' },
    // Packages in the older format ask for `require`, which modules do not have.
    banner: {
      js: "import { createRequire as stellwerkRequire } from 'node:module'; import { dirname as stellwerkDirname } from 'node:path'; const require = stellwerkRequire(import.meta.url), __filename = import.meta.filename, __dirname = stellwerkDirname(__filename);",
    },
  });
  checkLazyImports(metafile);
}

/** A package in the older format that is imported when it is first needed has nothing here but its default, whatever Node finds in it. */
function checkLazyImports({ inputs, outputs }: Metafile): void {
  const entries = Object.values(outputs).filter(({ entryPoint }) => entryPoint?.startsWith('node_modules/'));
  const plain = entries.filter(({ exports }) => exports.join() === 'default').map(({ entryPoint }) => entryPoint!);
  for (const [file, { imports }] of Object.entries(inputs)) {
    if (file.startsWith('node_modules/')) continue;
    for (const { path, kind, original = '' } of imports) {
      if (kind !== 'dynamic-import' || !plain.includes(path)) continue;
      const text = readFileSync(join(root, file), 'utf8');
      const takesDefault = new RegExp(
        `\\{ default: \\w+ \\}[^;]*import\\('${original}'\\)|import\\('${original}'\\)\\)\\.default`,
      );
      if (!takesDefault.test(text))
        throw new Error(`${file} imports ${original} lazily, but not its default: the package would lack the rest.`);
    }
  }
}

async function copyFiles(stage: string): Promise<void> {
  const wheel = await wheelPath();
  if (wheel === undefined) throw new Error('The Python package could not be built.');
  mkdirSync(join(stage, 'dist', 'wheels'), { recursive: true });
  cpSync(wheel, join(stage, 'dist', 'wheels', basename(wheel)));
  cpSync(assetPath('scorer'), join(stage, 'dist', 'scorer'), {
    recursive: true,
    filter: (source) => !/__pycache__|\.pyc$/.test(source),
  });
  cpSync(join(root, 'cli', 'bin'), join(stage, 'bin'), { recursive: true });
  for (const name of ['README.md', 'LICENSE'])
    if (existsSync(join(root, name))) cpSync(join(root, name), join(stage, name));
}

function writeManifest(stage: string): void {
  const { version, description, license, type, engines } = manifestOf('cli');
  const all = { ...manifestOf('server').dependencies, ...manifestOf('cli').dependencies };
  const dependencies = Object.fromEntries(native.map((name) => [name, all[name]]));
  const manifest = {
    name: 'stellwerk',
    version,
    description,
    license,
    type,
    engines,
    bin: { stellwerk: 'bin/stellwerk.mjs' },
    files: ['bin', 'dist'],
    dependencies,
  };
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** Gives the published command in that folder. */
export async function packageIn(folder: string): Promise<string> {
  configOf({ data: '.' }); // what programs may see of the environment
  mkdirSync(folder, { recursive: true });
  await bundle(folder);
  await copyFiles(folder);
  writeManifest(folder);
  return join(folder, 'bin', 'stellwerk.mjs');
}
