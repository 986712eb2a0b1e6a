// `stellwerk model register`: a file or folder of this machine, or one among the files of a run.
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { localFiles, uploadFiles } from '@stellwerk/client/uploads.ts';
import { modelVerbs } from '@stellwerk/contract/model.ts';
import type { InputOf } from '@stellwerk/contract/verbs.ts';
import { Command } from 'commander';
import { CommandFailed, UsageError } from '../failures.ts';
import { flagsOf, inputFrom, schemaOf } from '../flags.ts';
import { printAnswer } from '../print.ts';
import type { Session } from '../session.ts';
import { withBar } from '../show/progress.ts';

export function registerCommand(sessionOf: (command: Command) => Session): Command {
  const flags = flagsOf(schemaOf(modelVerbs.models.register.input), new Set(['workspace', 'files']));
  const command = new Command('register').argument(
    '[source]',
    'A file or folder of this machine; or give --run and --path.',
  );
  for (const { option } of flags) command.addOption(option);
  return command.action(async (source: string | undefined) => {
    const session = sessionOf(command);
    const client = await session.client();
    const about = await inputFrom(flags, command.opts());
    if ((source === undefined) === (about.run === undefined))
      throw new UsageError('Give either a file or folder of this machine, or --run and --path.');
    const name = about.name ?? (source === undefined ? undefined : basename(source));
    if (name === undefined) throw new UsageError('--name is missing.');
    const files = source === undefined ? {} : { files: await upload(source, session) };
    const input = { ...about, ...files, name, workspace: session.workspace } as InputOf<'models', 'register'>;
    await printAnswer(await client.models.register(input), 'models.get', session);
  });
}

async function upload(source: string, session: Session): Promise<{ path: string; digest: string }[]> {
  const files = localFiles(source);
  if (files.length === 0)
    throw new CommandFailed(`${statSync(source).isDirectory() ? 'The folder' : 'The file'} ${source} has no files.`);
  const uploaded: { path: string; digest: string }[] = [];
  const client = await session.client();
  await withBar('Upload', (onProgress) =>
    uploadFiles(
      client,
      session.workspace,
      files,
      { onProgress },
      ({ path }, { digest }) => void uploaded.push({ path, digest }),
    ),
  );
  return uploaded;
}
