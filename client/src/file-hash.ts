// The SHA-256 of files, remembered by what the file system says of them, so that an unchanged folder is not read again.
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, renameSync, type Stats, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** A file changed so shortly before it was read may change again without another time stamp: it is not remembered. */
const settledMs = 2_000;

/** Up to this size a file is read at once: a stream costs more than its content. */
const smallBytes = 256 * 1024;

export async function hashFile(path: string, signal?: AbortSignal): Promise<string> {
  if (statSync(path).size <= smallBytes) return hashBytes(readFileSync(path));
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    signal?.throwIfAborted();
    hash.update(chunk as Buffer);
  }
  return `sha256:${hash.digest('hex')}`;
}

export function hashBytes(bytes: Uint8Array | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Device, inode, size and time of change: what must be the same for the content to be taken as the same. */
const identityOf = (stats: Stats) => `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeMs}:${stats.ctimeMs}`;

export class HashCache {
  private readonly file: string;
  private readonly known: Map<string, [identity: string, digest: string]>;
  private readonly used = new Map<string, [string, string]>();
  private changed = false;

  constructor(folder: string, cacheFolder = defaultCacheFolder()) {
    const name = createHash('sha256').update(folder).digest('hex').slice(0, 32);
    this.file = join(cacheFolder, 'file-hashes', `${name}.json`);
    this.known = read(this.file);
  }

  /** The digest of a file below the folder. `stats` must have been taken before. */
  async digestOf(path: string, stats: Stats, signal?: AbortSignal): Promise<string> {
    const identity = identityOf(stats);
    const known = this.known.get(path);
    if (known?.[0] === identity) {
      this.used.set(path, known);
      return known[1];
    }
    const digest = await hashFile(path, signal);
    this.changed = true;
    const settled = Date.now() - Math.max(stats.mtimeMs, stats.ctimeMs) > settledMs;
    if (settled && identityOf(statSync(path)) === identity) this.used.set(path, [identity, digest]);
    return digest;
  }

  /** Keeps what was used. A cache that cannot be written costs time only. */
  save(): void {
    if (!this.changed && this.used.size === this.known.size) return;
    try {
      mkdirSync(join(this.file, '..'), { recursive: true, mode: 0o700 });
      const fresh = `${this.file}.${process.pid}`;
      writeFileSync(fresh, JSON.stringify([...this.used]), { mode: 0o600 });
      renameSync(fresh, this.file);
    } catch {
      // Next time everything is read again.
    }
  }
}

function read(file: string): Map<string, [string, string]> {
  try {
    return new Map(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return new Map();
  }
}

function defaultCacheFolder(): string {
  return join(homedir(), '.cache', 'stellwerk');
}
