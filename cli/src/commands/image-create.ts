// `stellwerk image create <folder>`: an image from a folder with a scoring script, models, and what they need.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { listSnapshot } from '@stellwerk/client/snapshot-listing.ts';
import { uploadFiles } from '@stellwerk/client/uploads.ts';
import { imageVerbs } from '@stellwerk/contract/image.ts';
import type { InputOf } from '@stellwerk/contract/verbs.ts';
import { Command, Option } from 'commander';
import { awaitActivity } from '../await-activity.ts';
import { UsageError } from '../failures.ts';
import { flagsOf, inputFrom, schemaOf } from '../flags.ts';
import { printAnswer } from '../print.ts';
import type { Session } from '../session.ts';
import { withBar } from '../show/progress.ts';
import { surroundings } from '../surroundings.ts';

interface CreateOptions {
  script?: string;
  model?: string[];
  wait: boolean;
}

export function createCommand(sessionOf: (command: Command) => Session): Command {
  const except = new Set(['workspace', 'files', 'models', 'scoringScript']);
  const flags = flagsOf(schemaOf(imageVerbs.images.create.input), except);
  const command = new Command('create')
    .argument('<folder>', 'The folder of the scoring script; all of it comes into the image, ignore files obeyed.')
    .addOption(
      new Option('--script <file>', 'The scoring script in the folder: has `init()` and `run(data)`.').default(
        'score.py',
      ),
    )
    .addOption(
      new Option('--model <model>', '`name:version`, `name:alias` or `name`. Repeatable.').argParser(
        (value: string, before: string[] | undefined) => [...(before ?? []), value],
      ),
    )
    .addOption(new Option('--no-wait', 'Do not wait until the image has been built.'));
  for (const { option } of flags) command.addOption(option);
  return command.action(async (folder: string) => {
    const session = sessionOf(command);
    const client = await session.client();
    const { script, model, wait } = command.opts<CreateOptions>();
    const about = await inputFrom(flags, command.opts());
    if (about.name === undefined) throw new UsageError('--name is missing.');
    if (!existsSync(join(folder, script!)))
      throw new UsageError(`There is no ${script} in ${folder}.`, 'Name the scoring script with --script.');
    const files = await upload(folder, session);
    const input = { ...about, workspace: session.workspace, scoringScript: script, models: model ?? [], files };
    const image = await client.images.create(input as InputOf<'images', 'create'>);
    if (!wait) return printAnswer(image, 'images.get', session);
    await awaitActivity(image.activity, session);
    const { name, version } = image;
    const built = await client.images.get({ workspace: session.workspace, name, version: String(version) });
    await printAnswer(built, 'images.get', session);
  });
}

async function upload(folder: string, session: Session) {
  const client = await session.client();
  const { files } = await listSnapshot(folder, { cacheFolder: surroundings.cacheFolder });
  const local = files.map(({ path, sizeBytes, executable = false }) => ({
    file: join(folder, path),
    path,
    sizeBytes,
    executable,
  }));
  await withBar('Upload', (onProgress) => uploadFiles(client, session.workspace, local, { onProgress }));
  return files.map(({ path, digest, executable }) => ({ path, digest, ...(executable ? { executable } : {}) }));
}
