// Writes openapi.json at the repository's root; with --check fails if it is not up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openapi } from '@stellwerk/contract/openapi.ts';
import manifest from '../cli/package.json' with { type: 'json' };

const file = join(import.meta.dirname, '..', 'openapi.json');
const wanted = `${JSON.stringify(openapi({ version: manifest.version }), null, 2)}\n`;

if (!process.argv.includes('--check')) writeFileSync(file, wanted);
else if (readIfThere() !== wanted) {
  process.stderr.write('openapi.json is not what the contract says: run `node tools/launch.mjs tools/openapi.ts`.\n');
  process.exitCode = 1;
}

function readIfThere(): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
