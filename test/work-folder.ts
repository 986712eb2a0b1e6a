// The folder of a user's project, made for a story.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A fresh folder below `parent` with the given files; gives its path. */
export function workFolder(parent: string, files: Readonly<Record<string, string | Uint8Array>>): string {
  const folder = mkdtempSync(join(parent, 'ein Projekt '));
  writeFiles(folder, files);
  return folder;
}

export function writeFiles(folder: string, files: Readonly<Record<string, string | Uint8Array>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
}
