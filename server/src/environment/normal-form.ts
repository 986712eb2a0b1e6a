// Installed files without traces of where and when they were installed: scripts start the image's own Python, metadata says
// nothing of the machine that built it, records fit what is there.
import { createHash } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { posix } from 'node:path';
import type { LayerEntry } from '../oci/oci-images.ts';
import type { InstalledFile, InstalledPackage } from './installed.ts';

/** The entries of one package, relative to the environment's root. */
export async function normalised(installed: InstalledPackage, python: string): Promise<LayerEntry[]> {
  const entries: LayerEntry[] = [];
  const record: string[] = [];
  for (const file of installed.files) {
    const changed = await changedContent(file, python);
    const mode = file.path.startsWith('bin/') || ((await stat(file.file)).mode & 0o100) !== 0 ? 0o755 : 0o644;
    entries.push({ path: file.path, mode, source: changed ? { bytes: changed } : { file: file.file } });
    record.push(recordLine(file, changed));
  }
  const path = posix.join(installed.infoPath, 'RECORD');
  record.push(`${posix.join(installed.name, 'RECORD')},,`);
  entries.push({
    path,
    mode: 0o644,
    source: {
      bytes: Buffer.from(
        record
          .sort()
          .map((line) => `${line}\n`)
          .join(''),
      ),
    },
  });
  return entries;
}

async function changedContent({ path, file }: InstalledFile, python: string): Promise<Buffer | undefined> {
  if (path.startsWith('bin/'))
    return (await startsWithPython(file)) ? withInterpreter(await readFile(file), python) : undefined;
  if (!path.endsWith('.dist-info/WHEEL')) return undefined;
  // Who packed the wheel, and with which version: for a wheel that was built here, that depends on the day.
  return Buffer.from((await readFile(file, 'utf8')).replace(/^Generator:.*$/m, 'Generator: stellwerk'));
}

const trampoline = /^#!\/bin\/sh\n'''exec' [^\n]*\n' '''\n/;
const pythonLine = /^#![^\n]*\bpythonw?[\d.]*[^\n]*\n/;

async function startsWithPython(file: string): Promise<boolean> {
  await using handle = await open(file);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(4_096), 0, 4_096, 0);
  const head = buffer.subarray(0, bytesRead).toString('latin1');
  return trampoline.test(head) || pythonLine.test(head);
}

/** In latin1 every byte is one character, so that only the first lines change. */
function withInterpreter(content: Buffer, python: string): Buffer {
  const text = content.toString('latin1');
  const line = `#!${python}\n`;
  return Buffer.from(trampoline.test(text) ? text.replace(trampoline, line) : text.replace(pythonLine, line), 'latin1');
}

function recordLine({ recorded, hash, size }: InstalledFile, changed: Buffer | undefined): string {
  const name = /[",]/.test(recorded) ? `"${recorded.replaceAll('"', '""')}"` : recorded;
  if (!changed) return `${name},${hash},${size}`;
  return `${name},sha256=${createHash('sha256').update(changed).digest('base64url')},${changed.length}`;
}
