// A disk that can be filled up: a file system of its own in memory. Needs root.
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export const canMount = process.getuid?.() === 0 && mayMount();

function mayMount(): boolean {
  try {
    execFileSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/tmp'], { stdio: 'ignore' });
    return true;
  } catch {
    return false; // a container without the right
  }
}

export class SmallDisk implements Disposable {
  readonly folder: string;

  constructor(folder: string, megabytes: number) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=700`, 'tmpfs', folder]);
  }

  /** To the last byte. */
  fill(): void {
    const file = openSync(join(this.folder, 'filler'), 'a');
    try {
      for (let size = 1024 * 1024; size >= 1; )
        try {
          if (writeSync(file, Buffer.alloc(size, 1)) < size) size = Math.floor(size / 2);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
          size = Math.floor(size / 2);
        }
    } finally {
      closeSync(file);
    }
  }

  makeRoom(): void {
    rmSync(join(this.folder, 'filler'));
  }

  [Symbol.dispose](): void {
    execFileSync('umount', ['--lazy', this.folder]);
  }
}
