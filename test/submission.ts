// Submits a script as a user does: a folder with files and a run configuration, and the command line.
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import type { RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import { expect } from 'vitest';
import type { Installation } from './installation.ts';
import { untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

export interface Submission extends Partial<RunConfigurationInput> {
  files?: Record<string, string>;
  /** The text of main.py. */
  code?: string;
  /** The run's, where the story must know it beforehand. */
  id?: string;
}

export async function submit(
  installation: Installation,
  { files = {}, code = '', id, ...configuration }: Submission,
): Promise<Run> {
  const whole: RunConfigurationInput = { script: 'main.py', target: 'host', ...configuration };
  const folder = workFolder(installation.folder, {
    'main.py': code,
    'it.runconfig': JSON.stringify(whole),
    ...files,
  });
  const args = ['--configuration', join(folder, 'it.runconfig'), '--experiment', 'a story', '--json'];
  if (id !== undefined) args.push('--id', id);
  const submitted = await installation.cli(['run', 'submit', folder, ...args]);
  expect(submitted.code, submitted.stderr).toBe(0);
  return JSON.parse(submitted.stdout) as Run;
}

/** Submits, and gives the run as it ended with all it printed. */
export async function runOf(installation: Installation, submission: Submission): Promise<Run & { printed: string }> {
  const { id } = await submit(installation, submission);
  const { client, workspace } = installation;
  const ended = await untilEnded({ client, workspace, run: id });
  const printed = await (await client.logs.get({ workspace, run: id })).text();
  return { ...ended, printed };
}
