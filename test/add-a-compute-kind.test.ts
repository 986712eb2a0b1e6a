// The guide to adding a kind of compute target, done as it stands there in a copy of the sources: it compiles, keeps the rules, and passes the suites.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { SourceTree } from './guards/tree.ts';

const root = dirname(import.meta.dirname);
const guide = readFileSync(join(root, 'docs', 'guide', 'add-a-compute-kind.md'), 'utf8');
const block = /(?:^|\n)[^\n]*`([\w./-]+\.(?:ts|md))`[^\n]*\n```(\w+)\n([\s\S]*?)\n```/g;

/** Each line that goes, with those that come in its place. */
function edited(text: string, diff: string): string {
  let after = text;
  for (const [, gone, come] of `${diff}\n`.matchAll(/^-([^\n]*)\n((?:\+[^\n]*\n)+)/gm)) {
    const parts = after.split(`\n${gone}\n`);
    if (parts.length !== 2)
      throw new Error(`This line is to be there once, and is there ${parts.length - 1} times: ${gone}`);
    after = parts.join(`\n${come!.replace(/^\+/gm, '')}`);
  }
  return after;
}

test('a kind that is added as the guide says compiles, keeps the rules and passes the suites', () => {
  using tree = new SourceTree();
  const steps = [...guide.matchAll(block)].map(([, path, language, content]) => ({
    path: path!,
    language,
    content: content!,
  }));
  expect(steps.map(({ language }) => language)).toEqual(['ts', 'diff', 'ts', 'diff', 'ts', 'md']);
  for (const { path, language, content } of steps) {
    const file = join(tree.folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, language === 'diff' ? edited(readFileSync(file, 'utf8'), content) : `${content}\n`);
  }
  const done = (...args: string[]) => {
    try {
      return execFileSync(process.execPath, args, {
        cwd: tree.folder,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      });
    } catch (error) {
      const { stdout, stderr } = error as { stdout: string; stderr: string };
      throw new Error(`${args.join(' ')}:\n${stdout}\n${stderr}`);
    }
  };
  done('node_modules/typescript/bin/tsc', '--noEmit', '--project', '.');
  done('tools/openapi.ts');
  done('tools/python-client.ts');
  done('tools/tidy.ts');
  const suite = 'server/src/compute/kinds/drawer/drawer.engine.test.ts';
  const said = done('node_modules/vitest/vitest.mjs', 'run', '--project', 'kinds', suite);
  expect(said).toMatch(/Tests\s+\d+ passed/);
});
