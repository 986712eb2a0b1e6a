// `npm run pack`: the package as an archive in cli/dist/, and what is in it beside that.
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageIn } from './package.ts';

const out = join(import.meta.dirname, '..', 'cli', 'dist');
const stage = join(out, 'package');

rmSync(out, { recursive: true, force: true });
await packageIn(stage);
const packed = await promisify(execFile)('npm', ['pack', '--silent', '--pack-destination', out], { cwd: stage });
process.stdout.write(`${join(out, packed.stdout.trim())}\n`);
