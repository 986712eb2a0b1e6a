// Whole files and folders to and from the service: outputs of runs, models, images, snapshots, datastores.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { CallOptions } from '@stellwerk/client/client.ts';
import { downloadFiles, downloadTo, type RemoteFile } from '@stellwerk/client/downloads.ts';
import { allOf } from '@stellwerk/client/pages.ts';
import { localFiles, uploadFiles } from '@stellwerk/client/uploads.ts';
import { legible } from '@stellwerk/contract/paths.ts';
import { Command, Option } from 'commander';
import { CommandFailed, UsageError } from '../failures.ts';
import { splitReference } from '../names.ts';
import { line, printJson } from '../print.ts';
import type { Session } from '../session.ts';
import { withBar } from '../show/progress.ts';
import { shownSize } from '../show/values.ts';

type SessionOf = (command: Command) => Session;

const outputOption = (what: string) => new Option('--output <path>', `Where to; ${what} unless given.`);
const overwriteOption = () => new Option('--overwrite', 'Replace what is there.');

export function runDownloadCommand(sessionOf: SessionOf): Command {
  const command = new Command('download')
    .argument('<run>', 'The run.')
    .argument('[path]', 'A file or folder among its files; all unless given.')
    .addOption(outputOption("a folder with the run's id"))
    .addOption(overwriteOption());
  return command.action(async (run: string, path: string | undefined) => {
    const session = sessionOf(command);
    const client = await session.client();
    const which = { workspace: session.workspace, run };
    const files = await listed((page) =>
      client.runs.listFiles({ ...which, ...(path ? { prefix: path } : {}), ...page }),
    );
    const call = (file: RemoteFile, options: CallOptions) =>
      client.runs.getFile({ ...which, path: file.path }, options);
    await bring(files, path, call, folderName(run), command, session);
  });
}

export function datastoreDownloadCommand(sessionOf: SessionOf): Command {
  const command = new Command('download')
    .argument('<datastore>', 'The datastore; `default` is the default one.')
    .argument('[path]', 'A file or folder; all unless given.')
    .addOption(outputOption("a folder with the datastore's name"))
    .addOption(overwriteOption());
  return command.action(async (name: string, path: string | undefined) => {
    const session = sessionOf(command);
    const client = await session.client();
    const which = { workspace: session.workspace, datastore: await datastoreNamed(name, session) };
    const files = await listed((page) =>
      client.datastores.listFiles({ ...which, ...(path ? { prefix: path } : {}), ...page }),
    );
    const call = (file: RemoteFile, options: CallOptions) =>
      client.datastores.getFile({ ...which, path: file.path }, options);
    await bring(files, path, call, folderName(which.datastore), command, session);
  });
}

export function datastoreUploadCommand(sessionOf: SessionOf): Command {
  const command = new Command('upload')
    .argument('<datastore>', 'The datastore; `default` is the default one.')
    .argument('<source>', 'A file or folder of this machine.')
    .argument('[path]', "Where to; the file's or folder's name unless given, `.` for the top.")
    .addOption(overwriteOption());
  return command.action(async (name: string, source: string, path: string | undefined) => {
    const session = sessionOf(command);
    const client = await session.client();
    const overwrite = command.opts<{ overwrite?: boolean }>().overwrite === true;
    const which = { workspace: session.workspace, datastore: await datastoreNamed(name, session) };
    const files = localFiles(source);
    const isFolder = statSync(source).isDirectory();
    const top = (path ?? (isFolder ? basename(source) : '')).replace(/^\.?\/*|\/+$/g, '');
    const placeOf = (file: string) => (isFolder || !path ? [top, file].filter(Boolean).join('/') : path);
    await withBar('Upload', (onProgress) =>
      uploadFiles(client, which.workspace, files, { onProgress }, async (file, { digest }) => {
        await client.datastores.putFile({ ...which, path: placeOf(file.path), digest, overwrite });
      }),
    );
    const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
    if (session.json)
      return printJson({ datastore: which.datastore, files: files.map((file) => placeOf(file.path)), sizeBytes });
    line(
      `Uploaded ${files.length} ${files.length === 1 ? 'file' : 'files'} (${shownSize(sizeBytes)}) to ${which.datastore}.`,
    );
  });
}

async function datastoreNamed(name: string, session: Session): Promise<string> {
  if (name !== 'default') return name;
  return (await (await session.client()).workspaces.get({ workspace: session.workspace })).defaultDatastore;
}

export function modelDownloadCommand(sessionOf: SessionOf): Command {
  const command = new Command('download')
    .argument('<model>', '`name`, `name:version` or `name:alias`.')
    .argument('[version]', 'A version, an alias, or `latest`.')
    .addOption(outputOption("a folder with the model's name"))
    .addOption(overwriteOption())
    .option('--archive', 'As one ZIP archive.');
  return command.action(async (reference: string, version: string | undefined) => {
    const session = sessionOf(command);
    const client = await session.client();
    const which = { workspace: session.workspace, ...splitReference(reference, version) };
    if (command.opts<{ archive?: boolean }>().archive)
      return bringOne(
        (options) => client.models.download(which, options),
        `${folderName(which.name)}.zip`,
        command,
        session,
      );
    const model = await client.models.get(which);
    const exact = { ...which, version: String(model.version) };
    const call = (file: RemoteFile, options: CallOptions) =>
      client.models.getFile({ ...exact, path: file.path }, options);
    await bring(model.files ?? [], undefined, call, folderName(model.name), command, session);
  });
}

export function imageExportCommand(sessionOf: SessionOf): Command {
  const command = new Command('export')
    .argument('<image>', '`name` or `name:version`.')
    .argument('[version]', 'A version, or `latest`.')
    .addOption(
      new Option('--format <format>', 'An OCI layout, or what `docker load` takes.')
        .choices(['docker', 'oci'])
        .default('docker'),
    )
    .addOption(outputOption('a file with the name of the image'))
    .addOption(overwriteOption());
  return command.action(async (reference: string, version: string | undefined) => {
    const session = sessionOf(command);
    const client = await session.client();
    const which = { workspace: session.workspace, ...splitReference(reference, version) };
    const image = await client.images.get(which);
    const { format } = command.opts<{ format: 'docker' | 'oci' }>();
    const exact = { ...which, version: String(image.version), format };
    const file = `${folderName(image.name)}-${image.version}.${format}.tar.gz`;
    await bringOne((options) => client.images.export(exact, options), file, command, session);
  });
}

export function snapshotDownloadCommand(sessionOf: SessionOf): Command {
  const command = new Command('download')
    .argument('<snapshot>', 'The digest, or the id of a run.')
    .addOption(outputOption('snapshot.zip'))
    .addOption(overwriteOption());
  return command.action(async (given: string) => {
    const session = sessionOf(command);
    const client = await session.client();
    const { workspace } = session;
    const snapshot = given.startsWith('sha256:') ? given : (await client.runs.get({ workspace, run: given })).snapshot;
    if (!snapshot) throw new CommandFailed(`The run ${given} has no snapshot: it was not submitted from a folder.`);
    await bringOne(
      (options) => client.snapshots.download({ workspace, snapshot }, options),
      'snapshot.zip',
      command,
      session,
    );
  });
}

async function listed(
  list: (page: { page?: string }) => Promise<{ items: RemoteFile[]; nextPage?: string | undefined }>,
) {
  const files: RemoteFile[] = [];
  for await (const file of allOf(list)) files.push(file);
  return files;
}

/** One file goes to the place itself; several below a folder, by their paths. */
async function bring(
  files: readonly RemoteFile[],
  path: string | undefined,
  call: (file: RemoteFile, options: CallOptions) => Promise<Response>,
  standard: string,
  command: Command,
  session: Session,
): Promise<void> {
  if (files.length === 0)
    throw new CommandFailed(path ? `There is no file or folder ${legible(path)}.` : 'There are no files.');
  const [only] = files;
  if (files.length === 1 && only!.path === path)
    return bringOne((options) => call(only!, options), basename(path), command, session, only!.digest);
  const folder = destinationOf(command, standard);
  await withBar('Download', (onProgress) => downloadFiles(files, call, folder, { onProgress }));
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  if (session.json) return printJson({ folder, files: files.map((file) => join(folder, file.path)), sizeBytes });
  line(`Downloaded ${files.length} ${files.length === 1 ? 'file' : 'files'} (${shownSize(sizeBytes)}) to ${folder}.`);
}

async function bringOne(
  call: (options: CallOptions) => Promise<Response>,
  standard: string,
  command: Command,
  session: Session,
  digest?: string,
): Promise<void> {
  const file = destinationOf(command, standard);
  await withBar('Download', (onProgress) => downloadTo(call, file, { onProgress, digest }));
  const sizeBytes = statSync(file).size;
  if (session.json) return printJson({ file, sizeBytes });
  line(`Downloaded ${shownSize(sizeBytes)} to ${legible(file)}.`);
}

function destinationOf(command: Command, standard: string): string {
  const { output, overwrite } = command.opts<{ output?: string; overwrite?: boolean }>();
  const place = output ?? standard;
  const isThere = existsSync(place) && (!statSync(place).isDirectory() || readdirSync(place).length > 0);
  if (isThere && !overwrite)
    throw new UsageError(`${place} exists already.`, 'Give another place with --output, or --overwrite.');
  return place;
}

/** A free name, such as a run's id, as the name of a file. */
const folderName = (name: string) => name.replace(/[^\p{L}\p{N}._-]+/gu, '_').replace(/^\.+/, '_');
