// `stellwerk backup`, `restore` and `verify`: of a whole installation. A backup is asked of the running server by its administrator;
// the other two work on a data folder of this machine.
import { existsSync } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Progress } from '@stellwerk/client/uploads.ts';
import { Command, Option } from 'commander';
import { CommandFailed, UsageError } from '../failures.ts';
import { line, note, printJson } from '../print.ts';
import type { Session } from '../session.ts';
import { withBar } from '../show/progress.ts';
import { shownSize } from '../show/values.ts';
import { surroundings } from '../surroundings.ts';

type SessionOf = (command: Command) => Session;

const server = () => import('@stellwerk/server/main.ts');
const dataOption = () =>
  new Option('--data <folder>', `The data folder; ${surroundings.dataFolder} unless given.`).default(
    surroundings.dataFolder,
    'the usual one',
  );

export function backupCommand(sessionOf: SessionOf): Command {
  const command = new Command('backup')
    .argument('<file>', 'Where it is saved: a tar archive. It holds every secret; only its owner can read it.')
    .addOption(new Option('--without-key', 'Leave the master key out: `restore` will ask for it.'))
    .addOption(new Option('--overwrite', 'Replace what is there.'));
  return command.action(async (file: string) => {
    const session = sessionOf(command);
    const { withoutKey = false, overwrite = false } = command.opts<{ withoutKey?: boolean; overwrite?: boolean }>();
    if (existsSync(file) && !overwrite)
      throw new UsageError(`${file} exists already.`, 'Give another file, or --overwrite.');
    const client = await session.client();
    await mkdir(dirname(resolve(file)), { recursive: true });
    const part = `${file}.part`;
    try {
      await withBar('Backup', async (onProgress) =>
        save(await client.server.backup(withoutKey ? { withoutKey } : {}), part, onProgress),
      );
      const { contents, files } = await accepted(async () => (await server()).checkBackup(part));
      await rename(part, file);
      const { size } = await stat(file);
      if (session.json) return printJson({ file, sizeBytes: size, contents: contents.count, files: files.length });
      line(`Saved ${shownSize(size)} to ${file}, and read it back: ${contents.count} contents, ${files.length} files.`);
    } catch (error) {
      await rm(part, { force: true });
      throw error;
    }
  });
}

async function save(response: Response, part: string, onProgress: Progress): Promise<void> {
  await rm(part, { force: true });
  await using file = await open(part, 'wx', 0o600);
  let doneBytes = 0;
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      await file.writeFile(chunk);
      doneBytes += chunk.length;
      onProgress({ doneBytes, totalBytes: doneBytes });
    }
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).syscall === 'string') throw error; // of this machine's disk
    throw new CommandFailed(
      'The backup was cut off.',
      'Nothing was saved. Look whether the server is well (`stellwerk verify` on its machine), and take it again.',
    );
  }
  await file.sync();
}

export function restoreCommand(sessionOf: SessionOf): Command {
  const command = new Command('restore')
    .argument('<file>', 'A backup.')
    .addOption(dataOption())
    .addOption(new Option('--key <file>', 'The master key, where the backup was made without it.'));
  return command.action(async (file: string) => {
    const session = sessionOf(command);
    const { data, key } = command.opts<{ data: string; key?: string }>();
    const options = { archive: file, data, ...(key !== undefined && { key }) };
    const { createdAt, contents, files, version } = await accepted(async () => (await server()).restoreBackup(options));
    if (session.json) return printJson({ data, createdAt, version, contents: contents.count, files: files.length });
    line(
      `Restored the backup of ${createdAt} to ${data}: ${contents.count} contents, ${files.length} files, all checked.`,
    );
    line(`Start it with: stellwerk up --data ${data}`);
  });
}

export function verifyCommand(sessionOf: SessionOf): Command {
  const command = new Command('verify')
    .addOption(dataOption())
    .addOption(new Option('--archive <file>', 'A backup, instead of a data folder.'));
  return command.action(async () => {
    const session = sessionOf(command);
    const { data, archive } = command.opts<{ data: string; archive?: string }>();
    if (archive === undefined) return verifyFolder(data, session);
    const { createdAt, contents, files } = await accepted(async () => (await server()).checkBackup(archive));
    if (session.json) return printJson({ archive, createdAt, contents: contents.count, files: files.length });
    line(`The backup of ${createdAt} is whole: ${contents.count} contents, ${files.length} files.`);
  });
}

async function verifyFolder(data: string, session: Session): Promise<void> {
  const { verifyData } = await server();
  const found = await accepted(() =>
    withBar('Verify', (onProgress) =>
      verifyData(data, (doneBytes, totalBytes) => onProgress({ doneBytes, totalBytes })),
    ),
  );
  if (session.json) printJson(found);
  else {
    for (const { what, hint } of found.problems) line(`${what}\n  ${hint}`);
    const { contents, references, snapshots, logs, datastoreFiles } = found;
    line(
      `Looked at the database, ${contents.count} contents (${shownSize(contents.sizeBytes)}), ${references} references, ${snapshots} snapshots, ${logs} logs, ${datastoreFiles} files of datastores.`,
    );
    if (found.problems.length === 0) line('All is there and right.');
  }
  if (found.problems.length > 0) {
    note(`${found.problems.length} problems were found.`);
    process.exitCode = 1;
  }
}

/** What is wrong with an archive or a folder is told as a sentence, not as a fault of ours. */
async function accepted<T>(work: () => Promise<T>): Promise<T> {
  const { ArchiveRefused, SchemaRefused } = await server();
  try {
    return await work();
  } catch (error) {
    if (error instanceof ArchiveRefused || error instanceof SchemaRefused) throw new CommandFailed(error.message);
    throw error;
  }
}
