// A lock: a requirements file in which every package is pinned and hashed. In canonical form (one package a line, lines and
// hashes sorted, no comments, no addresses of indexes) equal locks are equal texts, and their SHA-256 names them.
import { createHash } from 'node:crypto';
import type { IndexSettings } from '@stellwerk/contract/environment.ts';
import { parseRequirements, type Requirement, refused } from './requirements-file.ts';

export interface LockFile {
  requirements: Requirement[];
  indexes: IndexSettings;
  notices: string[];
}

/** Reads a lock that a user gave; what is not pinned and hashed is refused with its line. */
export function parseLock(text: string, file: string): LockFile {
  const { requirements, indexes, notices } = parseRequirements(text, { file });
  for (const requirement of requirements) {
    const at = { file, line: requirement.line };
    const pinned = requirement.url !== undefined || /^[^;]*={2,3}[^*;]+(;|$)/.test(requirement.text);
    if (!pinned)
      throw refused(
        at,
        `\`${requirement.text}\` is not pinned to one version. A lock pins all; give this file as requirements instead.`,
      );
    if (requirement.hashes.length === 0)
      throw refused(
        at,
        `\`${requirement.text}\` has no hash. Make the lock with \`uv pip compile --generate-hashes\`, or give this file as requirements instead.`,
      );
  }
  return { requirements, indexes, notices };
}

export function canonicalLock(requirements: readonly Requirement[]): string {
  const lines = requirements.map(({ text, hashes }) =>
    [text, ...[...new Set(hashes)].sort().map((hash) => `--hash=${hash}`)].join(' '),
  );
  return [...new Set(lines)]
    .sort()
    .map((line) => `${line}\n`)
    .join('');
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
