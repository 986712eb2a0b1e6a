// The diabetes example, trained on a target as a user does it, and what came of it: the same everywhere.
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import type { RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import { expect } from 'vitest';
import { type Installation, repository } from './installation.ts';
import { untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

/** The target gives the metrics, files and children of a run on the host. Each is asked for what it needs beside the script. */
export async function expectSameAsOnHost(
  installation: Installation,
  target: string,
  there: Partial<RunConfigurationInput>,
  here: Partial<RunConfigurationInput>,
): Promise<void> {
  const found = await trained(installation, { ...there, target });
  expect(found.metrics.map(([name]) => name)).toEqual(expect.arrayContaining(['best_alpha', 'best_mse']));
  expect(found.childCount).toBe(3);
  expect(found).toEqual(await trained(installation, { ...here, target: 'host' }));
}

async function trained(installation: Installation, more: Partial<RunConfigurationInput>) {
  const folder = workFolder(installation.folder, {});
  cpSync(join(repository, 'examples', 'diabetes'), folder, { recursive: true });
  const configuration = join(folder, 'it.runconfig');
  writeFileSync(
    configuration,
    JSON.stringify({ script: 'train.py', arguments: ['--alphas', '0.01', '0.1', '1'], ...more }),
  );
  const args = ['--configuration', configuration, '--experiment', 'diabetes', '--json'];
  const done = await installation.cli(['run', 'submit', folder, ...args]);
  expect(done.code, done.stderr).toBe(0);
  const { client, workspace } = installation;
  const of = { workspace, run: (JSON.parse(done.stdout) as Run).id };
  const run = await untilEnded({ client, ...of });
  expect(run, `${run.reason}\n${run.lastLines?.join('\n')}`).toMatchObject({ state: 'completed' });
  const { items } = await client.metrics.list(of);
  const files = await client.runs.listFiles(of);
  return {
    metrics: items.map(({ name, last }) => [name, last] as const).sort(),
    files: files.items.map(({ path }) => path).sort(),
    childCount: run.childCount,
  };
}
