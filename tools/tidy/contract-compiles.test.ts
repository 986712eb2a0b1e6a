// What the compiler has to refuse: a verb that says nothing of who may use it, and a server that leaves one out.
import { spawnSync } from 'node:child_process';
import { mkdtempDisposableSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..', '..');

/** What the compiler says of it, under the rules of this repository. */
function compiled(text: string): string {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'stellwerk-compile-'));
  const types = [join(root, 'node_modules', '@types', 'node')];
  const extended = { extends: join(root, 'tsconfig.json'), include: ['it.mts'], compilerOptions: { types } };
  writeFileSync(join(folder.path, 'tsconfig.json'), JSON.stringify(extended));
  writeFileSync(join(folder.path, 'it.mts'), text);
  const { status, stdout } = spawnSync(
    process.execPath,
    [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', folder.path, '--pretty', 'false'],
    { encoding: 'utf8' },
  );
  expect(stdout === '', stdout).toBe(status === 0);
  return stdout;
}

const declared = (permission: string) => `
import { nothing, verb } from '${root}/contract/src/verb.ts';
export const one = verb({ summary: 'One.', method: 'GET', path: '/one',${permission} input: nothing, output: nothing });
`;

it('a verb without a permission does not compile, nor one with a permission that there is not', () => {
  expect(compiled(declared(" permission: 'read',"))).toBe('');
  expect(compiled(declared(''))).toMatch(/it\.mts\(3,\d+\): error .*permission/s);
  expect(compiled(declared(" permission: 'all',"))).toMatch(/it\.mts\(3,\d+\): error .*"all"/s);
});

const served = (runs: string) => `
import type { Service } from '${root}/server/src/http/service.ts';
declare const whole: Service;
const { submit: _submit, ...others } = whole.runs;
export const service: Service = { ...whole, runs: ${runs} };
export { _submit, others };
`;

it('a server without one of the verbs does not compile', () => {
  expect(compiled(served('{ ...others, submit: _submit }'))).toBe('');
  expect(compiled(served('others'))).toMatch(/error .*submit/s);
});
