// `stellwerk run submit <directory>`: takes the snapshot, records the run, and starts it where it runs on this machine.
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, resolve } from 'node:path';
import type { Client } from '@stellwerk/client/client.ts';
import { uploadSnapshot } from '@stellwerk/client/snapshots.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { runVerbs } from '@stellwerk/contract/run.ts';
import { type RunConfigurationInput, runConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { InputOf } from '@stellwerk/contract/verbs.ts';
import { Command, Option } from 'commander';
import * as z from 'zod';
import { CommandFailed, UsageError } from '../failures.ts';
import { type Flag, flagsOf, inputFrom, schemaOf } from '../flags.ts';
import { followRun } from '../follow.ts';
import { note, noteLoss, printAnswer, printLog } from '../print.ts';
import type { Session } from '../session.ts';
import { withBar } from '../show/progress.ts';
import { surroundings } from '../surroundings.ts';

/** What the command does by itself. */
const notTyped = new Set(['workspace', 'snapshot', 'secrets', 'git', 'configuration', 'experiment', 'properties']);
/** Of the configuration, `arguments` stand behind `--`. */
const notConfigured = new Set(['arguments']);

interface SubmitOptions {
  configuration?: string;
  experiment?: string;
  saveConfiguration?: string;
  follow?: boolean;
  limitMb?: number;
}

export function submitCommand(sessionOf: (command: Command) => Session): Command {
  const about = flagsOf(schemaOf(runVerbs.runs.submit.input), notTyped);
  const configured = flagsOf(schemaOf(z.object(runConfiguration.shape)), notConfigured);
  const command = new Command('submit')
    .argument('[directory]', 'The folder of the script; all of it is submitted.', '.')
    .argument('[arguments...]', 'Arguments of the script, behind `--`.')
    .addOption(new Option('--configuration <file>', 'A run configuration, *.runconfig; flags go before what it says.'))
    .addOption(new Option('--save-configuration <file>', 'Keep the configuration as it is submitted, as *.runconfig.'))
    .addOption(new Option('--experiment <name>', "Created if it does not exist; the folder's name unless given."))
    .addOption(new Option('--follow', 'Show the output live, and end as the script ends.'))
    .addOption(
      new Option('--limit-mb <number>', 'The most that the folder may have; 300 unless given.').argParser(Number),
    );
  for (const { option } of [...configured, ...about]) command.addOption(option);
  return command.action(async (directory: string, scriptArguments: string[]) => {
    const session = sessionOf(command);
    const typed = command.opts();
    const configuration = await configurationFrom(directory, scriptArguments, configured, typed);
    const run = await submit(directory, configuration, await inputFrom(about, typed), typed, session);
    if (!typed.follow) return printAnswer(run, 'runs.get', session);
    await follow(run, session);
  });
}

async function configurationFrom(
  directory: string,
  scriptArguments: string[],
  flags: readonly Flag[],
  typed: Record<string, unknown> & SubmitOptions,
): Promise<RunConfigurationInput> {
  const path = typed.configuration;
  const loaded = path === undefined ? {} : (await import('../run-configuration-file.ts')).loadRunConfiguration(path);
  const configuration = {
    ...(await inputFrom(flags, typed, loaded)),
    ...(scriptArguments.length > 0 ? { arguments: scriptArguments } : {}),
  };
  const outcome = runConfiguration.safeParse(configuration);
  if (!outcome.success) {
    const [issue] = outcome.error.issues;
    const where = issue!.path.join('.');
    if (where === 'script' && !('script' in configuration))
      throw new UsageError('No script is named.', 'Give --script <file>, or a configuration that names one.');
    throw new UsageError(`The run configuration is not right: ${where ? `${where}: ` : ''}${issue!.message}.`);
  }
  if (!existsSync(resolve(directory, outcome.data.script)))
    throw new UsageError(
      `There is no script ${outcome.data.script} in ${resolve(directory)}.`,
      'Name it relative to the folder.',
    );
  if (typed.saveConfiguration !== undefined)
    (await import('../run-configuration-file.ts')).saveRunConfiguration(typed.saveConfiguration, configuration);
  return configuration as RunConfigurationInput;
}

async function submit(
  directory: string,
  configuration: RunConfigurationInput,
  about: Record<string, unknown>,
  typed: SubmitOptions,
  session: Session,
): Promise<Run> {
  const client = await session.client();
  const { workspace } = session;
  const limitBytes = typed.limitMb === undefined ? undefined : typed.limitMb * 1024 * 1024;
  const { gitState } = await import('../git.ts');
  const [snapshot, git] = await Promise.all([
    withBar('Snapshot', (onProgress) =>
      uploadSnapshot(client, workspace, directory, { limitBytes, onProgress, cacheFolder: surroundings.cacheFolder }),
    ),
    gitState(directory),
  ]);
  const secrets = secretValues(configuration.secrets ?? []);
  const experiment = typed.experiment ?? basename(resolve(directory));
  const input = { ...about, workspace, experiment, configuration, snapshot: snapshot.digest };
  const run = await client.runs.submit({ ...input, ...(git ? { git } : {}), ...secrets } as InputOf<'runs', 'submit'>);
  if (run.target === 'local') await startHere(client, workspace, run);
  return run;
}

/** From the environment variables of their names: what is typed could be seen by others. */
export function secretValues(names: readonly string[]): { secrets?: Record<string, string> } {
  if (names.length === 0) return {};
  const values = names.map((name) => [name, surroundings.variable(name)] as const);
  const missing = values.filter(([, value]) => value === undefined).map(([name]) => name);
  if (missing.length > 0)
    throw new UsageError(
      `The run configuration names secrets that are not set here: ${missing.join(', ')}.`,
      'Set them as environment variables and submit again.',
    );
  return { secrets: Object.fromEntries(values) as Record<string, string> };
}

export async function startHere(client: Client, workspace: string, run: Run): Promise<void> {
  const { startLocalRun, thisMachine } = await import('../local-run.ts');
  try {
    const machine = await thisMachine(client, run.configuration?.container?.image);
    await startLocalRun(client, await client.runs.getJob({ workspace, run: run.id, machine }));
  } catch (error) {
    // A run that nobody will ever start must not wait for ever.
    await client.runs.cancel({ workspace, run: run.id }).catch(() => {});
    throw error;
  }
}

export async function follow(run: Run, session: Session): Promise<void> {
  note(`Run ${run.id} of ${run.experiment} on ${run.target ?? hostname()}`);
  const client = await session.client();
  const which = { workspace: session.workspace, run: run.id };
  const onInterrupt = () => {
    note(
      `\nThe run goes on. Follow it again with \`stellwerk run logs ${run.id} --follow\`, or cancel it with \`stellwerk run cancel ${run.id}\`.`,
    );
    process.exit(130);
  };
  process.once('SIGINT', onInterrupt);
  const write = session.json ? (text: string) => void process.stderr.write(text) : printLog;
  const ended = await followRun(client, which, { write, onLost: noteLoss });
  process.off('SIGINT', onInterrupt);
  if (session.json) await printAnswer(ended, 'runs.get', session);
  else note(`Run ${ended.id} ${ended.state}${ended.reason ? `: ${ended.reason}` : ''}`);
  if (ended.state !== 'completed')
    throw new CommandFailed(
      `The run ${ended.id} ${ended.state === 'canceled' ? 'was canceled' : 'failed'}${ended.reason ? `: ${ended.reason}` : '.'}`,
    );
}
