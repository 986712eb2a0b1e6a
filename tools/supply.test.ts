// What npm may bring: packages whose bytes are known, none of which runs anything of its own when it is installed.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

interface Locked {
  integrity?: string;
  link?: boolean;
}

const textOf = (name: string) => readFileSync(join(import.meta.dirname, '..', name), 'utf8');

test('each package that is installed is known by its hash', () => {
  const { packages } = JSON.parse(textOf('package-lock.json')) as { packages: Record<string, Locked> };
  const others = Object.entries(packages).filter(([path, { link }]) => path.includes('node_modules/') && !link);
  expect(others.length).toBeGreaterThan(100);
  expect(others.filter(([, { integrity }]) => !integrity?.startsWith('sha512-')).map(([path]) => path)).toEqual([]);
});

test('no package runs anything when it is installed', () => {
  expect(textOf('.npmrc').split('\n')).toContain('ignore-scripts=true');
});
