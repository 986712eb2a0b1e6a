import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** Of engines that fill a machine: brought up one after another, each down before the next. */
const onEngines = [
  ...readdirSync(join(import.meta.dirname, 'test', 'engines'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'conda')
    .map(({ name }) => `test/${name}.test.ts`),
  'test/training-image.test.ts',
  'test/kubernetes-images.test.ts',
  'test/local-container.test.ts',
];

// Unit tests stand beside the code and are quick; stories walk whole workflows on real parts. What runs on real engines, with real faults, is tried
// a second time if it fails; `tools/test.ts` names each test that needed it.
export default defineConfig({
  test: {
    // Colours are a terminal's business; some libraries take CI for one.
    env: { NO_COLOR: '1' },
    projects: [
      {
        test: {
          name: 'unit',
          setupFiles: 'test/fuzz-seed.ts',
          sequence: { groupOrder: 0 },
          include: ['{contract,server,client,cli,tools}/**/*.test.ts'],
          exclude: ['**/node_modules/**', '**/*.engine.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          // Modules are loaded once for many files: loading them is half of the work.
          isolate: false,
          maxWorkers: 3,
        },
      },
      {
        // Of one room, but what takes its time: package indexes, uv, Debian's packages, runners, replicas, fuzzers.
        test: {
          name: 'engines',
          setupFiles: 'test/fuzz-seed.ts',
          sequence: { groupOrder: 1 },
          include: ['{server,client,cli}/**/*.engine.test.ts'],
          exclude: ['**/node_modules/**', 'server/src/compute/kinds/**'],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        // Of compute targets, on their real engines, which fill a machine: one after another, each down before the next.
        test: {
          name: 'kinds',
          sequence: { groupOrder: 1 },
          include: ['server/src/compute/kinds/**/*.engine.test.ts'],
          fileParallelism: false,
          retry: 1,
          testTimeout: 240_000,
          hookTimeout: 240_000,
        },
      },
      {
        test: {
          name: 'stories',
          setupFiles: 'test/fuzz-seed.ts',
          globalSetup: 'test/as-published.ts',
          sequence: { groupOrder: 2 },
          include: ['test/**/*.test.ts'],
          exclude: ['**/node_modules/**', ...onEngines],
          maxWorkers: 2,
          maxConcurrency: 2,
          retry: 1,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'engine-stories',
          globalSetup: 'test/as-published.ts',
          sequence: { groupOrder: 3 },
          include: onEngines,
          fileParallelism: false,
          retry: 1,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
