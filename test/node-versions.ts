// Another Node, from npm's registry as any package, in a folder of its own.
import { join } from 'node:path';
import { expect } from 'vitest';
import { execute } from './installation.ts';

/** Gives the folder that goes first on the PATH. */
export async function nodeFolder(major: number, below: string): Promise<string> {
  const name = `node-${process.platform}-${process.arch}`;
  const args = [
    'install',
    '--prefix',
    join(below, `node-${major}`),
    '--no-audit',
    '--no-fund',
    '--no-save',
    `${name}@${major}`,
  ];
  const { code, stderr } = await execute('npm', args, { cwd: below, env: process.env as Record<string, string> });
  expect(code, stderr).toBe(0);
  return join(below, `node-${major}`, 'node_modules', name, 'bin');
}
