// Takes the guard against each attack away, in a copy of the sources, and expects that the attack's own test fails: by what
// it asserts, not because something breaks or never ends. That it passes with the guard is what all other runs of the tests tell.
import { afterAll, describe, expect, test } from 'vitest';
import { attacks } from './attacks.ts';
import { type Outcome, SourceTree } from './tree.ts';

/** How vitest, fast-check and unittest report what was asserted. */
const asserted = /AssertionError|at Assertion\.|Property failed|was not refused/;
const broken = /SyntaxError|timed out in|is not defined/;

function judge({ failures, passed, output }: Outcome): void {
  expect(failures.length + passed, `The test is not there:\n${output.slice(-3_000)}`).toBeGreaterThan(0);
  expect(failures.length, 'The guard is gone, and the test does not see it.').toBeGreaterThan(0);
  const sound = failures.filter((failure) => asserted.test(failure) && !broken.test(failure));
  expect(sound.length, `The test broke before it could see anything:\n${failures.join('\n').slice(0, 3_000)}`).toBe(
    failures.length,
  );
}

/** A tree is used by one after another. */
const trees: SourceTree[] = [];
const idle: SourceTree[] = [];
afterAll(() => {
  for (const tree of trees) tree[Symbol.dispose]();
});

async function withTree<T>(use: (tree: SourceTree) => Promise<T>): Promise<T> {
  const tree = idle.pop() ?? new SourceTree();
  if (!trees.includes(tree)) trees.push(tree);
  return await use(tree).finally(() => idle.push(tree));
}

describe.each(Object.entries(attacks))('%s', (_, guards) => {
  const titled = guards.map((one) => [`${one.attack}: ${one.guard}`, one] as const);
  test.concurrent.each(titled)('%s', async (_title, guard) => {
    await withTree(async (tree) => {
      using _gone = tree.takeAway(guard.changes);
      judge(await tree.run(guard));
    });
  });
});

test('a test that passes, or breaks, or is not there, is not taken for one that sees an attack', () => {
  const refusal = (outcome: Partial<Outcome>) => () => judge({ failures: [], passed: 0, output: '', ...outcome });
  expect(refusal({ passed: 1 })).toThrow('does not see it');
  expect(refusal({})).toThrow('not there');
  for (const failure of ['Error: Test timed out in 60000ms', 'ReferenceError: x is not defined', 'TypeError: no'])
    expect(refusal({ failures: [failure] })).toThrow('broke before');
  expect(refusal({ failures: ['AssertionError: expected 1 to be 2'], passed: 1 })).not.toThrow();
});

test('a guard that is not where the list says is told of', async () => {
  const change = { file: 'contract/src/paths.ts', code: 'it never said this', without: '' };
  await withTree(async (tree) =>
    expect(() => tree.takeAway([change])).toThrow('but is there 0 times: it never said this'),
  );
});
