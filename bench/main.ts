// `npm run bench`: prints one JSON line per figure. What is measured, and how, is in README.md beside this file.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const { status } = spawnSync('python3', [join(import.meta.dirname, 'sdk.py')], { stdio: 'inherit' });
process.exit(status ?? 1);
