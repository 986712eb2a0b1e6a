// `stellwerk workspace use <name>` and `stellwerk init`: which workspace the work in this folder belongs to.
import { Command } from 'commander';
import { UsageError } from '../failures.ts';
import { line, printJson } from '../print.ts';
import type { Session } from '../session.ts';
import { plain } from '../show/plain.ts';
import { writeWorkspaceFile } from '../workspace-file.ts';

export function useCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('use').argument('<name>', 'The workspace.');
  return command.action((name: string) => use(name, sessionOf(command)));
}

export function initCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('init')
    .argument('[workspace]', 'The workspace; the only one you may see unless given.')
    .option('--create', 'Create the workspace if it does not exist; for administrators.');
  return command.action(async (name: string | undefined) => {
    const session = sessionOf(command);
    const client = await session.client();
    const chosen = name ?? session.options.workspace ?? (await onlyWorkspace(session));
    if (command.opts<{ create?: boolean }>().create) await client.workspaces.create({ name: chosen, existOk: true });
    await use(chosen, session);
  });
}

async function onlyWorkspace(session: Session): Promise<string> {
  const { items } = await (await session.client()).workspaces.list({ pageSize: 10 });
  if (items.length === 1) return items[0]!.name;
  const names = items.map((workspace) => plain(workspace.name)).join(', ');
  throw new UsageError(
    items.length === 0 ? 'There is no workspace that you may see.' : `There are several workspaces: ${names}.`,
    'Name one: `stellwerk init <workspace>`; with --create it is made.',
  );
}

async function use(name: string, session: Session): Promise<void> {
  const workspace = await (await session.client()).workspaces.get({ workspace: name });
  const file = writeWorkspaceFile(process.cwd(), session.url, workspace.name);
  if (session.json) return printJson({ file, url: session.url, workspace: workspace.name });
  line(`This folder and all below it use the workspace ${plain(workspace.name)} (${file}).`);
}
