// The workspace's connection beside the user's work: `.stellwerk/config.json`, found from any folder below; Azure ML's is read too.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { CommandFailed } from './failures.ts';

export interface WorkspaceFile {
  file: string;
  url?: string;
  workspace?: string;
}

const places = ['.stellwerk/config.json', '.azureml/config.json', 'aml_config/config.json'];

export function findWorkspaceFile(from = process.cwd()): WorkspaceFile | undefined {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    const file = places.map((place) => join(folder, place)).find(existsSync);
    if (file) return read(file);
    if (dirname(folder) === folder) return undefined;
  }
}

function read(file: string): WorkspaceFile {
  let content: Record<string, unknown>;
  try {
    content = JSON.parse(readFileSync(file, 'utf8').replace(/^\ufeff/, ''));
  } catch (error) {
    throw new CommandFailed(
      `${file} is not readable as JSON: ${(error as Error).message}.`,
      'Make it again with `stellwerk init`.',
    );
  }
  const { url } = content;
  const workspace = content.workspace_name ?? content.workspace;
  return {
    file,
    ...(typeof url === 'string' ? { url } : {}),
    ...(typeof workspace === 'string' ? { workspace } : {}),
  };
}

/** Keeps what else stands in the file (such as the labels that code for Azure ML gave). */
export function writeWorkspaceFile(folder: string, url: string, workspace: string): string {
  const file = join(folder, places[0]!);
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>) : {};
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ ...before, url, workspace_name: workspace }, null, 2)}\n`);
  return file;
}
