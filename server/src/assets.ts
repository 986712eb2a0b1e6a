// Where the server's own files are: beside the sources in a checkout, beside the bundle in the published package.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { output } from './exec/programs.ts';

export type Asset = 'database-worker' | 'gateway' | 'scorer' | 'wheels';

/** Set by `tools/package.ts`. */
declare const STELLWERK_BUNDLED: boolean | undefined;
const isBundled = typeof STELLWERK_BUNDLED !== 'undefined' && STELLWERK_BUNDLED;

const here = import.meta.dirname;
const repository = join(here, '..', '..');

const places: Record<Asset, string> = isBundled
  ? {
      'database-worker': join(here, 'database-worker.mjs'),
      gateway: join(here, 'gateway.mjs'),
      scorer: join(here, 'scorer'),
      wheels: join(here, 'wheels'),
    }
  : {
      'database-worker': join(here, 'database-worker.ts'),
      gateway: join(here, 'gateway', 'main.ts'),
      scorer: join(repository, 'python', 'scorer'),
      wheels: join(repository, 'python', 'dist'),
    };

export function assetPath(asset: Asset): string {
  return places[asset];
}

/** The Python package that matches this server. A checkout builds it when its sources have changed. */
export async function wheelPath(): Promise<string | undefined> {
  if (!isBundled && isOutdated()) {
    await output({ command: 'python3', args: [join(repository, 'python', 'build_wheel.py')], timeoutMs: 120_000 });
  }
  const folder = assetPath('wheels');
  const name = existsSync(folder) ? readdirSync(folder).find((file) => file.endsWith('.whl')) : undefined;
  return name && join(folder, name);
}

function isOutdated(): boolean {
  const folder = assetPath('wheels');
  const wheel = existsSync(folder) ? readdirSync(folder).find((file) => file.endsWith('.whl')) : undefined;
  if (wheel === undefined) return true;
  const python = join(repository, 'python');
  const sources = readdirSync(join(python, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.\w+$/.test(file) && !file.includes('__pycache__'))
    .map((file) => join(python, 'src', file));
  const changedAt = Math.max(...[...sources, join(python, 'build_wheel.py')].map((file) => statSync(file).mtimeMs));
  return changedAt > statSync(join(folder, wheel)).mtimeMs;
}
