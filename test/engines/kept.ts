// What takes long to make is made once on a machine, and kept outside the checkout under a name that tells what it is made from. Not below a home,
// which other Unix users could not enter.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';

const folder = `/var/tmp/stellwerk-engines-${process.getuid?.() ?? 0}`;

/** Where it is, or will be: `name.tar` becomes `name-<key>.tar`. */
export function keptPath(name: string, from: readonly (string | Buffer)[]): string {
  const key = createHash('sha256').update(from.join('\0')).digest('hex').slice(0, 16);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const extension = extname(name);
  return join(folder, `${name.slice(0, name.length - extension.length)}-${key}${extension}`);
}

export function keptFile(name: string, from: readonly (string | Buffer)[], make: (place: string) => void): string {
  const file = keptPath(name, from);
  if (existsSync(file)) return file;
  const making = `${file}.${process.pid}${extname(file)}`;
  try {
    make(making);
    renameSync(making, file);
  } finally {
    rmSync(making, { force: true });
  }
  return file;
}

/** Made where it stays, since a virtual environment cannot be moved; every user may enter it. */
export function keptFolder(name: string, from: readonly (string | Buffer)[], make: (place: string) => void): string {
  const place = keptPath(name, from);
  const complete = join(place, 'complete');
  if (existsSync(complete)) return place;
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place);
  make(place);
  quietly('chmod', '-R', 'a+rX', place);
  writeFileSync(complete, '');
  return place;
}

export function quietly(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}
